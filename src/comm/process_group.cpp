#include <comm/exchange.hpp>
#include <comm/local_place.hpp>
#include <comm/meeting.hpp>
#include <comm/reduced_dtype.hpp>
#include <comm/reducer.hpp>
#include <comm/value_codec.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/comm/process_group.hpp>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>

namespace treadle {
namespace {

using Milliseconds = std::chrono::milliseconds;
using Messages = Exchange::Messages;

/// How long a group that is destroyed waits for the other ranks to be done with it too: connections that are closed while
/// another rank reads its last message would cut that message off.
constexpr Milliseconds kFarewell{5000};
constexpr Milliseconds kBetweenLooks{200};

std::string_view view_of(const at::Tensor& bytes) {
  return {static_cast<const char*>(bytes.const_data_ptr()), static_cast<std::size_t>(bytes.numel())};
}

Payload encode(const Value& value) {
  try {
    return Payload::of(encode_value(value));
  } catch (const Error& error) {
    return Payload::failure(error.what());  // so that the other ranks do not wait
  }
}

/// The numbers, then their names: a rank with others is noticed.
Payload encode_numbers(const Dict& numbers) {
  std::string text;
  for (const auto& [name, value] : numbers) {
    try {
      const double number = value.is(Value::Type::tensor) ? value.as_tensor().item<double>() : value.as_double();
      text.append(reinterpret_cast<const char*>(&number), sizeof number);
    } catch (const std::exception& error) {
      return Payload::failure(fmt::format("\"{}\" is no number: {}", name.to_string(), cause_of(error)));
    }
  }
  for (const auto& [name, value] : numbers) text += name.to_string() + '\n';
  return Payload::of(std::move(text));
}

List decode(const Messages& messages) {
  List values;
  values.reserve(messages.texts.size());
  for (std::string_view text : messages.texts) values.push_back(decode_value(text));
  return values;
}

template <class T>
std::string bytes_of(const T& number) {
  return std::string(reinterpret_cast<const char*>(&number), sizeof number);
}
template <class T>
T number_in(std::string_view text, std::size_t offset = 0) {
  T number;
  std::memcpy(&number, text.data() + offset, sizeof number);
  return number;
}

/// What a rank tells at its start: its build, and behind that its place on its machine.
std::string start_text(const ConnectOptions& options) {
  return build_name() + '\n' + write_place({options.local_rank, options.local_size});
}
std::string_view build_in(std::string_view text) { return text.substr(0, text.find('\n')); }

class ProcessGroup final : public Group {
 public:
  /// Connects with the ranks that `options` speak of, who come to `store` under `name`. `machine` is a number that only the ranks
  /// of this machine give; without it they are those that follow one another with local ranks from 0 on.
  ProcessGroup(std::shared_ptr<Store> store, ConnectOptions options, std::string name, std::optional<int> machine = {})
      : options_(std::move(options)), name_(std::move(name)), machine_(machine), store_(std::move(store)) {
    join(options_.generation, options_.timeout);
  }
  ~ProcessGroup() override {
    if (!is_broken()) say_farewell();
  }

  int get_rank() const noexcept override { return rank_; }
  int get_world_size() const noexcept override { return world_size_; }
  int get_local_rank() const noexcept override { return local_rank_; }
  int get_local_size() const noexcept override { return local_size_; }
  std::int64_t generation() const noexcept override { return generation_; }

  void synchronize() override { exchange_->call(round_, Call::synchronize, 0, {}); }

  List all_gather(const Value& value) override {
    const Payload own = encode(value);
    exchange_->call(round_, Call::all_gather, 0, own);
    require_sent();
    return decode(exchange_->everything(round_, own));
  }

  List gather(const Value& value, int destination) override {
    require_rank(destination, Call::gather);
    const Payload own = encode(value);
    exchange_->call(round_, Call::gather, destination, own);
    require_sent();
    const Messages messages = exchange_->at_one(round_, own, destination);
    return get_rank() == destination ? decode(messages) : List();
  }

