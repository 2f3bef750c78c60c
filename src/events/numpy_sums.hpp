#pragma once

#include <cstddef>

namespace treadle {

/// numpy's pairwise summation (`pairwise_sum` of its ufunc loops), in its order of additions: a plain loop below 8 numbers, eight
/// accumulators up to 128, halves (the first a multiple of 8) above.
inline double pairwise_sum(const double* x, std::size_t n) {
  if (n < 8) {
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += x[i];
    return sum;
  }
  if (n <= 128) {
    double r[8];
    for (std::size_t j = 0; j < 8; ++j) r[j] = x[j];
    std::size_t i = 8;
    for (; i + 8 <= n; i += 8) {
      for (std::size_t j = 0; j < 8; ++j) r[j] += x[i + j];
    }
    double sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
    for (; i < n; ++i) sum += x[i];
    return sum;
  }
  const std::size_t half = n / 2 - n / 2 % 8;
  return pairwise_sum(x, half) + pairwise_sum(x + half, n - half);
}

/// `np.mean` of float64 numbers: the sum starts from +0, so that the mean of negative zeros is +0. NaN when there is none.
inline double numpy_mean(const double* x, std::size_t n) { return (0.0 + pairwise_sum(x, n)) / static_cast<double>(n); }

}  // namespace treadle
