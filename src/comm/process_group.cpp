#include <comm/link.hpp>
#include <comm/message.hpp>
#include <comm/value_codec.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/comm/process_group.hpp>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <random>

namespace treadle {
namespace {

using Milliseconds = std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

/// How long a rank that failed waits for the others to say where they are.
constexpr Milliseconds kGrace{1000};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }
double in_seconds(Milliseconds time) { return static_cast<double>(time.count()) / 1000; }

std::string_view view_of(const at::Tensor& bytes) {
  return {static_cast<const char*>(bytes.const_data_ptr()), static_cast<std::size_t>(bytes.numel())};
}

class ProcessGroup final : public Group {
 public:
  explicit ProcessGroup(const ConnectOptions& options) : options_(options), generation_(options.generation) {
    const auto start = Clock::now();
    try {
      store_ = std::make_unique<Store>(options_);
      meet(start);
      link_ = std::make_unique<Link>(*store_,
                                     LinkOptions{key("link"), get_rank(), get_world_size(), options_.timeout, own_address()});
    } catch (const CommError&) {
      throw;
    } catch (const std::exception& error) {
      throw CommError(error.what(), get_rank(), "connect");
    }
    compare_builds();
  }

  int get_rank() const noexcept override { return options_.rank; }
  int get_world_size() const noexcept override { return options_.world_size; }
  int get_local_rank() const noexcept override { return options_.local_rank; }
  int get_local_size() const noexcept override { return options_.local_size; }
  std::int64_t generation() const noexcept override { return generation_; }

  void synchronize() override {
    begin(sync_, Call::synchronize, 0, {});
    finish(sync_);
  }

  List all_gather(const Value& value) override {
    const Payload payload = encode(value);
    begin(sync_, Call::all_gather, 0, payload);
    finish(sync_);
    require_sent(sync_);
    return decode(everything(sync_, payload));
  }

  List gather(const Value& value, int destination) override {
    require_rank(destination, Call::gather);
    const Payload payload = encode(value);
    begin(sync_, Call::gather, destination, payload);
    finish(sync_);
    require_sent(sync_);
    const Messages messages = at_one(sync_, payload, destination);
    return get_rank() == destination ? decode(messages) : List();
  }

  Value broadcast(const Value& value, int source) override {
    require_rank(source, Call::broadcast);
    const Payload payload = get_rank() == source ? encode(value) : Payload();
    begin(sync_, Call::broadcast, source, payload);
    finish(sync_);
    require_sent(sync_);
    const Part& part = sync_.parts[static_cast<std::size_t>(source)];
    if (part.length <= kInline) return get_rank() == source ? value : decode_value(part.text);
    const at::Tensor bytes =
        get_rank() == source ? payload.tensor() : at::empty(static_cast<std::int64_t>(part.length), at::kByte);
    run(sync_, [&] { return link_->broadcast(bytes, source); });
    return get_rank() == source ? value : decode_value(view_of(bytes));
  }

  std::uint64_t shared_random_seed() override {
    std::random_device device;
    const std::uint64_t own = static_cast<std::uint64_t>(device()) << 32 | device();
    begin(sync_, Call::shared_random_seed, 0, Payload::of(std::string(reinterpret_cast<const char*>(&own), sizeof own)));
    finish(sync_);
    std::uint64_t first = 0;
    std::memcpy(&first, sync_.parts.front().text.data(), sizeof first);
    return first;
  }

  Dict reduce_dict(const Dict& numbers, bool average) override {
    std::string text;
    for (const auto& [name, value] : numbers) {
      const double number = value.is(Value::Type::tensor) ? value.as_tensor().item<double>() : value.as_double();
      text.append(reinterpret_cast<const char*>(&number), sizeof number);
    }
    for (const auto& [name, value] : numbers) text += name.to_string() + '\n';
    const Payload payload = Payload::of(std::move(text));
    begin(sync_, Call::reduce_dict, average, payload);
    finish(sync_);
    const Messages messages = at_one(sync_, payload, 0);
    return get_rank() == 0 ? reduce(numbers, average, messages) : numbers;
  }

  void start_step_exchange(std::span<const double> row) override {
    if (exchanging_) throw CommError("an exchange is under way; wait for it before the next begins", get_rank(), "step exchange");
    row_ = Payload::of(std::string(reinterpret_cast<const char*>(row.data()), row.size_bytes()));
    begin(step_, Call::step_exchange, 0, row_);
    exchanging_ = true;
  }

