#pragma once

#include <treadle/base/stateful.hpp>

#include <cstdint>
#include <map>
#include <optional>

namespace torch::optim {
class Optimizer;
}

namespace treadle {

struct GradScalerOptions {
  double init_scale = 65536.0;          ///< > 0, within the range of float32
  double growth_factor = 2.0;           ///< > 1
  double backoff_factor = 0.5;          ///< in (0, 1)
  std::int64_t growth_interval = 2000;  ///< > 0: steps without an overflow before the scale grows
  bool enabled = true;                  ///< false: every call passes its argument through
};
/// Throws ConfigError that names the field ("GradScalerOptions.growth_factor") and its legal range.
void validate(const GradScalerOptions& options);

/// Scales losses so that float16 gradients do not vanish, and leaves out steps whose gradients overflowed; the rules and the
/// state are those of `torch.amp.GradScaler`. Works on any device. Loop thread only.
///
///     scaler.scale(loss).backward();
///     scaler.unscale(optimizer);        // only when something reads the gradients before the step, as clipping does
///     scaler.step(optimizer);
///     scaler.update();
///
/// State: `scale`, `growth_factor`, `backoff_factor`, `growth_interval`, `_growth_tracker`; empty when disabled.
class GradScaler final : public Stateful {
 public:
  explicit GradScaler(const GradScalerOptions& options = {});

  /// `loss` times the scale.
  at::Tensor scale(const at::Tensor& loss);
  /// Divides the gradients of `optimizer` by the scale. Returns whether all are finite, and remembers it for `step`. Throws Error
  /// when it was done for this optimizer since the last `update()` already, and for float16 gradients, which lose what the scale
  /// preserved.
  bool unscale(torch::optim::Optimizer& optimizer);
  /// Unscales if that was not done, then steps unless a gradient is not finite. Returns whether it stepped. Once per `update()`.
  bool step(torch::optim::Optimizer& optimizer);
  /// Shrinks the scale after an overflow in any optimizer since the last call, grows it after `growth_interval` calls without
  /// one. `new_scale` sets it instead. Throws Error when nothing was unscaled since the last call.
  void update(std::optional<double> new_scale = std::nullopt);
  /// Forgets what was unscaled since the last `update`, for a step that was begun and will not be ended. The scale stays.
  void give_up() noexcept { progress_.clear(); }

  double get_scale() const noexcept { return enabled_ ? scale_ : 1.0; }
  bool enabled() const noexcept { return enabled_; }
  std::int64_t growth_tracker() const noexcept { return growth_tracker_; }

  Dict state_dict() const override;
  /// Throws FormatError for a missing key or a value out of range; an empty state fits only a scaler that is not enabled.
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;

 private:
  struct Progress {
    bool found_non_finite = false;
    bool stepped = false;
  };

  bool enabled_;
  float scale_;  // as Python keeps it
  double growth_factor_;
  double backoff_factor_;
  std::int64_t growth_interval_;
  std::int64_t growth_tracker_ = 0;
  std::map<const torch::optim::Optimizer*, Progress> progress_;
};

}  // namespace treadle
