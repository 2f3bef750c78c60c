#include <comm/message.hpp>

#include <ATen/ops/from_blob.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/version.h>
#include <version.hpp>

#include <bit>
#include <cstring>

namespace treadle {

const char* name_of(Call call) noexcept {
  switch (call) {
    case Call::connect:
      return "connect";
    case Call::synchronize:
      return "synchronize";
    case Call::all_gather:
      return "all_gather";
    case Call::gather:
      return "gather";
    case Call::broadcast:
      return "broadcast";
    case Call::shared_random_seed:
      return "shared_random_seed";
    case Call::reduce_dict:
      return "reduce_dict";
    case Call::step_exchange:
      return "step exchange";
    case Call::make_subgroup:
      return "make_subgroup";
    case Call::make_gradient_reducer:
      return "make_gradient_reducer";
    case Call::broadcast_tensors:
      return "broadcast of tensors";
    case Call::backward:
      return "backward";
    case Call::rebuild:
      return "rebuild";
  }
  return "an unknown call";
}

std::string rank_list(const std::vector<std::size_t>& ranks) {
  if (ranks.size() == 1) return fmt::format("rank {}", ranks.front());
  return fmt::format("ranks {} and {}", fmt::join(ranks.begin(), ranks.end() - 1, ", "), ranks.back());
}

std::string build_name() {
  const bool little = std::endian::native == std::endian::little;
  return fmt::format("Treadle {}, LibTorch {}, {} endian", kVersion, TORCH_VERSION, little ? "little" : "big");
}

Payload Payload::of(std::string text) {
  Payload payload;
  payload.text_ = std::make_shared<std::string>(std::move(text));
  return payload;
}

Payload Payload::failure(std::string reason) {
  // It must fit into a block.
  Payload payload = of(reason.substr(0, kInline));
  payload.failed_ = true;
  return payload;
}

std::string_view Payload::text() const noexcept { return text_ ? std::string_view(*text_) : std::string_view(); }

at::Tensor Payload::tensor() const {
  return at::from_blob(text_->data(), static_cast<std::int64_t>(text_->size()), [owner = text_](void*) {}, at::kByte);
}

bool Header::same_call(const Header& other) const noexcept {
  return magic == other.magic && call == other.call && number == other.number && argument == other.argument;
}

std::string Header::describe() const {
  switch (call) {
    case Call::gather:
      return fmt::format("gather (to rank {}, call {})", argument, number);
    case Call::broadcast:
      return fmt::format("broadcast (from rank {}, call {})", argument, number);
    case Call::connect:
      return fmt::format("connect (for {} ranks)", argument);
    default:
      return fmt::format("{} (call {})", name_of(call), number);
  }
}

void write_block(char* to, const Block& block) {
  const std::string_view text = block.payload.text();
  const Header header{kMagic, block.call, block.number, block.argument, text.size(), block.payload.failed() ? 1U : 0U};
  std::memcpy(to, &header, sizeof header);
  text.copy(to + sizeof header, kInline);
}

Header read_header(std::string_view block) {
  Header header;
  std::memcpy(&header, block.data(), sizeof header);
  return header;
}

}  // namespace treadle