  const StepRows& wait_step_exchange() override {
    require_sound(Call::step_exchange);
    if (!exchanging_) throw CommError("no exchange has begun", get_rank(), "step exchange");
    exchanging_ = false;
    finish(step_);
    const Messages messages = everything(step_, row_);
    rows_.resize(messages.texts.size());
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      rows_[i].resize(messages.texts[i].size() / sizeof(double));
      if (!rows_[i].empty()) std::memcpy(rows_[i].data(), messages.texts[i].data(), rows_[i].size() * sizeof(double));
    }
    return rows_;
  }

  void mark_broken(const std::string& reason) override {
    if (!set_broken(reason)) return;
    leave_note(fmt::format("gave up\n{}", reason));
    link_->close();
  }
  bool is_broken() const noexcept override { return broken_; }
  void rebuild() override { throw CommError("a group of several processes cannot be rebuilt yet", get_rank(), "rebuild"); }

 private:
  struct Part {
    std::uint64_t length = 0;
    bool failed = false;
    std::string_view text;  // the beginning of the message, all of it when it is short
  };
  /// One exchange of blocks: each rank says what it calls, and the beginning of its message.
  struct Round {
    Call call{};
    std::int64_t number = 0;
    at::Tensor in, out;
    std::unique_ptr<Link::Transfer> transfer;
    Clock::time_point start;
    std::vector<Part> parts;
  };
  /// The messages of all ranks, and the memory they stand in.
  struct Messages {
    std::vector<std::string_view> texts;
    std::vector<at::Tensor> memory;
  };

  std::string key(const std::string& name) const { return fmt::format("{}/{}", generation(), name); }
  std::string note_key(int rank) const { return key(fmt::format("note/{}", rank)); }
  std::string own_address() const {
    return options_.address.empty() && get_local_size() == get_world_size() ? "127.0.0.1" : options_.address;
  }

  /// Waits until every rank is at the store.
  void meet(Clock::time_point start) {
    std::vector<std::string> keys;
    for (int rank = 0; rank < get_world_size(); ++rank) keys.push_back(key(fmt::format("joined/{}", rank)));
    store_->set(keys[static_cast<std::size_t>(get_rank())], "", options_.timeout);
    const std::vector<std::size_t> absent = store_->wait(keys, options_.timeout);
    if (absent.empty()) return;
    throw CommError(
        fmt::format("{} of {} did not come to the store at {} within {:.1f} s", rank_list({absent.begin(), absent.end()}),
                    get_world_size(), store_->address(), seconds_since(start)),
        get_rank(), "connect");
  }

  void compare_builds() {
    const std::string own = build_name();
    begin(sync_, Call::connect, get_world_size(), Payload::of(own));
    finish(sync_);
    for (int rank = 0; rank < get_world_size(); ++rank) {
      const std::string_view theirs = sync_.parts[static_cast<std::size_t>(rank)].text;
      if (theirs == own) continue;
      throw CommError(fmt::format("rank {} runs another build: {} there, {} here", rank, theirs, own), get_rank(), "connect");
    }
  }

  void require_sound(Call call) const {
    if (!broken_) return;
    std::lock_guard lock(mutex_);
    throw CommError("the group is broken: " + reason_, get_rank(), name_of(call));
  }
  void require_rank(int rank, Call call) const {
    if (rank >= 0 && rank < get_world_size()) return;
    throw CommError(fmt::format("there is no rank {} in a group of {}", rank, get_world_size()), get_rank(), name_of(call));
  }
  bool set_broken(const std::string& reason) {
    std::lock_guard lock(mutex_);
    if (broken_) return false;
    reason_ = reason;
    broken_ = true;
    return true;
  }
  void leave_note(const std::string& note) noexcept {
    try {
      store_->set(note_key(get_rank()), note, kGrace);
    } catch (const std::exception&) {
      // Without the store the others learn less; there is nobody to tell that to.
    }
  }

  Payload encode(const Value& value) const {
    try {
      return Payload::of(encode_value(value));
    } catch (const Error& error) {
      return Payload::failure(error.what());
    }
  }

  void begin(Round& round, Call call, std::int64_t argument, const Payload& payload) {
    require_sound(call);
    const auto ranks = static_cast<std::int64_t>(get_world_size());
    if (!round.in.defined()) {
      round.in = at::empty(static_cast<std::int64_t>(kBlock), at::kByte);
      round.out = at::empty(ranks * static_cast<std::int64_t>(kBlock), at::kByte);
    }
    round.call = call;
    round.number = calls_++;
    round.start = Clock::now();
    write_block(static_cast<char*>(round.in.mutable_data_ptr()), {call, round.number, argument, payload});
    guarded(round, [&] { round.transfer = link_->all_gather(round.in, round.out); });
  }

