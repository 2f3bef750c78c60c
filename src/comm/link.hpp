#pragma once

#include <treadle/comm/process_group.hpp>

#include <ATen/core/Tensor.h>

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace treadle {

/// The store in which ranks find each other. Any thread. No call outlasts its limit, even when the store's own process is
/// stopped; one that does throws std::runtime_error.
class Store {
 public:
  /// Connects within `options.timeout`; throws std::runtime_error that shows the address.
  explicit Store(const ConnectOptions& options);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  /// "127.0.0.1:29500", or the path of the file.
  const std::string& address() const noexcept { return address_; }
  void set(const std::string& key, const std::string& value, std::chrono::milliseconds limit);
  /// What stands under `key`, or nothing when it is absent.
  std::optional<std::string> find(const std::string& key, std::chrono::milliseconds limit);
  /// Puts `value`, which is not empty, under `key` when nothing stands there; returns what stands there then.
  std::string decide(const std::string& key, const std::string& value, std::chrono::milliseconds limit);
  /// Waits until every key is there; returns the index of each that is not when the limit is over.
  std::vector<std::size_t> wait(const std::vector<std::string>& keys, std::chrono::milliseconds limit);

  struct Impl;
  const std::shared_ptr<Impl>& impl() const noexcept { return impl_; }

 private:
  std::string address_;
  std::shared_ptr<Impl> impl_;  // shared with calls that were given up
};

/// This machine's own address cannot be used, in which no other rank has a part.
struct AddressError : std::runtime_error {
  using runtime_error::runtime_error;
};

/// What an exception says in one line, without LibTorch's stack.
std::string cause_of(const std::exception& error);

/// What Link needs to know of its ranks.
struct LinkOptions {
  std::string name;  ///< stands before its keys in the store; not used before
  int rank = 0;
  int world_size = 1;
  std::chrono::milliseconds timeout{};
  std::string address{};  ///< as in ConnectOptions, never empty on one machine
};

/// The connections of one rank to all others, over Gloo. Tensors are contiguous on the CPU; every rank makes the same calls with
/// the same sizes. Calls belong to one thread; `close` may be called by any.
class Link {
 public:
  /// An operation under way; it keeps its tensors.
  class Transfer {
   public:
    virtual ~Transfer() = default;
    /// Throws std::exception when it failed or the time limit is over. While a collective is waited for, `look` is called every
    /// second and ends the wait by throwing.
    virtual void wait(const std::function<void()>& look) = 0;
  };

  /// A collective. Throws AddressError, or std::exception when a rank does not come within the time limit.
  Link(Store& store, const LinkOptions& options);
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  /// `in` of every rank, one behind the other, into `out`.
  std::unique_ptr<Transfer> all_gather(const at::Tensor& in, const at::Tensor& out);
  /// Part i of `in` becomes part `rank` of `out` on rank i; all parts have one size. The way of least delay for short messages:
  /// nothing is passed on.
  std::unique_ptr<Transfer> all_to_all(const at::Tensor& in, const at::Tensor& out);
  std::unique_ptr<Transfer> broadcast(const at::Tensor& tensor, int source);
  std::unique_ptr<Transfer> send(const at::Tensor& tensor, int destination);
  std::unique_ptr<Transfer> receive(const at::Tensor& tensor, int source);

  /// Ends every operation under way here, and on every rank that waits for this one. Never blocks.
  void close() noexcept;

  struct Impl;
  const std::shared_ptr<Impl>& impl() const noexcept { return impl_; }

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace treadle
