// A loop of your own that stays in charge: between the iterations of a trainer it does what else there is to do. Here a device
// warms up, and its gain is learned meanwhile. Hooks, metrics and stops are those of any run.
#include <treadle/data/batch_source.hpp>
#include <treadle/engine.hpp>
#include <treadle/hooks.hpp>
#include <treadle/models/make_model.hpp>
#include <treadle/solver/sgd.hpp>

#include <torch/torch.h>

#include <iostream>

using namespace treadle;

struct Device {
  double gain = 1;
  void warm_up() { gain += 0.01 * (2 - gain); }
  bool warm() const { return gain > 1.99; }
};

int main() {
  torch::manual_seed(0);
  Device device;
  torch::nn::Linear net(torch::nn::LinearOptions(1, 1).bias(false));
  auto model = make_model(net, [](auto& module, const Batch& batch) -> LossDict {
    return {{"mse", torch::mse_loss(module->forward(batch.tensor("x")), batch.tensor("y"))}};
  });
  auto source = make_batch_source([&]() -> std::optional<Batch> {
    auto x = torch::randn({32, 1});
    return Batch(Dict{{"x", x}, {"y", device.gain * x}});
  });
  Sgd optimizer(model->parameters(), {.lr = 0.25});

  SimpleTrainer trainer(model, *source, optimizer, {.gather_metric_period = 10});
  trainer.add_hook<hooks::IterationTimer>();
  trainer.start_training(0, 10'000);
  while (trainer.run_iteration()) {
    device.warm_up();
    if (device.warm()) trainer.request_stop("the device is warm");
  }
  const double error = std::abs(net->weight.item<double>() - device.gain);
  std::cout << "stopped after " << trainer.iter() << " iterations, since " << trainer.stop_reason() << "; the learned gain is "
            << (error < 0.01 ? "right" : "wrong") << "\n";
}