  void finish(Round& round) {
    guarded(round, [&] { round.transfer->wait(); });
    const std::string_view all = view_of(round.out), own = view_of(round.in);
    round.parts.clear();
    bool same = true;
    for (std::size_t i = 0; i < static_cast<std::size_t>(get_world_size()); ++i) {
      const Header header = read_header(all.substr(i * kBlock, kBlock));
      same = same && header.same_call(read_header(own));
      round.parts.push_back({header.length, header.failed != 0,
                             all.substr(i * kBlock + sizeof(Header), std::min<std::uint64_t>(header.length, kInline))});
    }
    if (!same) throw_different_calls(round);
  }

  template <class Action>
  void guarded(Round& round, const Action& action) {
    try {
      action();
    } catch (const std::exception& error) {
      throw_failure(round, cause_of(error));
    }
  }
  /// A further part of the call of `round`.
  template <class Start>
  void run(Round& round, const Start& start) {
    guarded(round, [&] { start()->wait(); });
  }

  [[noreturn]] void throw_different_calls(const Round& round) {
    std::vector<std::string> calls;
    const std::string_view all = view_of(round.out);
    for (std::size_t i = 0; i < static_cast<std::size_t>(get_world_size()); ++i) {
      const Header header = read_header(all.substr(i * kBlock, kBlock));
      if (header.magic != kMagic) {
        calls.push_back(fmt::format("rank {} runs another build", i));
      } else {
        calls.push_back(fmt::format("rank {} called {}", i, header.describe()));
      }
    }
    const std::string problem = fmt::format("the ranks made different calls: {}", fmt::join(calls, ", "));
    set_broken(problem);
    link_->close();
    throw CommError(problem, get_rank(), name_of(round.call));
  }

  /// Finds out who is missing, and makes the others fail too.
  [[noreturn]] void throw_failure(const Round& round, const std::string& cause) {
    const double waited = seconds_since(round.start);
    const bool first = set_broken(fmt::format("{} failed before", name_of(round.call)));
    if (first) leave_note(fmt::format("at\n{} {}", round.number, name_of(round.call)));
    link_->close();
    std::string problem = first ? whereabouts(round) : "the group was marked broken";
    if (problem.empty()) problem = "the connection failed";
    throw CommError(
        fmt::format("{} (waited {:.1f} s of at most {:g} s; {})", problem, waited, in_seconds(options_.timeout), cause),
        get_rank(), name_of(round.call));
  }

  /// What the other ranks say about themselves, as far as it explains a failure of `round`.
  std::string whereabouts(const Round& round) {
    std::vector<std::string> keys, problems;
    for (int rank = 0; rank < get_world_size(); ++rank) keys.push_back(note_key(rank));
    std::vector<std::size_t> absent;
    try {
      absent = store_->wait(keys, kGrace);
      for (int rank = 0; rank < get_world_size(); ++rank) {
        if (std::find(absent.begin(), absent.end(), static_cast<std::size_t>(rank)) != absent.end()) continue;
        const std::string note = store_->find(note_key(rank), kGrace).value_or("");
        const std::size_t line = note.find('\n');
        if (note.starts_with("gave up"))
          problems.push_back(fmt::format("rank {} gave up: {}", rank, note.substr(line + 1)));
        else if (std::atoll(note.c_str() + line + 1) < round.number)
          problems.push_back(fmt::format("rank {} was still in call {}", rank, note.substr(line + 1)));
      }
    } catch (const std::exception& error) {
      return fmt::format("the connection failed, and so did finding out why: {}", cause_of(error));
    }
    if (!absent.empty()) problems.insert(problems.begin(), rank_list({absent.begin(), absent.end()}) + " did not arrive");
    return fmt::format("{}", fmt::join(problems, "; "));
  }

  void require_sent(const Round& round) const {
    for (std::size_t i = 0; i < round.parts.size(); ++i) {
      if (round.parts[i].failed) throw Error(fmt::format("rank {}, {}: {}", i, name_of(round.call), round.parts[i].text));
    }
  }

  /// The messages of all ranks on all ranks: those that were too long for a block are sent now.
  Messages everything(Round& round, const Payload& own) {
    Messages messages = short_ones(round);
    std::uint64_t longest = 0, sum = 0;
    for (const Part& part : round.parts) {
      longest = std::max(longest, part.length);
      sum += part.length;
    }
    if (longest <= kInline) return messages;
    const std::uint64_t ranks = round.parts.size();
    if (longest * ranks <= 2 * sum) {
      at::Tensor in = at::empty(static_cast<std::int64_t>(longest), at::kByte);
      std::memcpy(in.mutable_data_ptr(), own.text().data(), own.text().size());
      const at::Tensor out = at::empty(static_cast<std::int64_t>(longest * ranks), at::kByte);
      run(round, [&] { return link_->all_gather(in, out); });
      for (std::size_t i = 0; i < ranks; ++i) messages.texts[i] = view_of(out).substr(i * longest, round.parts[i].length);
      messages.memory.push_back(out);
      return messages;
    }
    for (std::size_t i = 0; i < ranks; ++i) {
      if (round.parts[i].length <= kInline) continue;
      const bool mine = static_cast<int>(i) == get_rank();
      const at::Tensor bytes = mine ? own.tensor() : at::empty(static_cast<std::int64_t>(round.parts[i].length), at::kByte);
      run(round, [&] { return link_->broadcast(bytes, static_cast<int>(i)); });
      messages.texts[i] = view_of(bytes);
      messages.memory.push_back(bytes);
    }
    return messages;
  }

