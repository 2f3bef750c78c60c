#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace torch::nn {
class Module;
}

namespace treadle::hooks {

/// How many batch norm layers of `model` have exact statistics computed: those of LibTorch (1, 2 and 3 dimensions) and
/// SyncBatchNorm that are in training mode and track statistics.
std::size_t count_bn_layers(torch::nn::Module& model);

/// Replaces the running mean and variance of these layers by the exact ones of the population that `num_iters` calls of `forward`
/// show them, weights fixed and without gradients; loop thread only. `forward` runs the model on one more batch, on this thread;
/// what it changes beside (dropout's random numbers, the count of batches) stays changed. A layer that a call leaves out loses
/// nothing; one that saw no batch at all gets zeros, as with `num_iters` 0.
///
/// A batch of n values in a channel (of SyncBatchNorm: over all ranks) with mean m and unbiased variance v counts n times: the
/// mean is that of m, the variance that of m^2 + v (n - 1) / n less the squared mean. In float, in the order of fvcore's
/// `update_bn_stats`, and equal to it in every bit. See Wu and Johnson, "Rethinking 'Batch' in BatchNorm", section 3.
///
/// Throws ConfigError when `num_iters` is negative; Error when a layer is used twice in one call, which leaves no mean of one
/// batch; and what `forward` throws. Then statistics, counts and momentum of every layer are as they were.
void update_bn_stats(torch::nn::Module& model, const std::function<void()>& forward, std::int64_t num_iters = 200);

}  // namespace treadle::hooks
