#include "solver/adam_kernel.hpp"

#include "solver/multi_tensor.hpp"

#include <array>
#include <cmath>
#include <utility>

namespace treadle {
namespace {

template <Before before, bool coupled, class T>
TREADLE_INLINE T used_gradient(T& gradient, T p, const AdamFactors<T>& by) {
  T g = prepared<before>(gradient, by.clip_factor, by.sign);
  return coupled ? fused_multiply_add(by.coupled_decay, p, g) : g;
}

/// Decay of the parameter belongs here, so that a parameter is read and written once.
template <bool shrink, class T>
TREADLE_INLINE T updated(T p, T m, T root, const AdamFactors<T>& by) {
  T denominator = root / by.root_correction + by.eps;
  return (shrink ? p * by.shrink : p) + (by.minus_step_size * m) / denominator;
}

// Pointers and factors are parameters by value: only there does g++ believe `__restrict`, without which so many streams are not
// vectorized.

template <class T, Before before, bool coupled, bool near_from>
TREADLE_INLINE void moments_range(const T* __restrict p, T* __restrict gradient, T* __restrict m, T* __restrict v,
                                  T* __restrict square, std::int64_t size, const AdamFactors<T> by) {
  for (std::int64_t i = 0; i < size; ++i) {
    T g = used_gradient<before, coupled>(gradient[i], p[i], by);
    m[i] = lerp(m[i], g, by.lerp_weight, by.lerp_weight_minus_one, near_from);
    T next = fused_multiply_add(by.square_weight * g, g, v[i] * by.beta2);
    v[i] = next;
    square[i] = next;
  }
}

template <class T>
TREADLE_INLINE void maximum_range(T* __restrict maximum, T* __restrict square, std::int64_t size) {
  for (std::int64_t i = 0; i < size; ++i) {
    // A NaN on either side stays.
    T larger = !(square[i] <= maximum[i]) && maximum[i] == maximum[i] ? square[i] : maximum[i];
    maximum[i] = larger;
    square[i] = larger;
  }
}

template <class T, bool shrink>
TREADLE_INLINE void update_range(T* __restrict p, const T* __restrict m, const T* __restrict root, std::int64_t size,
                                 const AdamFactors<T> by) {
  for (std::int64_t i = 0; i < size; ++i) p[i] = updated<shrink>(p[i], m[i], root[i], by);
}

template <class T, int variant>
struct AdamVariant {
  static constexpr Before before = static_cast<Before>(variant / 8);
  static constexpr bool coupled = (variant & 4) != 0, shrink = (variant & 2) != 0, near_from = (variant & 1) != 0;

  TREADLE_INLINE static void moments(const AdamTensor<T>& at, const AdamFactors<T>& by) {
    moments_range<T, before, coupled, near_from>(at.param, at.grad, at.exp_avg, at.exp_avg_sq, at.denominator, at.size, by);
  }
  TREADLE_INLINE static void update(const AdamTensor<T>& at, const AdamFactors<T>& by) {
    update_range<T, shrink>(at.param, at.exp_avg, at.denominator, at.size, by);
  }
  TREADLE_INLINE static void maximum(const AdamTensor<T>& at) { maximum_range(at.max_exp_avg_sq, at.denominator, at.size); }
};

template <class T, int variant>
struct Plain {
  using Variant = AdamVariant<T, variant>;
  static void moments(const AdamTensor<T>& at, const AdamFactors<T>& by) { Variant::moments(at, by); }
  static void update(const AdamTensor<T>& at, const AdamFactors<T>& by) { Variant::update(at, by); }
  static void maximum(const AdamTensor<T>& at) { Variant::maximum(at); }
};

template <class T, int variant>
struct Avx2 {
  using Variant = AdamVariant<T, variant>;
  TREADLE_AVX2 static void moments(const AdamTensor<T>& at, const AdamFactors<T>& by) { Variant::moments(at, by); }
  TREADLE_AVX2 static void update(const AdamTensor<T>& at, const AdamFactors<T>& by) { Variant::update(at, by); }
  TREADLE_AVX2 static void maximum(const AdamTensor<T>& at) { Variant::maximum(at); }
};

template <class T, template <class, int> class Compiled, int... variant>
constexpr std::array<AdamFunctions<T>, 24> table(std::integer_sequence<int, variant...>) {
  return {AdamFunctions<T>{Compiled<T, variant>::moments, Compiled<T, variant>::update, Compiled<T, variant>::maximum}...};
}

template <class T>
AdamFactors<T> factors(const AdamScalars& scalars) {
  auto step = static_cast<double>(scalars.step);
  double weight = 1 - scalars.beta1;
  return {.clip_factor = static_cast<T>(scalars.clip_factor),
          .sign = static_cast<T>(scalars.maximize ? -1 : 1),
          .coupled_decay = static_cast<T>(scalars.weight_decay),
          .shrink = static_cast<T>(1 - scalars.lr * scalars.weight_decay),
          .lerp_weight = static_cast<T>(weight),
          .lerp_weight_minus_one = static_cast<T>(weight) - 1,
          .beta2 = static_cast<T>(scalars.beta2),
          .square_weight = static_cast<T>(1 - scalars.beta2),
          .minus_step_size = static_cast<T>(-(scalars.lr / (1 - std::pow(scalars.beta1, step)))),
          .root_correction = static_cast<T>(std::sqrt(1 - std::pow(scalars.beta2, step))),
          .eps = static_cast<T>(scalars.eps)};
}

}  // namespace

template <class T>
AdamKernel<T>::AdamKernel(const AdamScalars& scalars) : factors_(factors<T>(scalars)) {
  static constexpr auto plain = table<T, Plain>(std::make_integer_sequence<int, 24>{});
  static constexpr auto avx2 = table<T, Avx2>(std::make_integer_sequence<int, 24>{});
  auto before = static_cast<std::size_t>(before_use(scalars.maximize, scalars.clip_factor));
  bool decays = scalars.weight_decay != 0;
  bool near_from = std::abs(factors_.lerp_weight) < static_cast<T>(0.5);
  std::size_t variant =
      before * 8 + (decays && !scalars.decoupled ? 4 : 0) + (decays && scalars.decoupled ? 2 : 0) + (near_from ? 1 : 0);
  functions_ = (has_avx2() ? avx2 : plain)[variant];
}

template <class T>
void AdamKernel<T>::moments(std::span<const AdamTensor<T>> tensors) const {
  for (const AdamTensor<T>& tensor : tensors) {
    functions_.moments(tensor, factors_);
    if (tensor.max_exp_avg_sq) functions_.maximum(tensor);
  }
}

template <class T>
void AdamKernel<T>::update(std::span<const AdamTensor<T>> tensors) const {
  for (const AdamTensor<T>& tensor : tensors) functions_.update(tensor, factors_);
}

template class AdamKernel<float>;
template class AdamKernel<double>;

}  // namespace treadle
