#pragma once

#include <treadle/base/module_state.hpp>
#include <treadle/base/stateful.hpp>

#include <cstdint>
#include <vector>

namespace treadle {

struct EmaOptions {
  double decay = 0.999;     ///< in [0, 1): the weight of the old average in an update
  bool warmup = false;      ///< the n-th update uses min(decay, (1 + n) / (10 + n)), so that an early average forgets the start
  std::int64_t period = 1;  ///< > 0: an update happens in every `period`-th call
  bool buffers = true;      ///< average floating-point buffers too; other buffers are copied. Without, buffers are left alone.
};
/// Throws ConfigError that names the field ("EmaOptions.decay") and its legal range.
void validate(const EmaOptions& options);

/// The exponential moving average of a module's parameters and buffers: average = lerp(average, value, 1 - decay), the first
/// update a copy; the bits of `torch.optim.swa_utils.AveragedModel` with `get_ema_multi_avg_fn`. Loop thread only.
///
/// The module is borrowed and must outlive this. State: `num_updates`, `calls`, `averages` (a Dict by full name).
class ExponentialMovingAverage final : public Stateful {
 public:
  explicit ExponentialMovingAverage(torch::nn::Module& module, const EmaOptions& options = {});

  /// To be called after every step of the optimizer.
  void update();
  std::int64_t num_updates() const noexcept { return num_updates_; }
  /// Aliases the averages.
  const std::vector<NamedTensor>& averages() const noexcept { return averages_; }

  /// Puts the averages into the module for the life of this object, then what was there before. The module's tensors keep their
  /// identity.
  class Swap {
   public:
    explicit Swap(ExponentialMovingAverage& ema);
    ~Swap();
    Swap(const Swap&) = delete;
    Swap& operator=(const Swap&) = delete;

   private:
    ExponentialMovingAverage& ema_;
  };

  Dict state_dict() const override;
  /// Throws FormatError for missing or unknown names and tensors of another shape; Error while a Swap lives.
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;

 private:
  void exchange();
  void require_not_swapped(const char* operation) const;

  EmaOptions options_;
  std::vector<NamedTensor> values_;    // the module's
  std::vector<NamedTensor> averages_;  // in the same order
  std::int64_t num_updates_ = 0;
  std::int64_t calls_ = 0;
  bool swapped_ = false;
};

}  // namespace treadle