  Value broadcast(const Value& value, int source) override {
    require_rank(source, Call::broadcast);
    const Payload own = get_rank() == source ? encode(value) : Payload();
    exchange_->call(round_, Call::broadcast, source, own);
    require_sent();
    const at::Tensor bytes = exchange_->from_one(round_, own, source);
    // The source decodes too, so that what it holds shares no tensor with `value` on any rank.
    return decode_value(view_of(bytes));
  }

  std::uint64_t shared_random_seed() override {
    const std::uint64_t own = random_seed();
    exchange_->call(round_, Call::shared_random_seed, 0, Payload::of(bytes_of(own)));
    return number_in<std::uint64_t>(round_.parts.front().text);
  }

  Dict reduce_dict(const Dict& numbers, bool average) override {
    const Payload own = encode_numbers(numbers);
    exchange_->call(round_, Call::reduce_dict, average, own);
    require_sent();
    const Messages messages = exchange_->at_one(round_, own, 0);
    return get_rank() == 0 ? reduce(numbers, average, messages) : numbers;
  }

  void start_step_exchange(std::span<const double> row) override {
    exchange_->require_sound(Call::step_exchange);
    if (exchanging_)
      throw CommError("an exchange is under way; wait for it before the next begins", rank_, name_of(Call::step_exchange));
    row_ = Payload::of(std::string(reinterpret_cast<const char*>(row.data()), row.size_bytes()));
    exchange_->begin(step_, Call::step_exchange, 0, row_);
    exchanging_ = true;
  }

  const StepRows& wait_step_exchange() override {
    exchange_->require_sound(Call::step_exchange);
    if (!exchanging_) throw CommError("no exchange has begun", rank_, name_of(Call::step_exchange));
    exchanging_ = false;
    exchange_->finish(step_);
    const Messages messages = exchange_->everything(step_, row_);
    rows_.resize(messages.texts.size());
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      rows_[i].resize(messages.texts[i].size() / sizeof(double));
      if (!rows_[i].empty()) std::memcpy(rows_[i].data(), messages.texts[i].data(), rows_[i].size() * sizeof(double));
    }
    return rows_;
  }

  void mark_broken(const std::string& reason) override { shared_exchange()->mark_broken(reason); }
  bool is_broken() const noexcept override { return shared_exchange()->is_broken(); }

  void rebuild() override {
    if (!is_broken()) mark_broken("rebuild was called");
    exchanging_ = false;
    // Those who come must find each other's places as they were.
    options_.rank = rank_;
    options_.world_size = world_size_;
    options_.local_rank = local_rank_;
    options_.local_size = local_size_;
    round_ = {};
    step_ = {};
    join(generation_ + 1, options_.rebuild_wait);
  }

  std::shared_ptr<Group> make_subgroup(const std::vector<int>& ranks) override {
    exchange_->require_sound(Call::make_subgroup);
    const auto own = std::find(ranks.begin(), ranks.end(), get_rank());
    if (own == ranks.end()) throw CommError("this rank is not one of the subgroup", rank_, name_of(Call::make_subgroup));
    for (int rank : ranks) require_rank(rank, Call::make_subgroup);
    if (ranks.size() == 1) return make_single_process_group();
    ConnectOptions options = options_;
    options.rank = static_cast<int>(own - ranks.begin());
    options.world_size = static_cast<int>(ranks.size());
    options.generation = 0;
    const std::string list = fmt::format("{}", fmt::join(ranks, "-"));
    const std::string name = fmt::format("{}/{}/subgroup-{}-{}", name_, generation(), list, subgroups_[list]++);
    const Exchange::Round round = exchange_->outside_calls(Call::make_subgroup);
    try {
      return std::make_shared<ProcessGroup>(store_, options, name, machine());
    } catch (const std::exception& error) {
      exchange_->throw_failure(round, fmt::format("in the numbers of the subgroup {}", error.what()), ranks);
    }
  }

  std::unique_ptr<GradientReducer> make_gradient_reducer(const std::vector<NamedTensor>& parameters,
                                                         const GradientOptions& options) override {
    return make_reducer(exchange_, parameters, options, fmt::format("gradients-{}", reducers_++));
  }

 private:
  std::string key(const std::string& name) const { return fmt::format("{}/{}/{}", name_, generation(), name); }
  int machine() const { return machine_.value_or(options_.rank - options_.local_rank); }

