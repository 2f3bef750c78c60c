#pragma once

#include <treadle/events/history_buffer.hpp>

#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace treadle {

struct EventStorageOptions {
  std::int64_t history_length = 10'000;  ///< values kept of each scalar, at least 1
  std::int64_t max_pending = 256;        ///< images, and histograms, kept until a writer takes them, at least 1; the oldest go
};
/// Throws ConfigError when a field is out of range.
void validate(const EventStorageOptions& options);

/// A scalar of one EventStorage, found once; a plain number.
class ScalarId {
 public:
  bool operator==(const ScalarId&) const = default;

 private:
  friend class EventStorage;
  explicit ScalarId(std::uint32_t index) : index_(index) {}
  std::uint32_t index_;
};

/// An image that waits for a writer: uint8 of shape [height, width, channels] with 1 or 3 channels (RGB), on the CPU.
struct ImageEvent {
  std::string name;
  std::int64_t iteration;
  at::Tensor pixels;
};

/// A histogram that waits for a writer. Bucket i counts the values up to `limits[i]`; both have the same length.
struct HistogramEvent {
  std::string name;
  std::int64_t iteration;
  double min = 0, max = 0, sum = 0, sum_squares = 0;
  std::int64_t number = 0;
  std::vector<double> limits{}, counts{};
};

/// What a run records: scalars with their history, images and histograms, each with its iteration. One thread at a time.
///
///     EventStorage storage;
///     ScalarId loss = storage.scalar("loss");     // where nanoseconds count
///     for (; storage.iter() < 1000; storage.step()) storage.put(loss, step());
///
/// A name exists, and has a history, from its first value on; asking for one does not create it. A scalar is smoothed (noisy:
/// writers show its median over a window) or not, and stays so. Order is that of the first values.
class EventStorage final : public Stateful {
 public:
  struct Latest {
    double value;
    std::int64_t iteration;
  };
  template <class T>
  using Named = std::vector<std::pair<std::string, T>>;

  explicit EventStorage(std::int64_t start_iter = 0, EventStorageOptions options = {});
  ~EventStorage() override;

  /// Records `value` of the scalar `name` (after the prefix of the open scopes) for `iteration`, by default `iter()`.
  /// Throws Error, and records nothing, when the scalar is known with the other smoothing hint.
  void put_scalar(std::string_view name, double value, bool smoothing_hint = true, std::optional<std::int64_t> iteration = {});
  /// The same from a tensor of one element on any device, which it waits for. Throws Error that names scalar and iteration when
  /// the tensor has another size, is complex, or requires a gradient.
  void put_scalar(std::string_view name, const at::Tensor& value, bool smoothing_hint = true,
                  std::optional<std::int64_t> iteration = {});
  void put_scalars(std::initializer_list<std::pair<std::string_view, double>> scalars, bool smoothing_hint = true,
                   std::optional<std::int64_t> iteration = {});
  void put_scalars(const Named<double>& scalars, bool smoothing_hint = true, std::optional<std::int64_t> iteration = {});

  /// The scalar `name` (after the prefix of the open scopes), for `put` without a look-up; valid as long as the storage, over
  /// loads too. Throws Error when it is known with the other hint.
  ScalarId scalar(std::string_view name, bool smoothing_hint = true);
  void put(ScalarId id, double value) { put(id, value, iter_); }
  void put(ScalarId id, double value, std::int64_t iteration);

  /// Records an image: uint8 (0 to 255) or floating (0 to 1, clamped), [channels, height, width] or [height, width, channels]
  /// with 1 or 3 channels; channels first where both fit. It is copied. Throws Error that names it when it is no image.
  void put_image(const std::string& name, const at::Tensor& image);
  /// Records how the elements of `tensor` spread over `bins` buckets of equal width. Throws Error that names it when the tensor
  /// is empty or has an element that is not finite, or `bins` is not positive.
  void put_histogram(const std::string& name, const at::Tensor& tensor, std::int64_t bins = 1000);

  std::int64_t iter() const noexcept { return iter_; }
  void set_iter(std::int64_t iteration) noexcept { iter_ = iteration; }
  void step() noexcept { ++iter_; }

  /// Puts `name/` before every scalar's name until it is destroyed; scopes nest and are left in the reverse order.
  class NameScope {
   public:
    ~NameScope();
    NameScope(const NameScope&) = delete;
    NameScope& operator=(const NameScope&) = delete;

   private:
    friend class EventStorage;
    NameScope(EventStorage& storage, std::string_view name);
    EventStorage& storage_;
    std::size_t outer_length_;
  };
  [[nodiscard]] NameScope name_scope(std::string_view name) { return NameScope(*this, name); }

  /// The history of `name` (its full name); valid as long as the storage. Throws Error when there is none; the other returns
  /// nullptr.
  const HistoryBuffer& history(std::string_view name) const;
  const HistoryBuffer* find_history(std::string_view name) const noexcept;
  /// Every scalar and its history.
  Named<const HistoryBuffer*> histories() const;
  /// Every scalar's newest value.
  Named<Latest> latest() const;
  /// The same, but of smoothed scalars the median of the values recorded in the `window` iterations up to the newest.
  Named<Latest> latest_with_smoothing_hint(std::int64_t window = 20) const;
  Named<bool> smoothing_hints() const;
  /// How many values of `name` were recorded in the `window` iterations up to its newest; 0 for an unknown one.
  std::int64_t count_samples(std::string_view name, std::int64_t window = 20) const noexcept;

  /// What waits for a writer, the oldest first. The writer that takes them clears them.
  const std::vector<ImageEvent>& images() const noexcept { return images_; }
  const std::vector<HistogramEvent>& histograms() const noexcept { return histograms_; }
  void clear_images() noexcept { images_.clear(); }
  void clear_histograms() noexcept { histograms_.clear(); }

  /// Everything but the open scopes. A load forgets what `state` does not have; a ScalarId stays valid.
  Dict state_dict() const override;
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;

 private:
  friend class ScalarCursor;
  struct Slot;
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>{}(text); }
  };
  const Slot* find(std::string_view name) const noexcept;
  inline std::uint32_t guess() const noexcept;
  std::uint32_t find_or_add(std::string_view full_name, bool smoothing_hint);
  inline void record(std::uint32_t index, double value, std::int64_t iteration);
  std::uint32_t add_slot(std::string_view full_name, bool smoothing_hint);
  void warn_dropped(bool dropped);

  EventStorageOptions options_;
  std::int64_t iter_;
  std::string prefix_;
  std::string name_;  // scratch: prefix and name joined
  std::vector<std::unique_ptr<Slot>> slots_;
  std::unordered_map<std::string, std::uint32_t, Hash, std::equal_to<>> index_;
  std::vector<std::uint32_t> order_;  // slots with a value, by their first
  std::uint32_t last_ = 0;            // the slot looked up last
  std::vector<ImageEvent> images_;
  std::vector<HistogramEvent> histograms_;
  bool warned_dropped_ = false;
};

/// The storage that is current on this thread. Throws Error when there is none.
EventStorage& get_event_storage();
bool has_event_storage() noexcept;

/// Makes `storage` (borrowed) current on this thread until it is destroyed; the one before comes back then. Destroy it on the
/// same thread, in the reverse order.
class CurrentEventStorage {
 public:
  explicit CurrentEventStorage(EventStorage& storage) noexcept;
  ~CurrentEventStorage();
  CurrentEventStorage(const CurrentEventStorage&) = delete;
  CurrentEventStorage& operator=(const CurrentEventStorage&) = delete;

 private:
  EventStorage* previous_;
};

}  // namespace treadle
