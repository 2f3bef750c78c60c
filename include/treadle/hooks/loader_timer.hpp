#pragma once

#include <treadle/data/batch_source.hpp>
#include <treadle/engine/hook_base.hpp>

namespace treadle::hooks {

/// Splits what the step waited for its data: records "data_decode_time" and "data_collate_time", the seconds this rank waited for
/// samples to be made, and for them to be joined and copied to their device. Their sum is "rank_data_time" but for the call
/// itself. Records nothing from a source that does not know. Loop thread only; `source` is borrowed.
class LoaderTimer final : public HookBase {
 public:
  explicit LoaderTimer(const BatchSource& source) : source_(source) {}
  Phase phase() const override { return Phase::timing; }
  void before_step(TrainerBase& trainer) override;
  void after_step(TrainerBase& trainer) override;

 private:
  const BatchSource& source_;
  std::optional<BatchWait> before_;
};

}  // namespace treadle::hooks
