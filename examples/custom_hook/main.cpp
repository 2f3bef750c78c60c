// A hook of your own. It watches for spikes: steps whose loss is more than thirty times the median of the fifty before. The count
// is state: it goes into checkpoints and comes back with them.
#include <treadle/base/value_view.hpp>
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine.hpp>
#include <treadle/hooks.hpp>
#include <treadle/models/make_model.hpp>
#include <treadle/solver/sgd.hpp>

#include <torch/torch.h>

#include <iostream>

using namespace treadle;

class LossSpikes final : public HookBase {
 public:
  void after_step(TrainerBase& trainer) override {
    const HistoryBuffer& losses = trainer.storage().history("total_loss");
    if (losses.size() > 50 && losses.latest() > 30 * losses.median(50)) {
      ++spikes_;
      std::cout << "iteration " << trainer.iter() << ": the loss jumped to " << losses.latest() << "\n";
    }
    trainer.storage().put_scalar("loss_spikes", static_cast<double>(spikes_));
  }

  Dict state_dict() const override { return {{"spikes", spikes_}}; }
  void check_state_dict(const Dict& state) const override { state.at("spikes").as_int(); }
  void load_state_dict(const Dict& state) override { spikes_ = state.at("spikes").as_int(); }

 private:
  std::int64_t spikes_ = 0;
};

int main() {
  torch::manual_seed(0);
  torch::nn::Linear net(8, 1);
  auto model = make_model(net, [](auto& module, const Batch& batch) -> LossDict {
    return {{"mse", torch::mse_loss(module->forward(batch.tensor("x")), batch.tensor("y"))}};
  });
  // Every 97th batch has an outlier.
  auto source = make_batch_source([batches = 0]() mutable -> std::optional<Batch> {
    auto x = torch::randn({32, 8});
    auto y = x.sum(1, true) + 0.1 * torch::randn({32, 1});
    if (++batches % 97 == 0) y[0] += 20;
    return Batch(Dict{{"x", x}, {"y", y}});
  });
  Sgd optimizer(model->parameters(), {.lr = 0.05});

  auto run = [&](std::int64_t first, std::int64_t last) {
    SimpleTrainer trainer(model, *source, optimizer);
    trainer.add_hook<LossSpikes>();
    Checkpointer checkpointer(*model, "output/custom_hook");
    checkpointer.add_checkpointable("trainer", trainer);
    trainer.add_hook<hooks::PeriodicCheckpointer>(checkpointer, hooks::PeriodicCheckpointerOptions{.period = 200});
    if (first > 0) checkpointer.resume_or_load("");
    trainer.train(first, last);
    return trainer.storage().history("loss_spikes").latest();
  };
  run(0, 200);
  const double spikes = run(200, 400);
  std::cout << "spikes in 400 iterations, in two runs: " << spikes << "\n";
}
