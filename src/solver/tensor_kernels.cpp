#include "solver/tensor_kernels.hpp"

#include "solver/multi_tensor.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace treadle {
namespace {

template <class T>
struct SgdRange {
  T* param;
  T* grad;
  T* momentum;
  std::int64_t size;
  T clip_factor, sign, decay, momentum_factor, grad_factor, minus_lr;
};

enum class Momentum { none, first, later };

template <class T, Momentum momentum, bool decay, bool nesterov, Before before>
TREADLE_INLINE void sgd_range(const SgdRange<T>& range) {
  T* __restrict p = range.param;
  T* __restrict gradient = range.grad;
  T* __restrict buffer = range.momentum;
  for (std::int64_t i = 0; i < range.size; ++i) {
    T g = prepared<before>(gradient[i], range.clip_factor, range.sign);
    if constexpr (decay) g = fused_multiply_add(range.decay, p[i], g);
    if constexpr (momentum != Momentum::none) {
      T m = g;
      if constexpr (momentum == Momentum::later) m = fused_multiply_add(range.grad_factor, g, buffer[i] * range.momentum_factor);
      buffer[i] = m;
      g = nesterov ? fused_multiply_add(range.momentum_factor, m, g) : m;
    }
    p[i] = fused_multiply_add(range.minus_lr, g, p[i]);
  }
}

template <class T, Momentum momentum, bool decay, bool nesterov, Before before>
void sgd_plain(const SgdRange<T>& range) {
  sgd_range<T, momentum, decay, nesterov, before>(range);
}
template <class T, Momentum momentum, bool decay, bool nesterov, Before before>
TREADLE_AVX2 void sgd_avx2(const SgdRange<T>& range) {
  sgd_range<T, momentum, decay, nesterov, before>(range);
}

template <class T>
using SgdFunction = void (*)(const SgdRange<T>&);

/// All variants, at the index that `sgd_variant` computes.
template <class T, bool avx2, std::size_t... index>
constexpr std::array<SgdFunction<T>, 36> sgd_table(std::index_sequence<index...>) {
  if constexpr (avx2) {
    return {sgd_avx2<T, static_cast<Momentum>(index / 12), index / 6 % 2 != 0, index / 3 % 2 != 0,
                     static_cast<Before>(index % 3)>...};
  } else {
    return {sgd_plain<T, static_cast<Momentum>(index / 12), index / 6 % 2 != 0, index / 3 % 2 != 0,
                      static_cast<Before>(index % 3)>...};
  }
}

std::size_t sgd_variant(const SgdScalars& scalars) {
  Momentum momentum = scalars.momentum == 0 ? Momentum::none : scalars.first ? Momentum::first : Momentum::later;
  auto before = static_cast<std::size_t>(before_use(scalars.maximize, scalars.clip_factor));
  return static_cast<std::size_t>(momentum) * 12 + (scalars.weight_decay != 0 ? 6 : 0) + (scalars.nesterov ? 3 : 0) + before;
}

template <class T>
void run_sgd(std::span<const SgdTensor<T>> tensors, const SgdScalars& scalars) {
  static constexpr auto plain = sgd_table<T, false>(std::make_index_sequence<36>{});
  static constexpr auto avx2 = sgd_table<T, true>(std::make_index_sequence<36>{});
  SgdFunction<T> function = (has_avx2() ? avx2 : plain)[sgd_variant(scalars)];
  for_each_range(tensors, [&](const SgdTensor<T>& tensor, std::int64_t begin, std::int64_t end) {
    function({.param = tensor.param + begin,
              .grad = tensor.grad + begin,
              .momentum = tensor.momentum ? tensor.momentum + begin : nullptr,
              .size = end - begin,
              .clip_factor = static_cast<T>(scalars.clip_factor),
              .sign = static_cast<T>(scalars.maximize ? -1 : 1),
              .decay = static_cast<T>(scalars.weight_decay),
              .momentum_factor = static_cast<T>(scalars.momentum),
              .grad_factor = static_cast<T>(1 - scalars.dampening),
              .minus_lr = static_cast<T>(-scalars.lr)});
  });
}

}  // namespace

void sgd_kernel(std::span<const SgdTensor<float>> tensors, const SgdScalars& scalars) { run_sgd(tensors, scalars); }
void sgd_kernel(std::span<const SgdTensor<double>> tensors, const SgdScalars& scalars) { run_sgd(tensors, scalars); }

