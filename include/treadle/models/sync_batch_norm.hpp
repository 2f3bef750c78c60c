#pragma once

#include <torch/nn/modules/batchnorm.h>

#include <memory>
#include <string>

namespace treadle {

class Group;

/// Batch norm over [N, C, …] whose mean and variance are those of the batches of all ranks (Python's SyncBatchNorm). Loop thread
/// only.
///
/// In training its forward and backward passes are collectives, so all ranks run it equally often, with batches of any size;
/// sums are in double precision. In evaluation, and in a process alone, it is LibTorch's batch norm. Parameters and buffers are
/// those of `torch::nn::BatchNorm2d`, so checkpoints of the two are the same. Throws CommError as every collective, and
/// c10::ValueError when there is only one value per channel over all ranks.
class SyncBatchNormImpl : public torch::nn::BatchNorm2dImpl {
 public:
  SyncBatchNormImpl(const torch::nn::BatchNorm2dOptions& settings, std::shared_ptr<Group> group);
  at::Tensor forward(const at::Tensor& input);

 private:
  std::shared_ptr<Group> group_;
};
TORCH_MODULE(SyncBatchNorm);

}  // namespace treadle
