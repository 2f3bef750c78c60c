#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

namespace treadle {

/// A schedule: a pure function of training progress in [0, 1) that gives a value (a factor on the learning rate). Any callable
/// will do. Those below are immutable values and may be called from any thread; each computes in double exactly what fvcore's
/// class of the same name does (`fvcore/common/param_scheduler.py`), with the C library's `cos` and `pow`.
///
/// Constructors throw ConfigError that names the argument and its legal range; values may be any finite numbers, negative ones
/// too. Calls throw Error where progress lies outside the range that the schedule is defined for, as each says.
using ParamScheduler = std::function<double(double progress)>;

/// Comparisons with milestones are made this much later than `progress`, so that rounding does not delay a step by an iteration.
inline constexpr double kProgressEpsilon = 1e-6;

/// `value`, for progress < 1.
class ConstantParamScheduler {
 public:
  explicit ConstantParamScheduler(double value);
  double operator()(double progress) const;

 private:
  double value_;
};

/// A straight line from `start_value` to `end_value`; defined everywhere.
class LinearParamScheduler {
 public:
  LinearParamScheduler(double start_value, double end_value);
  double operator()(double progress) const;

 private:
  double start_value_;
  double end_value_;
};

/// end + (start - end) (1 + cos(pi progress)) / 2: half a cosine from `start_value` to `end_value`; defined for finite progress.
class CosineParamScheduler {
 public:
  CosineParamScheduler(double start_value, double end_value);
  double operator()(double progress) const;

 private:
  double start_value_;
  double end_value_;
};

/// start decay^progress. Throws Error where that is no real number, or exceeds the range of double.
class ExponentialParamScheduler {
 public:
  ExponentialParamScheduler(double start_value, double decay);
  double operator()(double progress) const;

 private:
  double start_value_;
  double decay_;
};

/// base (1 - progress)^power. Throws Error where that is no real number, or exceeds the range of double.
class PolynomialDecayParamScheduler {
 public:
  PolynomialDecayParamScheduler(double base_value, double power);
  double operator()(double progress) const;

 private:
  double base_value_;
  double power_;
};

/// `values[k]` between the k-th and the next milestone, for progress <= 1.
class MultiStepParamScheduler {
 public:
  /// `milestones` are update counts, ascending, above 0 and below `num_updates`; one fewer than `values`. Without `num_updates`
  /// the last milestone is it (so there are as many as values); without `milestones` the updates are divided evenly, rounded up.
  MultiStepParamScheduler(std::vector<double> values, std::optional<std::int64_t> num_updates,
                          std::optional<std::vector<double>> milestones = std::nullopt);
  double operator()(double progress) const;

  const std::vector<double>& milestones() const noexcept { return milestones_; }
  double num_updates() const noexcept { return num_updates_; }

 private:
  std::vector<double> values_;
  std::vector<double> milestones_;
  double num_updates_;
};

/// The run in `values.size()` equal parts, one value for each; throws Error from progress 1 - kProgressEpsilon on.
/// A negative progress counts from the end of `values`, as in fvcore.
class StepParamScheduler {
 public:
  /// `num_updates` must be positive, and has no other effect.
  StepParamScheduler(double num_updates, std::vector<double> values);
  double operator()(double progress) const;

 private:
  std::vector<double> values_;
};

/// `base_value`, multiplied by `gamma` at the end of each of `num_decays` + 1 equal parts of the run; else as StepParamScheduler.
class StepWithFixedGammaParamScheduler {
 public:
  StepWithFixedGammaParamScheduler(double base_value, std::int64_t num_decays, double gamma, std::int64_t num_updates);
  double operator()(double progress) const { return steps_(progress); }

 private:
  StepParamScheduler steps_;
};

/// How a part of a composite schedule sees progress: as its own from 0 to 1, or as that of the whole run.
enum class IntervalScaling { rescaled, fixed };
/// "rescaled" or "fixed"; throws ConfigError otherwise.
IntervalScaling interval_scaling_from_string(std::string_view text);

/// Schedules one after the other.
class CompositeParamScheduler {
 public:
  struct Part {
    ParamScheduler scheduler;
    double length;  ///< its share of the run
    IntervalScaling scaling = IntervalScaling::rescaled;
  };
  /// At least one part; the lengths sum to 1 within 0.001, and the last one is corrected so that they do exactly. A length that
  /// is NaN is not noticed, as in fvcore.
  explicit CompositeParamScheduler(std::vector<Part> parts);
  double operator()(double progress) const;

  /// The parts' lengths after the correction.
  std::vector<double> lengths() const;

 private:
  std::vector<Part> parts_;
};

enum class WarmupMethod { linear, constant };
/// "linear" or "constant"; throws ConfigError otherwise.
WarmupMethod warmup_method_from_string(std::string_view text);

struct WarmupOptions {
  double factor = 0.001;  ///< the first value, as a multiple of the schedule's own
  /// Share of the run, >= 0. A warm-up longer than the run ends with it, as in Detectron2, where the schedule has a value at
  /// `length` to lead to; where it has none that is a ConfigError.
  double length = 0.0;
  WarmupMethod method = WarmupMethod::linear;
  bool rescale_interval = false;  ///< the whole schedule follows the warm-up, instead of its part of that time
};

/// `scheduler` preceded by a warm-up (`detectron2.solver.WarmupParamScheduler`): up to `length` the value goes in a straight line
/// from `factor` times the schedule's first value to the value it has there, or stays at the former.
class WarmupParamScheduler {
 public:
  WarmupParamScheduler(const ParamScheduler& scheduler, const WarmupOptions& options);
  double operator()(double progress) const { return composite_(progress); }
  std::vector<double> lengths() const { return composite_.lengths(); }

 private:
  CompositeParamScheduler composite_;
};

/// The shape of a decay from one value to another.
enum class DecayShape { linear, cosine, one_minus_sqrt };
/// "linear", "cosine" or "one_minus_sqrt"; throws ConfigError otherwise.
DecayShape decay_shape_from_string(std::string_view text);

/// Stable, then decay: 1 up to progress 1 - `decay_length`, then down to `end_value`, which it reaches at progress 1. With a
/// warm-up in front this is "warm-up, stable, decay" (Hu et al., MiniCPM, 2024; the shape 1 - sqrt from Hägele et al., 2024).
class StableDecayParamScheduler {
 public:
  /// `decay_length` in (0, 1], `end_value` in [0, 1].
  StableDecayParamScheduler(double decay_length, double end_value, DecayShape shape = DecayShape::linear);
  double operator()(double progress) const;

 private:
  double decay_length_;
  double end_value_;
  DecayShape shape_;
};

}  // namespace treadle
