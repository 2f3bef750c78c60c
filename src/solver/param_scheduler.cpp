#include <treadle/base/errors.hpp>
#include <treadle/solver/param_scheduler.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <utility>

namespace treadle {
namespace {

[[noreturn]] void throw_outside(std::string_view schedule, double progress, std::string_view range) {
  throw Error(
      fmt::format("a {} schedule was asked for its value at progress {}; it is defined for {}", schedule, progress, range));
}

[[noreturn]] void throw_bad_argument(const std::string& name, const std::string& problem) {
  throw ConfigError(name + " " + problem, name);
}

double finite(const char* name, double number) {
  if (!std::isfinite(number)) throw_bad_argument(name, fmt::format("must be finite; it is {}", number));
  return number;
}

std::vector<double> finite_values(std::vector<double> values) {
  if (values.empty()) throw_bad_argument("values", "must hold at least one number");
  for (double value : values) finite("values", value);
  return values;
}

/// Python's `base ** exponent` for floats: an error where C gives an infinity or a NaN out of finite numbers.
double power_or_throw(double base, double exponent, std::string_view schedule, double progress) {
  double result = std::pow(base, exponent);
  bool finite_arguments = std::isfinite(base) && std::isfinite(exponent);
  if (finite_arguments && !std::isfinite(result)) {
    throw Error(fmt::format("a {} schedule at progress {} needs {} to the power of {}, which is no finite real number", schedule,
                            progress, base, exponent));
  }
  return result;
}

/// Towards zero, as Python's int(); throws where that has no value.
double whole_part(double number, std::string_view schedule, double progress) {
  if (!std::isfinite(number)) throw_outside(schedule, progress, "finite progress");
  return std::trunc(number);
}

}  // namespace

ConstantParamScheduler::ConstantParamScheduler(double value) : value_(finite("value", value)) {}

double ConstantParamScheduler::operator()(double progress) const {
  if (progress >= 1.0) throw_outside("constant", progress, "progress below 1");
  return value_;
}

LinearParamScheduler::LinearParamScheduler(double start_value, double end_value)
    : start_value_(finite("start_value", start_value)), end_value_(finite("end_value", end_value)) {}

double LinearParamScheduler::operator()(double progress) const { return end_value_ * progress + start_value_ * (1 - progress); }

CosineParamScheduler::CosineParamScheduler(double start_value, double end_value)
    : start_value_(finite("start_value", start_value)), end_value_(finite("end_value", end_value)) {}

double CosineParamScheduler::operator()(double progress) const {
  if (std::isinf(progress)) throw_outside("cosine", progress, "finite progress");
  return end_value_ + 0.5 * (start_value_ - end_value_) * (1 + std::cos(std::numbers::pi * progress));
}

ExponentialParamScheduler::ExponentialParamScheduler(double start_value, double decay)
    : start_value_(finite("start_value", start_value)), decay_(finite("decay", decay)) {}

double ExponentialParamScheduler::operator()(double progress) const {
  return start_value_ * power_or_throw(decay_, progress, "exponential", progress);
}

PolynomialDecayParamScheduler::PolynomialDecayParamScheduler(double base_value, double power)
    : base_value_(finite("base_value", base_value)), power_(finite("power", power)) {}

double PolynomialDecayParamScheduler::operator()(double progress) const {
  return base_value_ * power_or_throw(1 - progress, power_, "polynomial", progress);
}

MultiStepParamScheduler::MultiStepParamScheduler(std::vector<double> values, std::optional<std::int64_t> num_updates,
                                                 std::optional<std::vector<double>> milestones)
    : values_(finite_values(std::move(values))) {
  if (!num_updates && !milestones) throw_bad_argument("num_updates", "is needed where no milestones are given");
  if (milestones) {
    std::size_t wanted = values_.size() - (num_updates ? 1 : 0);
    if (milestones->size() != wanted) {
      throw_bad_argument("milestones",
                         fmt::format("must be {} numbers for {} values, not {}", wanted, values_.size(), milestones->size()));
    }
    milestones_ = std::move(*milestones);
  } else {
    double width = std::ceil(static_cast<double>(*num_updates) / static_cast<double>(values_.size()));
    for (std::size_t k = 1; k < values_.size(); ++k) milestones_.push_back(width * static_cast<double>(k));
  }
  if (num_updates) {
    num_updates_ = static_cast<double>(*num_updates);
  } else {
    num_updates_ = finite("milestones", milestones_.back());
    milestones_.pop_back();
  }
  if (!(num_updates_ >= static_cast<double>(values_.size()))) {
    throw_bad_argument("num_updates",
                       fmt::format("must be at least the number of values, {}; it is {}", values_.size(), num_updates_));
  }
  double previous = 0;
  for (double milestone : milestones_) {
    if (!(milestone < num_updates_ && milestone > previous)) {
      throw_bad_argument("milestones", fmt::format("must ascend, above 0 and below the number of updates, {}; {} follows {}",
                                                   num_updates_, milestone, previous));
    }
    previous = milestone;
  }
}

double MultiStepParamScheduler::operator()(double progress) const {
  if (progress > 1.0) throw_outside("multi-step", progress, "progress up to 1");
  double update = whole_part((progress + kProgressEpsilon) * num_updates_, "multi-step", progress);
  auto next = std::upper_bound(milestones_.begin(), milestones_.end(), update);
  return values_[static_cast<std::size_t>(next - milestones_.begin())];
}

StepParamScheduler::StepParamScheduler(double num_updates, std::vector<double> values)
    : values_(finite_values(std::move(values))) {
  if (!(num_updates > 0)) throw_bad_argument("num_updates", fmt::format("must be above 0; it is {}", num_updates));
}

double StepParamScheduler::operator()(double progress) const {
  double count = static_cast<double>(values_.size());
  double index = whole_part((progress + kProgressEpsilon) * count, "step", progress);
  if (index < 0) index += count;
  if (index < 0 || index >= count) throw_outside("step", progress, "progress below 1");
  return values_[static_cast<std::size_t>(index)];
}

namespace {

std::vector<double> decayed_values(double base_value, std::int64_t num_decays, double gamma, std::int64_t num_updates) {
  if (!(finite("base_value", base_value) > 0))
    throw_bad_argument("base_value", fmt::format("must be above 0; it is {}", base_value));
  if (!(finite("gamma", gamma) > 0)) throw_bad_argument("gamma", fmt::format("must be above 0; it is {}", gamma));
  if (num_decays <= 0) throw_bad_argument("num_decays", fmt::format("must be above 0; it is {}", num_decays));
  if (num_updates <= 0) throw_bad_argument("num_updates", fmt::format("must be above 0; it is {}", num_updates));
  std::vector<double> values{base_value};
  for (std::int64_t k = 0; k < num_decays; ++k) values.push_back(values.back() * gamma);
  return values;
}

}  // namespace

StepWithFixedGammaParamScheduler::StepWithFixedGammaParamScheduler(double base_value, std::int64_t num_decays, double gamma,
                                                                   std::int64_t num_updates)
    : steps_(static_cast<double>(num_updates), decayed_values(base_value, num_decays, gamma, num_updates)) {}

IntervalScaling interval_scaling_from_string(std::string_view text) {
  if (text == "rescaled") return IntervalScaling::rescaled;
  if (text == "fixed") return IntervalScaling::fixed;
  throw_bad_argument("interval_scaling", fmt::format("must be \"rescaled\" or \"fixed\"; it is \"{}\"", text));
}

CompositeParamScheduler::CompositeParamScheduler(std::vector<Part> parts) : parts_(std::move(parts)) {
  if (parts_.empty()) throw_bad_argument("parts", "must hold at least one schedule");
  double sum = 0;
  double sum_but_last = 0;
  for (const Part& part : parts_) {
    if (!part.scheduler) throw_bad_argument("parts", "must not hold an empty schedule");
    sum_but_last = sum;
    sum += part.length;
  }
  if (std::abs(sum - 1.0) >= 1e-3) throw_bad_argument("lengths", fmt::format("must sum to 1; the sum is {}", sum));
  if (sum != 1.0) parts_.back().length = 1.0 - sum_but_last;
}

double CompositeParamScheduler::operator()(double progress) const {
  std::size_t i = 0;
  double end = parts_[0].length;
  while (progress + kProgressEpsilon > end && i + 1 < parts_.size()) {
    ++i;
    end += parts_[i].length;
  }
  const Part& part = parts_[i];
  if (part.scaling == IntervalScaling::fixed) return part.scheduler(progress);
  double start = end - part.length;
  if (part.length == 0) throw_outside("composite", progress, "parts of a length above 0");
  return part.scheduler((progress - start) / part.length);
}

std::vector<double> CompositeParamScheduler::lengths() const {
  std::vector<double> lengths;
  for (const Part& part : parts_) lengths.push_back(part.length);
  return lengths;
}

WarmupMethod warmup_method_from_string(std::string_view text) {
  if (text == "linear") return WarmupMethod::linear;
  if (text == "constant") return WarmupMethod::constant;
  throw_bad_argument("warmup_method", fmt::format("must be \"linear\" or \"constant\"; it is \"{}\"", text));
}

namespace {

/// Where a warm-up of that length leads to.
double value_at(const ParamScheduler& scheduler, double length) {
  try {
    return scheduler(length);
  } catch (const ConfigError&) {
    throw;
  } catch (const Error& error) {
    throw_bad_argument("WarmupOptions.length", fmt::format("is {}, where the schedule has no value: {}", length, error.what()));
  }
}

CompositeParamScheduler with_warmup(const ParamScheduler& scheduler, const WarmupOptions& options) {
  if (!scheduler) throw_bad_argument("scheduler", "must not be empty");
  finite("WarmupOptions.factor", options.factor);
  if (!(options.length >= 0 && std::isfinite(options.length)))
    throw_bad_argument("WarmupOptions.length", fmt::format("must be finite and at least 0; it is {}", options.length));
  double end_value = options.rescale_interval ? scheduler(0.0) : value_at(scheduler, options.length);
  double start_value = options.factor * scheduler(0.0);
  ParamScheduler warmup = LinearParamScheduler(start_value, end_value);
  if (options.method == WarmupMethod::constant) warmup = ConstantParamScheduler(start_value);
  IntervalScaling scaling = options.rescale_interval ? IntervalScaling::rescaled : IntervalScaling::fixed;
  return CompositeParamScheduler(
      {{std::move(warmup), options.length, IntervalScaling::rescaled}, {scheduler, 1 - options.length, scaling}});
}

}  // namespace

WarmupParamScheduler::WarmupParamScheduler(const ParamScheduler& scheduler, const WarmupOptions& options)
    : composite_(with_warmup(scheduler, options)) {}

DecayShape decay_shape_from_string(std::string_view text) {
  if (text == "linear") return DecayShape::linear;
  if (text == "cosine") return DecayShape::cosine;
  if (text == "one_minus_sqrt") return DecayShape::one_minus_sqrt;
  throw_bad_argument("decay_shape", fmt::format("must be \"linear\", \"cosine\" or \"one_minus_sqrt\"; it is \"{}\"", text));
}

StableDecayParamScheduler::StableDecayParamScheduler(double decay_length, double end_value, DecayShape shape)
    : decay_length_(decay_length), end_value_(end_value), shape_(shape) {
  if (!(decay_length > 0 && decay_length <= 1))
    throw_bad_argument("decay_length", fmt::format("must be in (0, 1]; it is {}", decay_length));
  if (!(end_value >= 0 && end_value <= 1)) throw_bad_argument("end_value", fmt::format("must be in [0, 1]; it is {}", end_value));
}

double StableDecayParamScheduler::operator()(double progress) const {
  double decayed = std::clamp(1 - (1 - progress) / decay_length_, 0.0, 1.0);
  if (decayed == 0) return 1;
  switch (shape_) {
    case DecayShape::linear:
      return end_value_ + (1 - end_value_) * (1 - decayed);
    case DecayShape::cosine:
      return end_value_ + 0.5 * (1 - end_value_) * (1 + std::cos(std::numbers::pi * decayed));
    case DecayShape::one_minus_sqrt:
      return end_value_ + (1 - end_value_) * (1 - std::sqrt(decayed));
  }
  throw Error("an unknown decay shape");
}

}  // namespace treadle
