#include <comm/exchange.hpp>
#include <treadle/base/errors.hpp>

#include <ATen/ops/empty.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>

namespace treadle {
namespace {

using Milliseconds = std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

/// How long a rank that failed waits for the others to say where they are.
constexpr Milliseconds kGrace{1000};
/// How many calls `check_order` tells.
constexpr std::size_t kHistory = 8;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }
double in_seconds(Milliseconds time) { return static_cast<double>(time.count()) / 1000; }

at::Tensor byte_tensor(std::uint64_t length) { return at::empty(static_cast<std::int64_t>(length), at::kByte); }

std::string_view view_of(const at::Tensor& bytes) {
  return {static_cast<const char*>(bytes.const_data_ptr()), static_cast<std::size_t>(bytes.numel())};
}

/// What a rank leaves in the store when something failed: which call it was in, or why it gave up.
struct Note {
  std::int64_t number = 0;
  std::string call;
  std::string gave_up;

  std::string text() const { return gave_up.empty() ? fmt::format("{} {}", number, call) : "gave up " + gave_up; }
  static Note parse(const std::string& text) {
    constexpr std::string_view kGaveUp = "gave up ";
    if (text.starts_with(kGaveUp)) return {0, {}, text.substr(kGaveUp.size())};
    const std::size_t space = text.find(' ');
    return {std::strtoll(text.c_str(), nullptr, 10), space == std::string::npos ? "" : text.substr(space + 1), {}};
  }
};

Exchange::Messages short_ones(const Exchange::Round& round) {
  Exchange::Messages messages{{}, {round.out}};
  for (const Exchange::Part& part : round.parts) messages.texts.push_back(part.text);
  return messages;
}

}  // namespace

Exchange::Exchange(std::shared_ptr<Store> store, ExchangeOptions options, Call call)
    : store_(std::move(store)), options_(std::move(options)), ranks_(static_cast<std::size_t>(options_.world_size)) {
  link_ = open_link("link", outside_calls(call));
}

Exchange::Round Exchange::outside_calls(Call call) const {
  Round round;
  round.call = call;
  round.number = calls_;
  round.start = Clock::now();
  return round;
}

std::shared_ptr<Link> Exchange::open_link(const std::string& name, const Round& round) {
  std::shared_ptr<Link> link;
  try {
    link = std::make_shared<Link>(*store_, LinkOptions{.name = options_.name + "/" + name,
                                                       .rank = options_.rank,
                                                       .world_size = options_.world_size,
                                                       .timeout = options_.timeout,
                                                       .address = options_.address});
  } catch (const AddressError& error) {
    mark_broken(error.what());
    throw CommError(error.what(), options_.rank, name_of(round.call));
  } catch (const std::exception& error) {
    throw_failure(round, cause_of(error));
  }
  {
    std::lock_guard lock(mutex_);
    links_.push_back(link);
  }
  if (broken_) link->close();
  return link;
}

void Exchange::require_sound(Call call) const {
  if (!broken_) return;
  std::lock_guard lock(mutex_);
  throw CommError("the group is broken: " + reason_, options_.rank, name_of(call));
}

void Exchange::begin(Round& round, Call call, std::int64_t argument, const Payload& payload) {
  require_sound(call);
  if (!round.in.defined()) {
    round.in = byte_tensor(kBlock * ranks_);
    round.out = byte_tensor(kBlock * ranks_);
  }
  round.call = call;
  round.number = calls_++;
  round.start = Clock::now();
  round.parts.clear();
  for (std::size_t i = 0; i < ranks_; ++i) {
    write_block(static_cast<char*>(round.in.mutable_data_ptr()) + i * kBlock, {call, round.number, argument, payload});
  }
  guarded(round, [&] { round.transfer = link_->all_to_all(round.in, round.out); });
  if (!options_.check_order) return;
  finish(round);
  history_.push_back(read_header(view_of(round.in)).describe());
  if (history_.size() > kHistory) history_.pop_front();
}

