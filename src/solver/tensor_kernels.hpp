#pragma once

// The arithmetic of optimizers over many tensors at once, in ATen's order of operations, free of ATen's overhead. Results do not
// depend on the number of threads, nor on whether the processor has AVX2 and FMA (without, the C library's fma does the same,
// slowly).
//
// All scalars come in double and are rounded once to the type of the tensors.

#include <cstdint>
#include <span>

namespace treadle {

/// The numbers of one parameter; the pointers stand for arrays of `size` elements in one memory order, and never overlap.
template <class T>
struct SgdTensor {
  T* param;
  T* grad;
  T* momentum;  ///< null without momentum
  std::int64_t size;
};

struct SgdScalars {
  double lr;
  double momentum;
  double dampening;
  double weight_decay;
  bool nesterov;
  bool maximize;
  double clip_factor;  ///< unless 1, gradients are multiplied by it in place
  bool first;          ///< the momentum buffers hold nothing yet
};

void sgd_kernel(std::span<const SgdTensor<float>> tensors, const SgdScalars& scalars);
void sgd_kernel(std::span<const SgdTensor<double>> tensors, const SgdScalars& scalars);

/// Numbers to read, or to change in place.
template <class T>
struct NumberRange {
  T* data;
  std::int64_t size;
};
/// Multiplies by `factor`.
void scale_kernel(std::span<const NumberRange<float>> tensors, double factor);
void scale_kernel(std::span<const NumberRange<double>> tensors, double factor);
/// The 2-norm of each tensor, summed in the order of ATen's kernel for a contiguous float tensor; `norms` has room for all.
void norm_kernel(std::span<const NumberRange<float>> tensors, float* norms);

/// average += (1 - decay) (value - average), as ATen's lerp.
template <class T>
struct LerpTensor {
  T* average;
  const T* value;
  std::int64_t size;
};
void lerp_kernel(std::span<const LerpTensor<float>> tensors, double weight);
void lerp_kernel(std::span<const LerpTensor<double>> tensors, double weight);

}  // namespace treadle
