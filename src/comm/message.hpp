#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace treadle {

/// What a rank may call.
enum class Call : std::uint32_t {
  connect,
  synchronize,
  all_gather,
  gather,
  broadcast,
  shared_random_seed,
  reduce_dict,
  step_exchange,
  make_subgroup,
  make_gradient_reducer,
  broadcast_tensors,
  backward,
  rebuild
};
const char* name_of(Call call) noexcept;

/// "rank 2", "ranks 1, 2 and 5".
std::string rank_list(const std::vector<std::size_t>& ranks);

/// What must be the same for processes to understand each other.
std::string build_name();

/// Bytes that a rank sends; they live as long as any copy or tensor of them.
class Payload {
 public:
  Payload() = default;
  static Payload of(std::string text);
  /// In place of a message that could not be made.
  static Payload failure(std::string reason);
  std::string_view text() const noexcept;
  bool failed() const noexcept { return failed_; }
  /// The bytes as a tensor that shares them.
  at::Tensor tensor() const;

 private:
  std::shared_ptr<std::string> text_;
  bool failed_ = false;
};

/// The first bytes of a block. All ranks send blocks of one size, whatever they call, so that calls that do not match are seen.
struct Header {
  std::uint32_t magic = 0;
  Call call{};
  std::int64_t number = 0;    ///< how many calls this rank made before
  std::int64_t argument = 0;  ///< rank of the source or destination, …
  std::uint64_t length = 0;   ///< of the message, in bytes
  std::uint64_t failed = 0;   ///< 1: the message says why there is none

  bool same_call(const Header& other) const noexcept;
  /// "gather (to rank 2, call 17)"
  std::string describe() const;
};

constexpr std::uint32_t kMagic = 0x54524431;
constexpr std::size_t kBlock = 4096;
constexpr std::size_t kInline = kBlock - sizeof(Header);

struct Block {
  Call call;
  std::int64_t number;
  std::int64_t argument;
  const Payload& payload;
};
void write_block(char* to, const Block& block);
Header read_header(std::string_view block);

}  // namespace treadle