  /// Meets the others in `generation`, waiting for absent ones until `patience` is over, and connects with those that came.
  void join(std::int64_t generation, Milliseconds patience) {
    const bool again = exchange_ != nullptr;
    const Call call = again ? Call::rebuild : Call::connect;
    const Meeting meeting{.name = fmt::format("{}/{}", name_, generation),
                          .rank = options_.rank,
                          .world_size = options_.world_size,
                          .machine = machine(),
                          .patience = patience,
                          .go_on_without = again};
    std::shared_ptr<Exchange> exchange;
    Place place;
    try {
      place = meet(*store_, meeting, options_.timeout);
      const bool one_machine = place.local_size == place.world_size;
      exchange = std::make_shared<Exchange>(
          store_,
          ExchangeOptions{.name = meeting.name,
                          .rank = place.rank,
                          .world_size = place.world_size,
                          .timeout = options_.timeout,
                          .store_keeper = options_.store_keeper,
                          .address = options_.address.empty() && one_machine ? "127.0.0.1" : options_.address,
                          .check_order = options_.check_order},
          call);
    } catch (const CommError&) {
      throw;
    } catch (const std::exception& error) {
      throw CommError(cause_of(error), options_.rank, name_of(call));
    }
    rank_ = place.rank;
    world_size_ = place.world_size;
    local_rank_ = place.local_rank;
    local_size_ = place.local_size;
    generation_ = generation;
    {
      const std::lock_guard lock(mutex_);
      exchange_ = std::move(exchange);
    }
    exchange_->call(round_, Call::connect, world_size_, Payload::of(start_text(options_)));
    compare_builds();
    // Of a group that was told its machines places say nothing, and behind a loss there are gaps.
    if (!machine_ && world_size_ == options_.world_size) compare_places();
  }

  void compare_builds() const {
    const std::string own = build_name();
    for (std::size_t rank = 0; rank < round_.parts.size(); ++rank) {
      const std::string_view theirs = build_in(round_.parts[rank].text);
      if (theirs == own) continue;
      throw CommError(fmt::format("rank {} runs another build: {} there, {} here", rank, theirs, own), rank_,
                      name_of(Call::connect));
    }
  }

  /// Two ranks of one machine could get one local rank, and with it one device, and nobody would notice.
  void compare_places() {
    std::vector<LocalPlace> places;
    for (const Exchange::Part& part : round_.parts) places.push_back(read_place(part.text.substr(build_in(part.text).size())));
    const auto rank = out_of_place(places);
    if (!rank) return;
    say_farewell();  // every rank comes here: none may cut off what another still reads
    throw ConfigError(
        fmt::format("the ranks of each machine must follow one another, with local ranks from 0 on, but rank {} has "
                    "local rank {} of {}: start them with srun --distribution=block, or mpirun --map-by slot",
                    *rank, places[*rank].rank, places[*rank].size),
        "ConnectOptions.local_rank");
  }

  void say_farewell() noexcept {
    try {
      std::vector<std::string> keys;
      for (int rank = 0; rank < world_size_; ++rank) keys.push_back(key(fmt::format("left/{}", rank)));
      const Milliseconds limit = std::min(kFarewell, options_.timeout);
      store_->set(keys[static_cast<std::size_t>(get_rank())], "", limit);
      const auto deadline = std::chrono::steady_clock::now() + limit;
      while (std::chrono::steady_clock::now() < deadline && !store_->wait(keys, std::min(kBetweenLooks, limit)).empty()) {
        // Who has broken the group does not come.
        if (store_->find(key("broken"), limit)) return;
      }
    } catch (const std::exception&) {
      // The store is gone, and so is whoever might wait.
    }
  }

  std::shared_ptr<Exchange> shared_exchange() const {
    const std::lock_guard lock(mutex_);
    return exchange_;
  }
  void require_rank(int rank, Call call) const {
    if (rank >= 0 && rank < get_world_size()) return;
    throw CommError(fmt::format("there is no rank {} in a group of {}", rank, get_world_size()), rank_, name_of(call));
  }
  void require_sent() const {
    for (std::size_t i = 0; i < round_.parts.size(); ++i) {
      if (round_.parts[i].failed) throw Error(fmt::format("rank {}, {}: {}", i, name_of(round_.call), round_.parts[i].text));
    }
  }

