#pragma once

#include <treadle/models/model.hpp>

namespace treadle {

/// Batch norm whose statistics and affine parameters never change, as Detectron2's FrozenBatchNorm2d: "weight", "bias",
/// "running_mean" and "running_var" are buffers, first those of the identity. Loop thread only.
class FrozenBatchNorm2d final : public torch::nn::Module {
 public:
  /// `counts` adds the buffer "num_batches_tracked", which Detectron2 keeps in what was a trained batch norm.
  explicit FrozenBatchNorm2d(std::int64_t channels, double eps = 1e-5, bool counts = false);
  /// `x` [N, channels, H, W]; the same shape and type.
  at::Tensor forward(const at::Tensor& x) const;

 private:
  double eps_;
  at::Tensor weight_, bias_, running_mean_, running_var_;
};

/// What Python's modules make of the states of other versions: for every FrozenBatchNorm2d in `module` that has "weight" but no
/// "running_mean" or "running_var" in `state`, as in models made of Caffe2's, these are 0 and 1 (versions before 2), and a
/// "num_batches_tracked" that it lacks is dropped; a batch norm that is there without "num_batches_tracked", as before PyTorch
/// 0.4.1 and in Caffe2's models, has counted 0.
Dict upgrade_batch_norms(const torch::nn::Module& module, Dict state);

}  // namespace treadle
