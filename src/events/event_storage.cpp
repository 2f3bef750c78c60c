#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/events/event_storage.hpp>

#include <ATen/ops/histc.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "events/event_storage_slot.hpp"

namespace treadle {
namespace {

thread_local EventStorage* current_storage = nullptr;

const char* smoothing(bool hint) { return hint ? "smoothed" : "unsmoothed"; }

/// uint8, [height, width, channels], contiguous, on the CPU, sharing nothing with `image`.
at::Tensor to_pixels(const at::Tensor& image, const std::string& name, std::int64_t iteration) {
  const auto is_channels = [](std::int64_t n) { return n == 1 || n == 3; };
  const bool three = image.defined() && image.dim() == 3 && image.numel() > 0;
  const bool first = three && is_channels(image.size(0)), last = three && is_channels(image.size(2));
  if ((!first && !last) || !(image.scalar_type() == at::kByte || image.is_floating_point())) {
    throw Error(
        fmt::format("\"{}\" in iteration {} is no image: expected uint8 or floating, [channels, height, width] or "
                    "[height, width, channels] with 1 or 3 channels",
                    name, iteration));
  }
  at::Tensor pixels = image.detach().cpu();
  if (first) pixels = pixels.permute({1, 2, 0});
  if (pixels.is_floating_point())
    return pixels.to(at::kFloat).mul(255).nan_to_num_(0, 255, 0).clamp_(0, 255).to(at::kByte).contiguous();
  return pixels.clone(at::MemoryFormat::Contiguous);
}

template <class T>
bool push_bounded(std::vector<T>& queue, T item, std::int64_t limit) {
  const bool full = queue.size() >= static_cast<std::size_t>(limit);
  if (full) queue.erase(queue.begin());
  queue.push_back(std::move(item));
  return full;
}

void check_at_least_one(std::int64_t value, const std::string& field) {
  if (value < 1) throw ConfigError(fmt::format("{} must be at least 1, not {}", field, value), field);
}

}  // namespace

void validate(const EventStorageOptions& options) {
  check_at_least_one(options.history_length, "EventStorageOptions.history_length");
  check_at_least_one(options.max_pending, "EventStorageOptions.max_pending");
}

EventStorage::EventStorage(std::int64_t start_iter, EventStorageOptions options) : options_(options), iter_(start_iter) {
  validate(options_);
}
EventStorage::~EventStorage() = default;

const EventStorage::Slot* EventStorage::find(std::string_view name) const noexcept {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : slots_[found->second].get();
}

ScalarId EventStorage::scalar(std::string_view name, bool smoothing_hint) {
  std::string_view full = name;
  if (!prefix_.empty()) full = name_.assign(prefix_).append(name);
  const std::uint32_t index = find_or_add(full, smoothing_hint);
  if (slots_[index]->smoothing_hint != smoothing_hint) {
    throw Error(fmt::format("the scalar \"{}\" is {} but comes as {} in iteration {}; a scalar keeps one smoothing hint", full,
                            smoothing(!smoothing_hint), smoothing(smoothing_hint), iter_));
  }
  return ScalarId(index);
}

/// A loop records the same names in the same order: one comparison then takes the place of the hash table. No slot has the index
/// that this gives before the first slot is there.
inline std::uint32_t EventStorage::guess() const noexcept { return last_ < slots_.size() ? slots_[last_]->next : 0; }

std::uint32_t EventStorage::find_or_add(std::string_view full_name, bool smoothing_hint) {
  const std::uint32_t guessed = guess();
  if (guessed < slots_.size() && slots_[guessed]->name == full_name) return last_ = guessed;
  const auto found = index_.find(full_name);
  const std::uint32_t index = found != index_.end() ? found->second : add_slot(full_name, smoothing_hint);
  slots_[last_]->next = index;
  return last_ = index;
}

std::uint32_t EventStorage::add_slot(std::string_view full_name, bool smoothing_hint) {
  const auto index = static_cast<std::uint32_t>(slots_.size());
  slots_.push_back(std::make_unique<Slot>(
      Slot{std::string(full_name), smoothing_hint, HistoryBuffer({.max_length = options_.history_length})}));
  index_.emplace(slots_.back()->name, index);
  return index;
}

inline void EventStorage::record(std::uint32_t index, double value, std::int64_t iteration) {
  HistoryBuffer& history = slots_[index]->history;
  if (history.count() == 0) order_.push_back(index);
  history.update(value, iteration);
}

void EventStorage::put(ScalarId id, double value, std::int64_t iteration) { record(id.index_, value, iteration); }

void EventStorage::put_scalar(std::string_view name, double value, bool smoothing_hint, std::optional<std::int64_t> iteration) {
  const std::uint32_t guessed = guess();
  const bool is_guessed = prefix_.empty() && guessed < slots_.size() && slots_[guessed]->name == name &&
                          slots_[guessed]->smoothing_hint == smoothing_hint;
  last_ = is_guessed ? guessed : scalar(name, smoothing_hint).index_;
  record(last_, value, iteration.value_or(iter_));
}

void EventStorage::put_scalar(std::string_view name, const at::Tensor& value, bool smoothing_hint,
                              std::optional<std::int64_t> iteration) {
  const auto refuse = [&](const std::string& problem) {
    throw Error(fmt::format("the scalar \"{}{}\" of iteration {} {}", prefix_, name, iteration.value_or(iter_), problem));
  };
  if (!value.defined()) refuse("is an undefined tensor");
  if (value.numel() != 1) refuse(fmt::format("is a tensor of {} elements; put one number", value.numel()));
  if (value.requires_grad()) refuse("carries a graph; put `value.detach()`, or the memory of the whole step stays alive");
  if (value.is_complex()) refuse("is complex; put its real part or its magnitude");
  put_scalar(name, value.item().toDouble(), smoothing_hint, iteration);
}

void EventStorage::put_scalars(std::initializer_list<std::pair<std::string_view, double>> scalars, bool smoothing_hint,
                               std::optional<std::int64_t> iteration) {
  for (const auto& [name, value] : scalars) put_scalar(name, value, smoothing_hint, iteration);
}

void EventStorage::put_scalars(const Named<double>& scalars, bool smoothing_hint, std::optional<std::int64_t> iteration) {
  for (const auto& [name, value] : scalars) put_scalar(name, value, smoothing_hint, iteration);
}

void EventStorage::put_image(const std::string& name, const at::Tensor& image) {
  warn_dropped(push_bounded(images_, {name, iter_, to_pixels(image, name, iter_)}, options_.max_pending));
}

void EventStorage::put_histogram(const std::string& name, const at::Tensor& tensor, std::int64_t bins) {
  const auto refuse = [&](const char* problem) {
    throw Error(fmt::format("cannot make a histogram of \"{}\" in iteration {}: {}", name, iter_, problem));
  };
  if (!tensor.defined() || tensor.numel() == 0) refuse("the tensor is empty");
  if (bins < 1) refuse("it needs at least one bin");
  if (tensor.is_complex()) refuse("the tensor is complex");
  const at::Tensor values = tensor.detach().to(tensor.scalar_type() == at::kDouble ? at::kDouble : at::kFloat).flatten();
  HistogramEvent event{.name = name, .iteration = iter_, .number = values.numel()};
  event.min = values.min().item().toDouble();
  event.max = values.max().item().toDouble();
  if (!std::isfinite(event.min) || !std::isfinite(event.max)) refuse("an element is not finite");
  const at::Tensor wide = values.to(at::kDouble);
  event.sum = wide.sum().item().toDouble();
  event.sum_squares = wide.square().sum().item().toDouble();

  const bool flat = event.min == event.max;
  const double low = flat ? event.min - 1 : event.min, high = flat ? event.max + 1 : event.max;
  const at::Tensor counts = at::histc(values, bins, low, high).cpu().to(at::kDouble).contiguous();
  event.counts.assign(counts.const_data_ptr<double>(), counts.const_data_ptr<double>() + bins);
  event.limits.resize(static_cast<std::size_t>(bins));
  for (std::int64_t i = 0; i < bins; ++i) {
    event.limits[static_cast<std::size_t>(i)] =
        i + 1 == bins ? high : low + (high - low) * static_cast<double>(i + 1) / static_cast<double>(bins);
  }
  warn_dropped(push_bounded(histograms_, std::move(event), options_.max_pending));
}

void EventStorage::warn_dropped(bool dropped) {
  if (!dropped || warned_dropped_) return;
  warned_dropped_ = true;
  log_warning(
      fmt::format("no writer takes the images or histograms of this run: more than {} wait, the oldest are dropped; "
                  "add a TensorBoardWriter, or put fewer",
                  options_.max_pending));
}

EventStorage::NameScope::NameScope(EventStorage& storage, std::string_view name)
    : storage_(storage), outer_length_(storage.prefix_.size()) {
  while (!name.empty() && name.back() == '/') name.remove_suffix(1);
  storage_.prefix_.append(name).append("/");
}
EventStorage::NameScope::~NameScope() { storage_.prefix_.resize(outer_length_); }

const HistoryBuffer* EventStorage::find_history(std::string_view name) const noexcept {
  const Slot* slot = find(name);
  return slot != nullptr && slot->history.count() > 0 ? &slot->history : nullptr;
}

const HistoryBuffer& EventStorage::history(std::string_view name) const {
  if (const HistoryBuffer* found = find_history(name)) return *found;
  throw Error(fmt::format("no value of the scalar \"{}\" was recorded up to iteration {}", name, iter_));
}

EventStorage::Named<const HistoryBuffer*> EventStorage::histories() const {
  Named<const HistoryBuffer*> result;
  result.reserve(order_.size());
  for (const std::uint32_t i : order_) result.emplace_back(slots_[i]->name, &slots_[i]->history);
  return result;
}

EventStorage::Named<EventStorage::Latest> EventStorage::latest() const {
  Named<Latest> result;
  result.reserve(order_.size());
  for (const std::uint32_t i : order_) {
    const HistoryBuffer& history = slots_[i]->history;
    const HistoryBuffer::Sample& newest = history[history.size() - 1];
    result.emplace_back(slots_[i]->name, Latest{newest.value, newest.iteration});
  }
  return result;
}

EventStorage::Named<EventStorage::Latest> EventStorage::latest_with_smoothing_hint(std::int64_t window) const {
  Named<Latest> result = latest();
  for (std::size_t i = 0; i < order_.size(); ++i) {
    const Slot& slot = *slots_[order_[i]];
    if (slot.smoothing_hint) result[i].second.value = slot.history.median(slot.history.count_within(window));
  }
  return result;
}

EventStorage::Named<bool> EventStorage::smoothing_hints() const {
  Named<bool> result;
  result.reserve(order_.size());
  for (const std::uint32_t i : order_) result.emplace_back(slots_[i]->name, slots_[i]->smoothing_hint);
  return result;
}

std::int64_t EventStorage::count_samples(std::string_view name, std::int64_t window) const noexcept {
  const HistoryBuffer* found = find_history(name);
  return found != nullptr ? found->count_within(window) : 0;
}

EventStorage& get_event_storage() {
  if (current_storage != nullptr) return *current_storage;
  throw Error(
      "no EventStorage is current on this thread; call this inside of training, or make one current with CurrentEventStorage");
}
bool has_event_storage() noexcept { return current_storage != nullptr; }

CurrentEventStorage::CurrentEventStorage(EventStorage& storage) noexcept : previous_(std::exchange(current_storage, &storage)) {}
CurrentEventStorage::~CurrentEventStorage() { current_storage = previous_; }

}  // namespace treadle
