#pragma once

#include <torch/nn/modules/batchnorm.h>

#include <cstddef>
#include <memory>

namespace treadle {

class Group;

/// Batch norm over [N, C, …] whose mean and variance are those of the batches of all ranks (Python's SyncBatchNorm). Loop thread
/// only.
///
/// In training its forward and backward passes are collectives, so all ranks run it equally often, with batches of any size,
/// empty ones too; sums are in double precision. Without running statistics evaluation takes those of the batches as well, and is
/// a collective. With them, and in a process alone, it is LibTorch's batch norm. Parameters and buffers are those of
/// `torch::nn::BatchNorm2d`, so checkpoints of the two are the same. Throws CommError as every collective, and c10::ValueError
/// when there is only one value per channel over all ranks.
///
/// `at::RecordFunction` sees a training pass over several ranks as "treadle::sync_batch_norm" with the inputs of
/// "aten::batch_norm" as far as the running mean, and behind them the number of values per channel over all ranks.
class SyncBatchNormImpl : public torch::nn::BatchNorm2dImpl {
 public:
  SyncBatchNormImpl(const torch::nn::BatchNorm2dOptions& settings, std::shared_ptr<Group> group);
  /// Without a group, for a model that is built before there is one: training throws Error until `set_group` gives it.
  explicit SyncBatchNormImpl(const torch::nn::BatchNorm2dOptions& settings);
  at::Tensor forward(const at::Tensor& input);
  /// Throws Error when `group` is null.
  void set_group(std::shared_ptr<Group> group);

 private:
  std::shared_ptr<Group> group_;
};
TORCH_MODULE(SyncBatchNorm);

/// Gives `group` to every SyncBatchNorm in `module`; how many there are. DefaultTrainer does so with the model it has built.
std::size_t set_sync_batch_norm_group(torch::nn::Module& module, const std::shared_ptr<Group>& group);

}  // namespace treadle