void Exchange::finish(Round& round) {
  if (!round.transfer) return;  // with check_order the beginning has waited
  guarded(round, [&] { round.transfer->wait([this] { look_for_notes(); }); });
  round.transfer.reset();
  const std::string_view all = view_of(round.out);
  const Header own = read_header(view_of(round.in));
  bool same = true;
  for (std::size_t i = 0; i < ranks_; ++i) {
    const std::string_view block = all.substr(i * kBlock, kBlock);
    const Header header = read_header(block);
    same = same && header.same_call(own);
    round.parts.push_back(
        {header.length, header.failed != 0, block.substr(sizeof(Header), std::min<std::uint64_t>(header.length, kInline))});
  }
  if (!same) throw_different_calls(round);
}

template <class Action>
void Exchange::guarded(Round& round, const Action& action) {
  try {
    action();
  } catch (const std::exception& error) {
    throw_failure(round, cause_of(error));
  }
}

/// A further part of the call of `round`.
template <class Start>
void Exchange::run(Round& round, const Start& start) {
  guarded(round, [&] { start()->wait([this] { look_for_notes(); }); });
}

void Exchange::throw_different_calls(const Round& round) {
  std::vector<std::string> calls;
  const std::string_view all = view_of(round.out);
  for (std::size_t i = 0; i < ranks_; ++i) {
    const Header header = read_header(all.substr(i * kBlock, kBlock));
    calls.push_back(header.magic == kMagic ? fmt::format("rank {} called {}", i, header.describe())
                                           : fmt::format("rank {} speaks another protocol", i));
  }
  std::string problem = fmt::format("the ranks made different calls: {}", fmt::join(calls, ", "));
  if (!history_.empty()) problem += fmt::format("; before that this rank called {}", fmt::join(history_, ", "));
  // Every rank sees the same blocks, so every rank comes here: no note is needed.
  set_broken(problem);
  close_links();
  throw CommError(problem, options_.rank, name_of(round.call));
}

bool Exchange::set_broken(const std::string& reason) {
  std::lock_guard lock(mutex_);
  if (broken_) return false;
  reason_ = reason;
  broken_ = true;
  return true;
}

void Exchange::close_links() noexcept {
  std::vector<std::weak_ptr<Link>> links;
  {
    std::lock_guard lock(mutex_);
    links = links_;
  }
  for (const std::weak_ptr<Link>& link : links) {
    if (const auto open = link.lock()) open->close();
  }
}

void Exchange::mark_broken(const std::string& reason) {
  if (!set_broken(reason)) return;
  leave_note(Note{.number = 0, .call = {}, .gave_up = reason}.text());
  close_links();
}

std::string Exchange::note_key(std::size_t rank) const { return fmt::format("{}/note/{}", options_.name, rank); }

std::string Exchange::broken_key() const { return options_.name + "/broken"; }

void Exchange::leave_note(const std::string& note) noexcept {
  try {
    store_->set(note_key(static_cast<std::size_t>(options_.rank)), note, kGrace);
    store_->set(broken_key(), "yes", kGrace);
  } catch (const std::exception&) {
    // Without the store the others learn less; there is nobody to tell that to.
  }
}

/// A rank whose message has come already may fail while others are waited for: the end of its connections is then not seen.
void Exchange::look_for_notes() {
  if (store_is_lost_) return;
  bool left = false;
  try {
    left = store_->find(broken_key(), kGrace).has_value();
  } catch (const std::exception&) {
    store_is_lost_ = true;  // the time limit ends the wait
  }
  if (left) throw std::runtime_error("another rank failed");
}

void Exchange::throw_failure(const Round& round, const std::string& cause, const std::vector<int>& ranks) {
  const double waited = seconds_since(round.start);
  std::string problem = "the group was marked broken meanwhile";
  if (set_broken(fmt::format("{} failed before", name_of(round.call)))) {
    leave_note(Note{.number = round.number, .call = name_of(round.call), .gave_up = {}}.text());
    close_links();
    problem = whereabouts(round, ranks);
  }
  throw CommError(fmt::format("{} (waited {:.1f} s of at most {:g} s: {})", problem, waited, in_seconds(options_.timeout), cause),
                  options_.rank, name_of(round.call));
}

