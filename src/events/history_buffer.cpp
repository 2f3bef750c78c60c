#include <treadle/base/errors.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/events/history_buffer.hpp>

#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "events/numpy_sums.hpp"

namespace treadle {
namespace {

// A buffer up to this length is allocated whole at its first value, so that the loop never pays for growth.
constexpr std::size_t kReservedAtOnce = 16384;

double numpy_median(std::vector<double>& values) {
  const std::size_t n = values.size();
  if (n == 0 || std::any_of(values.begin(), values.end(), [](double v) { return std::isnan(v); })) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(n / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (n % 2 == 1) return numpy_mean(&*middle, 1);
  const double pair[2] = {*std::max_element(values.begin(), middle), *middle};
  return numpy_mean(pair, 2);
}

at::Tensor expect_column(const ValueView& state, const char* key, at::ScalarType type) {
  const ValueView view = state[key];
  const at::Tensor& tensor = view.as_tensor();
  if (tensor.dim() != 1 || tensor.scalar_type() != type) {
    view.fail(fmt::format("expected a one-dimensional tensor of {}", type == at::kDouble ? "float64" : "int64"));
  }
  return tensor;
}

}  // namespace

void validate(const HistoryBufferOptions& options) {
  if (options.max_length < 1) {
    throw ConfigError(fmt::format("HistoryBufferOptions.max_length must be at least 1, not {}", options.max_length),
                      "HistoryBufferOptions.max_length");
  }
}

HistoryBuffer::HistoryBuffer(HistoryBufferOptions options) : max_length_(options.max_length) { validate(options); }

void HistoryBuffer::update(double value, std::int64_t iteration) {
  const auto limit = static_cast<std::size_t>(max_length_);
  if (ring_.size() < limit) {
    if (ring_.size() == ring_.capacity()) ring_.reserve(std::min(limit, std::max(kReservedAtOnce, 2 * ring_.size())));
    ring_.push_back({value, iteration});
  } else {
    ring_[begin_] = {value, iteration};
    if (++begin_ == limit) begin_ = 0;
  }
  ++count_;
  global_avg_ += (value - global_avg_) / static_cast<double>(count_);
}

double HistoryBuffer::latest() const {
  if (ring_.empty()) throw Error("a HistoryBuffer without values has no latest one");
  return (*this)[size() - 1].value;
}

std::vector<double> HistoryBuffer::newest(std::int64_t window) const {
  if (window < 0) throw Error(fmt::format("the window of a HistoryBuffer must not be negative, but it is {}", window));
  const std::int64_t n = window == 0 ? size() : std::min(window, size());
  std::vector<double> values(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) values[static_cast<std::size_t>(i)] = (*this)[size() - n + i].value;
  return values;
}

double HistoryBuffer::median(std::int64_t window) const {
  std::vector<double> values = newest(window);
  return numpy_median(values);
}

double HistoryBuffer::avg(std::int64_t window) const {
  const std::vector<double> values = newest(window);
  return numpy_mean(values.data(), values.size());
}

std::vector<HistoryBuffer::Sample> HistoryBuffer::values() const {
  std::vector<Sample> result(ring_.size());
  std::rotate_copy(ring_.begin(), ring_.begin() + static_cast<std::ptrdiff_t>(begin_), ring_.end(), result.begin());
  return result;
}

std::int64_t HistoryBuffer::count_within(std::int64_t window) const noexcept {
  std::int64_t samples = 0;
  while (samples < size() && (*this)[size() - 1 - samples].iteration > (*this)[size() - 1].iteration - window) ++samples;
  return samples;
}

void HistoryBuffer::clear() noexcept {
  ring_.clear();
  begin_ = 0;
  count_ = 0;
  global_avg_ = 0;
}

Dict HistoryBuffer::state_dict() const {
  at::Tensor values = at::empty({size()}, at::kDouble), iterations = at::empty({size()}, at::kLong);
  double* value = values.mutable_data_ptr<double>();
  std::int64_t* iteration = iterations.mutable_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < size(); ++i) {
    value[i] = (*this)[i].value;
    iteration[i] = (*this)[i].iteration;
  }
  return {{"values", values}, {"iterations", iterations}, {"count", count_}, {"global_avg", global_avg_}};
}

void HistoryBuffer::check_state_dict(const Dict& state) const {
  const ValueView view(state, "HistoryBuffer");
  const std::int64_t length = expect_column(view, "values", at::kDouble).numel();
  if (expect_column(view, "iterations", at::kLong).numel() != length) {
    view["iterations"].fail(fmt::format("expected {} elements, as many as there are values", length));
  }
  if (view["count"].as_int() < length) view["count"].fail(fmt::format("expected at least the number of values, {}", length));
  view["global_avg"].as_double();
}

void HistoryBuffer::load_state_dict(const Dict& state) {
  const at::Tensor values = state.at("values").as_tensor().cpu().contiguous();
  const at::Tensor iterations = state.at("iterations").as_tensor().cpu().contiguous();
  const std::int64_t first = std::max<std::int64_t>(0, values.numel() - max_length_);
  clear();
  for (std::int64_t i = first; i < values.numel(); ++i) {
    update(values.const_data_ptr<double>()[i], iterations.const_data_ptr<std::int64_t>()[i]);
  }
  count_ = state.at("count").as_int();
  global_avg_ = state.at("global_avg").as_double();
}

}  // namespace treadle
