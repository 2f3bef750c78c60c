#pragma once

#include <treadle/engine/hook_base.hpp>

#include <cstdint>
#include <memory>

namespace treadle {
class BatchSource;
class Model;
}  // namespace treadle

namespace treadle::hooks {

struct PreciseBNOptions {
  std::int64_t period = 0;      ///< iterations between updates; 0: only in the last iteration
  std::int64_t num_iter = 200;  ///< batches of this rank to take the statistics from, at least 0
};
/// Throws ConfigError that names the field.
void validate(const PreciseBNOptions& options);

/// Gives batch norm layers the exact statistics of the current weights (see `update_bn_stats`) in place of moving averages, every
/// `period` iterations and in the last one: register it in front of what saves and evaluates. Loop thread only; all ranks, each
/// with its own batches. Without layers in training mode it does nothing, and says so when the run begins. The model is borrowed;
/// batches go to the device of its first parameter, and what its losses record is thrown away.
/// State: the source's position ("loader"), so that a resumed run draws the batches that would have come next.
class PreciseBN final : public HookBase {
 public:
  /// Throws Error when `source` is null.
  PreciseBN(Model& model, std::unique_ptr<BatchSource> source, PreciseBNOptions options = {});
  ~PreciseBN() override;
  Phase phase() const override { return Phase::statistics; }
  void before_train(TrainerBase& trainer) override;
  void after_step(TrainerBase& trainer) override;

  /// The same at any time between steps. Throws Error when the source ends early; the layers are then as they were.
  void update_stats();

  Dict state_dict() const override;
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;

 private:
  Model& model_;
  std::unique_ptr<BatchSource> source_;
  PreciseBNOptions options_;
};

}  // namespace treadle::hooks