/// What the other ranks say about themselves, as far as it explains a failure of `round`.
std::string Exchange::whereabouts(const Round& round, const std::vector<int>& ranks) {
  std::vector<std::size_t> asked(ranks.begin(), ranks.end());
  if (asked.empty()) {
    asked.resize(ranks_);
    std::iota(asked.begin(), asked.end(), std::size_t{0});
  }
  std::vector<std::string> keys, problems;
  for (std::size_t rank : asked) keys.push_back(note_key(rank));
  try {
    std::vector<std::size_t> absent = store_->wait(keys, kGrace);
    for (std::size_t& each : absent) each = asked[each];
    if (!absent.empty()) problems.push_back(rank_list(absent) + " did not arrive");
    for (std::size_t rank : asked) {
      if (std::find(absent.begin(), absent.end(), rank) != absent.end()) continue;
      const Note note = Note::parse(store_->find(note_key(rank), kGrace).value_or(""));
      if (!note.gave_up.empty()) {
        problems.push_back(fmt::format("rank {} gave up: {}", rank, note.gave_up));
      } else if (note.number < round.number) {
        problems.push_back(fmt::format("rank {} was still in {} (call {})", rank, note.call, note.number));
      }
    }
  } catch (const std::exception& error) {
    return fmt::format("the connection failed, and so did the store at {}: {}, which keeps it, has ended or was stopped ({})",
                       store_->address(), options_.store_keeper, cause_of(error));
  }
  return problems.empty() ? "the connection failed" : fmt::format("{}", fmt::join(problems, "; "));
}

Exchange::Messages Exchange::everything(Round& round, const Payload& own) {
  Messages messages = short_ones(round);
  std::uint64_t longest = 0, sum = 0;
  for (const Part& part : round.parts) {
    longest = std::max(longest, part.length);
    sum += part.length;
  }
  if (longest <= kInline) return messages;
  if (longest * ranks_ <= 2 * sum) {
    const at::Tensor in = byte_tensor(longest), out = byte_tensor(longest * ranks_);
    std::memcpy(in.mutable_data_ptr(), own.text().data(), own.text().size());
    run(round, [&] { return link_->all_gather(in, out); });
    for (std::size_t i = 0; i < ranks_; ++i) messages.texts[i] = view_of(out).substr(i * longest, round.parts[i].length);
    messages.memory.push_back(out);
    return messages;
  }
  // Lengths differ much: each long message goes out alone, so that none is filled up to the longest.
  for (std::size_t i = 0; i < ranks_; ++i) {
    if (round.parts[i].length <= kInline) continue;
    messages.memory.push_back(from_one(round, own, static_cast<int>(i)));
    messages.texts[i] = view_of(messages.memory.back());
  }
  return messages;
}

Exchange::Messages Exchange::at_one(Round& round, const Payload& own, int destination) {
  Messages messages = short_ones(round);
  const auto self = static_cast<std::size_t>(options_.rank);
  if (options_.rank != destination) {
    if (own.text().size() > kInline) run(round, [&] { return link_->send(own.tensor(), destination); });
    return messages;
  }
  for (std::size_t i = 0; i < ranks_; ++i) {
    if (round.parts[i].length <= kInline) continue;
    const at::Tensor bytes = i == self ? own.tensor() : byte_tensor(round.parts[i].length);
    if (i != self) run(round, [&] { return link_->receive(bytes, static_cast<int>(i)); });
    messages.memory.push_back(bytes);
    messages.texts[i] = view_of(bytes);
  }
  return messages;
}

at::Tensor Exchange::from_one(Round& round, const Payload& own, int source) {
  const Part& part = round.parts[static_cast<std::size_t>(source)];
  const at::Tensor bytes = options_.rank == source ? own.tensor() : byte_tensor(part.length);
  if (part.length > kInline) {
    run(round, [&] { return link_->broadcast(bytes, source); });
  } else if (options_.rank != source) {
    std::memcpy(bytes.mutable_data_ptr(), part.text.data(), part.text.size());
  }
  return bytes;
}

}  // namespace treadle