  /// The same on rank `destination` alone.
  Messages at_one(Round& round, const Payload& own, int destination) {
    Messages messages = short_ones(round);
    if (get_rank() != destination) {
      if (own.text().size() > kInline) run(round, [&] { return link_->send(own.tensor(), destination); });
      return messages;
    }
    for (std::size_t i = 0; i < round.parts.size(); ++i) {
      if (round.parts[i].length <= kInline) continue;
      const bool mine = static_cast<int>(i) == get_rank();
      const at::Tensor bytes = mine ? own.tensor() : at::empty(static_cast<std::int64_t>(round.parts[i].length), at::kByte);
      if (!mine) run(round, [&] { return link_->receive(bytes, static_cast<int>(i)); });
      messages.texts[i] = view_of(bytes);
      messages.memory.push_back(bytes);
    }
    return messages;
  }

  static Messages short_ones(const Round& round) {
    Messages messages{{}, {round.out}};
    for (const Part& part : round.parts) messages.texts.push_back(part.text);
    return messages;
  }

  static List decode(const Messages& messages) {
    List values;
    for (std::string_view text : messages.texts) values.push_back(decode_value(text));
    return values;
  }

  Dict reduce(const Dict& numbers, bool average, const Messages& messages) const {
    const std::size_t bytes = numbers.size() * sizeof(double);
    for (std::size_t i = 0; i < messages.texts.size(); ++i) {
      if (messages.texts[i].substr(std::min(bytes, messages.texts[i].size())) == messages.texts[0].substr(bytes)) continue;
      throw CommError(fmt::format("rank {} reduces other names than rank 0", i), get_rank(), name_of(Call::reduce_dict));
    }
    Dict result;
    std::size_t offset = 0;
    for (const auto& [name, value] : numbers) {
      double sum = 0;
      for (std::string_view text : messages.texts) {
        double number = 0;
        std::memcpy(&number, text.data() + offset, sizeof number);
        sum += number;
      }
      offset += sizeof(double);
      if (average) sum /= static_cast<double>(messages.texts.size());
      if (value.is(Value::Type::tensor)) {
        result.set(name, at::empty({}, value.as_tensor().options().requires_grad(false)).fill_(sum));
      } else {
        result.set(name, sum);
      }
    }
    return result;
  }

  ConnectOptions options_;
  std::atomic<std::int64_t> generation_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Link> link_;
  std::int64_t calls_ = 0;
  Round sync_, step_;
  Payload row_;
  bool exchanging_ = false;
  StepRows rows_;
  mutable std::mutex mutex_;
  std::string reason_;
  std::atomic<bool> broken_ = false;
};

void require(bool holds, const char* field, const std::string& range) {
  if (!holds) throw ConfigError(fmt::format("{} must be {}", field, range), field);
}

}  // namespace

void validate(const ConnectOptions& options) {
  require(options.world_size >= 1, "ConnectOptions.world_size", "at least 1");
  require(options.rank >= 0 && options.rank < options.world_size, "ConnectOptions.rank",
          fmt::format("at least 0 and below the world size {}", options.world_size));
  require(options.local_size >= 1 && options.local_size <= options.world_size, "ConnectOptions.local_size",
          fmt::format("at least 1 and at most the world size {}", options.world_size));
  require(options.local_rank >= 0 && options.local_rank < options.local_size, "ConnectOptions.local_rank",
          fmt::format("at least 0 and below the local size {}", options.local_size));
  require(options.local_rank <= options.rank, "ConnectOptions.local_rank", fmt::format("at most the rank {}", options.rank));
  require(options.timeout.count() > 0, "ConnectOptions.timeout", "above 0");
  require(options.world_size == 1 || options.port != 0 || !options.file.empty(), "ConnectOptions.port",
          "given, unless ranks meet in a file");
}

std::shared_ptr<Group> connect_group(const ConnectOptions& options) {
  validate(options);
  if (options.world_size == 1) return make_single_process_group();
  return std::make_shared<ProcessGroup>(options);
}

}  // namespace treadle
