#pragma once

#include <treadle/comm/gradient_reducer.hpp>
#include <treadle/models/model.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace treadle {

class Group;
class UnitGradient;

struct DistributedOptions {
  GradientOptions gradients{};
  /// Before every forward pass with gradients all ranks take the buffers of rank 0. Otherwise each keeps its own, as Detectron2
  /// does.
  bool broadcast_buffers = false;
};

/// A Model whose gradients are averaged over the ranks while the backward pass goes on (Python's DistributedDataParallel): of
/// mean losses over equal shards they are the gradients of the whole batch. Loop thread only.
///
/// It has the parameters, buffers and children of `model` under the same names, and the same tensors. The constructor is a
/// collective: it compares names, types and shapes of the parameters that need a gradient on all ranks (CommError that names the
/// first that differs, or when there is none), then gives all ranks the parameters and buffers of rank 0. Throws Error without a
/// model or a group, or for a group of one. When the group has been rebuilt the next call of `losses` does so again.
class DistributedModel final : public Model {
 public:
  DistributedModel(std::shared_ptr<Model> model, std::shared_ptr<Group> group, DistributedOptions options = {});
  ~DistributedModel() override;

  /// Those of `model` on this rank's batch. With gradients enabled, one backward pass must follow on every rank.
  LossDict losses(const Batch& batch) override;
  List predict(const Batch& batch) override { return model_->predict(batch); }
  std::vector<std::string> non_persistent() const override { return model_->non_persistent(); }
  Dict upgrade_state(Dict state) const override { return model_->upgrade_state(std::move(state)); }
  void train(bool on = true) override;

  /// Off: backward passes add up gradients on this rank and send nothing; the first one behind `losses` with it on again reduces
  /// the sum.
  void set_gradient_sync(bool on) noexcept { sync_ = on; }
  /// `loss.backward()`, with errors that say which rank is missing (CommError) or which parameters took no part (Error).
  void backward(const at::Tensor& loss);

  Model& inner() noexcept { return *model_; }
  const DistributedOptions& options() const noexcept { return options_; }

 private:
  void connect();
  void take_mode();

  std::shared_ptr<Model> model_;
  std::shared_ptr<Group> group_;
  DistributedOptions options_;
  std::unique_ptr<GradientReducer> reducer_;
  std::unique_ptr<UnitGradient> unit_gradient_;
  std::int64_t generation_ = -1;
  bool sync_ = true;
  bool reduces_ = false;  // the next backward pass does
};

/// `model` itself in a process alone, else a DistributedModel around it.
std::shared_ptr<Model> create_ddp_model(std::shared_ptr<Model> model, std::shared_ptr<Group> group,
                                        DistributedOptions options = {});

}  // namespace treadle