  Dict reduce(const Dict& numbers, bool average, const Messages& messages) const {
    const std::size_t bytes = numbers.size() * sizeof(double);
    for (std::size_t i = 0; i < messages.texts.size(); ++i) {
      const std::string_view text = messages.texts[i];
      if (text.size() >= bytes && text.substr(bytes) == messages.texts[0].substr(bytes)) continue;
      throw CommError(fmt::format("rank {} reduces other names than rank 0", i), rank_, name_of(Call::reduce_dict));
    }
    Dict result;
    std::size_t offset = 0;
    for (const auto& [name, value] : numbers) {
      double sum = 0;
      for (std::string_view text : messages.texts) sum += number_in<double>(text, offset);
      offset += sizeof(double);
      if (average) sum /= static_cast<double>(messages.texts.size());
      if (value.is(Value::Type::tensor)) {
        const auto dtype = reduced_dtype(value.as_tensor().scalar_type(), average);
        result.set(name, at::empty_like(value.as_tensor(), dtype).fill_(sum));
      } else {
        result.set(name, sum);
      }
    }
    return result;
  }

  ConnectOptions options_;  // with the places of the first generation of this object, or those before a rebuild
  std::string name_;
  std::optional<int> machine_;  // in a subgroup, whose ranks may stand in any order
  std::shared_ptr<Store> store_;
  std::atomic<int> rank_ = 0, world_size_ = 1, local_rank_ = 0, local_size_ = 1;
  std::atomic<std::int64_t> generation_ = 0;
  mutable std::mutex mutex_;  // of the pointer, which the loop thread alone changes
  std::shared_ptr<Exchange> exchange_;
  Exchange::Round round_, step_;
  Payload row_;
  bool exchanging_ = false;
  StepRows rows_;
  std::map<std::string, int> subgroups_;
  int reducers_ = 0;
};

/// Gloo writes to connections whose other end may be gone; the signal's default would end this process, the error tells more.
void ignore_broken_pipes() {
  struct sigaction current{};
  if (sigaction(SIGPIPE, nullptr, &current) == 0 && current.sa_handler == SIG_DFL) std::signal(SIGPIPE, SIG_IGN);
}

void require(bool holds, const char* field, const std::string& range) {
  if (!holds)
    throw ConfigError(fmt::format("ConnectOptions.{} must be {}", field, range), std::string("ConnectOptions.") + field);
}

}  // namespace

void validate(const ConnectOptions& options) {
  require(options.world_size >= 1, "world_size", "at least 1");
  require(options.rank >= 0 && options.rank < options.world_size, "rank",
          fmt::format("at least 0 and below the world size {}", options.world_size));
  require(options.local_size >= 1 && options.local_size <= options.world_size, "local_size",
          fmt::format("at least 1 and at most the world size {}", options.world_size));
  require(options.local_rank >= 0 && options.local_rank < options.local_size && options.local_rank <= options.rank, "local_rank",
          fmt::format("at least 0, below the local size {} and at most the rank {}", options.local_size, options.rank));
  require(options.timeout.count() > 0, "timeout", "above 0");
  require(options.rebuild_wait.count() >= 0, "rebuild_wait", "at least 0");
  require(options.world_size == 1 || options.port != 0 || !options.file.empty(), "port",
          "given, unless the ranks meet in a file");
  require(!options.name.empty(), "name", "not empty");
}

std::shared_ptr<Group> connect_group(const ConnectOptions& given) {
  validate(given);
  ConnectOptions options = given;
  for (auto* limit : {&options.timeout, &options.rebuild_wait}) *limit = std::min(*limit, kLongestTimeout);
  if (options.world_size == 1) return make_single_process_group();
  ignore_broken_pipes();
  std::shared_ptr<Store> store;
  try {
    store = std::make_shared<Store>(options);
  } catch (const std::exception& error) {
    throw CommError(error.what(), options.rank, name_of(Call::connect));
  }
  return std::make_shared<ProcessGroup>(std::move(store), options, options.name);
}

}  // namespace treadle
