#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

// A kernel is written once, as an inlined template over a range of one tensor, and compiled twice: for the processor that the
// build is for, and for one with AVX2 and FMA, chosen when the program runs.
#if defined(__x86_64__) && defined(__GNUC__)
#define TREADLE_HAS_AVX2_VARIANT 1
#define TREADLE_AVX2 __attribute__((target("avx2,fma")))
#else
#define TREADLE_HAS_AVX2_VARIANT 0
#define TREADLE_AVX2
#endif
#define TREADLE_INLINE [[gnu::always_inline]] inline

namespace treadle {

inline bool has_avx2() {
#if TREADLE_HAS_AVX2_VARIANT
  static const bool supported = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return supported;
#else
  return false;
#endif
}

// The builtins become one instruction inside a function compiled for FMA, and a call of the C library elsewhere.
TREADLE_INLINE float fused_multiply_add(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
TREADLE_INLINE double fused_multiply_add(double a, double b, double c) { return __builtin_fma(a, b, c); }

/// What happens to a gradient before it is used.
enum class Before { nothing, negate, clip };

inline Before before_use(bool maximize, double clip_factor) {
  if (clip_factor != 1) return Before::clip;  // a NaN too
  return maximize ? Before::negate : Before::nothing;
}

/// The gradient to use. Clipping changes it where it lies, as a pass of its own would; `sign` is -1 to go up.
template <Before before, class T>
TREADLE_INLINE T prepared(T& gradient, T clip_factor, T sign) {
  if constexpr (before == Before::nothing) return gradient;
  if constexpr (before == Before::negate) return -gradient;
  T clipped = gradient * clip_factor;
  gradient = clipped;
  return clipped * sign;
}

/// ATen's lerp takes the form that is exact at the nearer end.
template <class T>
TREADLE_INLINE T lerp(T from, T to, T weight, T weight_minus_one, bool near_from) {
  T difference = to - from;
  return near_from ? fused_multiply_add(weight, difference, from) : fused_multiply_add(weight_minus_one, difference, to);
}

/// Below this many numbers a second thread costs more than it gives (ATen's own grain size).
inline constexpr std::int64_t kParallelGrain = 32768;

/// Calls `use(tensor, begin, end)` for ranges that together cover every element of every tensor once, on all threads.
template <class Tensor, class Use>
void for_each_range(std::span<const Tensor> tensors, const Use& use) {
  std::int64_t total = 0;
  for (const Tensor& tensor : tensors) total += tensor.size;
  if (total <= kParallelGrain || at::get_num_threads() == 1 || at::in_parallel_region()) {
    for (const Tensor& tensor : tensors) use(tensor, 0, tensor.size);
    return;
  }
  std::vector<std::int64_t> ends;
  ends.reserve(tensors.size());
  for (const Tensor& tensor : tensors) ends.push_back((ends.empty() ? 0 : ends.back()) + tensor.size);
  at::parallel_for(0, total, kParallelGrain, [&](std::int64_t begin, std::int64_t end) {
    auto i = static_cast<std::size_t>(std::upper_bound(ends.begin(), ends.end(), begin) - ends.begin());
    for (std::int64_t at = begin; at < end; ++i) {
      std::int64_t tensor_begin = ends[i] - tensors[i].size;
      std::int64_t range_end = std::min(end, ends[i]);
      if (range_end > at) use(tensors[i], at - tensor_begin, range_end - tensor_begin);
      at = std::max(at, range_end);
    }
  });
}

}  // namespace treadle
