#pragma once

#include <comm/link.hpp>
#include <comm/message.hpp>

#include <ATen/core/Tensor.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace treadle {

struct ExchangeOptions {
  std::string name;  ///< stands before its keys in the store; not used before
  int rank = 0;
  int world_size = 1;
  std::chrono::milliseconds timeout{};
  std::string store_keeper{};
  std::string address{};
  bool check_order = false;
};

/// What the ranks of one generation of a group say to each other, and what is said when they do not.
///
/// Every call begins with one exchange of blocks of a fixed size, whatever is called: so calls that do not match are told from
/// ranks that are missing, and a short message needs nothing else. Long messages follow when all ranks know how long they are.
/// Calls belong to the loop thread, `mark_broken` and `is_broken` to any.
class Exchange {
 public:
  /// What a rank sent.
  struct Part {
    std::uint64_t length = 0;
    bool failed = false;
    std::string_view text;  ///< the beginning of the message, all of it when it is short
  };
  /// A call under way. Its memory is used again by the next call with the same Round.
  struct Round {
    Call call{};
    std::int64_t number = 0;
    std::chrono::steady_clock::time_point start;
    std::vector<Part> parts;  ///< of every rank, valid after `finish`
    at::Tensor in, out;       ///< a block for every rank, one of every rank
    std::unique_ptr<Link::Transfer> transfer;
  };
  /// The messages of all ranks, and the memory they stand in.
  struct Messages {
    std::vector<std::string_view> texts;
    std::vector<at::Tensor> memory;
  };

  /// Connects the ranks, a part of `call`. A collective. Throws CommError.
  Exchange(std::shared_ptr<Store> store, ExchangeOptions options, Call call = Call::connect);

  /// Sends this rank's call; `argument` must be the same on all ranks.
  void begin(Round& round, Call call, std::int64_t argument, const Payload& payload);
  /// Waits for the call of every rank. Throws CommError.
  void finish(Round& round);
  void call(Round& round, Call call, std::int64_t argument, const Payload& payload) {
    begin(round, call, argument, payload);
    finish(round);
  }

  /// Behind `finish`: the messages of all ranks on all ranks.
  Messages everything(Round& round, const Payload& own);
  /// The messages of all ranks on rank `destination`, elsewhere their beginnings.
  Messages at_one(Round& round, const Payload& own, int destination);
  /// The message of rank `source` on all ranks.
  at::Tensor from_one(Round& round, const Payload& own, int source);

  /// Further connections of the same ranks, a part of the call of `round`, closed when this is broken. A collective. Throws
  /// CommError.
  std::shared_ptr<Link> open_link(const std::string& name, const Round& round);
  /// For what ranks do together without an exchange of blocks, from now on: it fails as a call does.
  Round outside_calls(Call call) const;
  /// Says who is missing of `ranks`, which are all when empty, breaks the group on every rank, and throws CommError.
  [[noreturn]] void throw_failure(const Round& round, const std::string& cause, const std::vector<int>& ranks = {});

  void require_sound(Call call) const;
  /// Tells the other ranks `reason` and ends what they wait for.
  void mark_broken(const std::string& reason);
  bool is_broken() const noexcept { return broken_; }
  const ExchangeOptions& options() const noexcept { return options_; }
  Store& store() const noexcept { return *store_; }

 private:
  template <class Action>
  void guarded(Round& round, const Action& action);
  template <class Start>
  void run(Round& round, const Start& start);
  [[noreturn]] void throw_different_calls(const Round& round);
  bool set_broken(const std::string& reason);
  void leave_note(const std::string& note) noexcept;
  std::string note_key(std::size_t rank) const;
  std::string broken_key() const;
  void look_for_notes();
  std::string whereabouts(const Round& round, const std::vector<int>& ranks);
  void close_links() noexcept;

  std::shared_ptr<Store> store_;
  ExchangeOptions options_;
  std::size_t ranks_;
  std::int64_t calls_ = 0;
  bool store_is_lost_ = false;       // it did not answer once: what waits for an answer is never given back
  std::deque<std::string> history_;  // with check_order: the last calls
  mutable std::mutex mutex_;         // of what follows
  std::string reason_;
  std::vector<std::weak_ptr<Link>> links_;
  std::atomic<bool> broken_ = false;
  std::shared_ptr<Link> link_;
};

}  // namespace treadle