namespace {

template <class T>
TREADLE_INLINE void lerp_range(T* __restrict average, const T* __restrict value, std::int64_t size, T weight) {
  bool near_from = std::abs(weight) < static_cast<T>(0.5);
  for (std::int64_t i = 0; i < size; ++i) average[i] = lerp(average[i], value[i], weight, weight - 1, near_from);
}
template <class T>
void lerp_plain(T* average, const T* value, std::int64_t size, T weight) {
  lerp_range(average, value, size, weight);
}
template <class T>
TREADLE_AVX2 void lerp_avx2(T* average, const T* value, std::int64_t size, T weight) {
  lerp_range(average, value, size, weight);
}

template <class T>
void run_lerp(std::span<const LerpTensor<T>> tensors, double weight) {
  auto function = has_avx2() ? lerp_avx2<T> : lerp_plain<T>;
  for_each_range(tensors, [&](const LerpTensor<T>& tensor, std::int64_t begin, std::int64_t end) {
    function(tensor.average + begin, tensor.value + begin, end - begin, static_cast<T>(weight));
  });
}

template <class T>
TREADLE_INLINE void scale_range(T* __restrict data, std::int64_t size, T factor) {
  for (std::int64_t i = 0; i < size; ++i) data[i] *= factor;
}
template <class T>
void scale_plain(T* data, std::int64_t size, T factor) {
  scale_range(data, size, factor);
}
template <class T>
TREADLE_AVX2 void scale_avx2(T* data, std::int64_t size, T factor) {
  scale_range(data, size, factor);
}

template <class T>
void run_scale(std::span<const NumberRange<T>> tensors, double factor) {
  auto function = has_avx2() ? scale_avx2<T> : scale_plain<T>;
  for_each_range(tensors, [&](const NumberRange<T>& tensor, std::int64_t begin, std::int64_t end) {
    function(tensor.data + begin, end - begin, static_cast<T>(factor));
  });
}

using Lanes = float __attribute__((vector_size(32)));

TREADLE_INLINE void add_squares(Lanes& sums, const float* data) {
  Lanes lanes;
  std::memcpy(&lanes, data, sizeof lanes);
  sums += lanes * lanes;
}

/// What is left after the eight sums have come to `i`.
TREADLE_INLINE float finish_norm(Lanes& sums, const NumberRange<float>& tensor, std::int64_t i) {
  const float* data = tensor.data;
  for (; i + 8 <= tensor.size; i += 8) add_squares(sums, data + i);
  float sum = sums[0];
  for (int lane = 1; lane < 8; ++lane) sum += sums[lane];
  if (tensor.size - i >= 4) {
    for (int k = 0; k < 4; ++k) sum += data[i + k] * data[i + k];
    i += 4;
  }
  for (; i < tensor.size; ++i) sum = fused_multiply_add(data[i], data[i], sum);
  return tensor.size == 1 ? std::abs(data[0]) : std::sqrt(sum);
}

/// ATen's order: eight sums, added up from the first to the last; of the rest the first four are squared before they are added,
/// the last ones multiplied and added at once. Each addition waits for the one before, so several tensors go side by side.
TREADLE_INLINE void norms_of(const NumberRange<float>* tensors, std::int64_t count, float* norms) {
  constexpr int kAtOnce = 4;
  std::int64_t t = 0;
  for (; t + kAtOnce <= count; t += kAtOnce) {
    const NumberRange<float>* four = tensors + t;
    const std::int64_t shortest = std::min({four[0].size, four[1].size, four[2].size, four[3].size});
    Lanes sums[kAtOnce] = {};
    std::int64_t i = 0;
    for (; i + 8 <= shortest; i += 8) {
      for (int k = 0; k < kAtOnce; ++k) add_squares(sums[k], four[k].data + i);
    }
    for (int k = 0; k < kAtOnce; ++k) norms[t + k] = finish_norm(sums[k], four[k], i);
  }
  for (; t < count; ++t) {
    Lanes sums = {};
    norms[t] = finish_norm(sums, tensors[t], 0);
  }
}
void norms_plain(const NumberRange<float>* tensors, std::int64_t count, float* norms) { norms_of(tensors, count, norms); }
TREADLE_AVX2 void norms_avx2(const NumberRange<float>* tensors, std::int64_t count, float* norms) {
  norms_of(tensors, count, norms);
}

}  // namespace

void lerp_kernel(std::span<const LerpTensor<float>> tensors, double weight) { run_lerp(tensors, weight); }
void lerp_kernel(std::span<const LerpTensor<double>> tensors, double weight) { run_lerp(tensors, weight); }

void scale_kernel(std::span<const NumberRange<float>> tensors, double factor) { run_scale(tensors, factor); }
void scale_kernel(std::span<const NumberRange<double>> tensors, double factor) { run_scale(tensors, factor); }

void norm_kernel(std::span<const NumberRange<float>> tensors, float* norms) {
  auto function = has_avx2() ? norms_avx2 : norms_plain;
  std::int64_t total = 0;
  for (const auto& tensor : tensors) total += tensor.size;
  // A tensor is summed by one thread, in one order; the tensors are divided among all.
  auto count = static_cast<std::int64_t>(tensors.size());
  std::int64_t grain = total > kParallelGrain ? 1 + count / (total / kParallelGrain + 1) : count + 1;
  at::parallel_for(0, count, grain,
                   [&](std::int64_t begin, std::int64_t end) { function(tensors.data() + begin, end - begin, norms + begin); });
}

}  // namespace treadle
