#pragma once

// The arithmetic of Adam and AdamW, as `tensor_kernels.hpp` does it for others. It comes in two halves because the square root
// between them is ATen's: the last bit of its results depends on ATen's vector library.

#include <cstdint>
#include <span>

namespace treadle {

/// The numbers of one parameter; the pointers stand for arrays of `size` elements in one memory order, and never overlap.
template <class T>
struct AdamTensor {
  T* param;
  T* grad;
  T* exp_avg;
  T* exp_avg_sq;
  T* max_exp_avg_sq;  ///< null without amsgrad
  T* denominator;     ///< scratch: between the halves exp_avg_sq (with amsgrad its maximum), of which the caller takes the square
                      ///< root
  std::int64_t size;
};

struct AdamScalars {
  double lr;
  double beta1;
  double beta2;
  double eps;
  double weight_decay;
  bool decoupled;  ///< weight decay as in AdamW
  bool maximize;
  double clip_factor;  ///< unless 1, gradients are multiplied by it in place
  std::int64_t step;   ///< counted from 1
};

/// Factors of one step, rounded once from double to the type of the tensors.
template <class T>
struct AdamFactors {
  T clip_factor, sign, coupled_decay, shrink, lerp_weight, lerp_weight_minus_one, beta2, square_weight, minus_step_size,
      root_correction, eps;
};

template <class T>
struct AdamFunctions {
  void (*moments)(const AdamTensor<T>&, const AdamFactors<T>&);
  void (*update)(const AdamTensor<T>&, const AdamFactors<T>&);
  void (*maximum)(const AdamTensor<T>&);
};

/// One step with fixed scalars, for float or double. Immutable; any thread.
template <class T>
class AdamKernel {
 public:
  explicit AdamKernel(const AdamScalars& scalars);

  /// The first half: moments.
  void moments(std::span<const AdamTensor<T>> tensors) const;
  /// The second half: the parameter, with `decoupled` its decay too.
  void update(std::span<const AdamTensor<T>> tensors) const;

 private:
  AdamFactors<T> factors_;
  AdamFunctions<T> functions_;
};

extern template class AdamKernel<float>;
extern template class AdamKernel<double>;

}  // namespace treadle
