// Trains, saves and loads with nothing but what is installed.
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine.hpp>
#include <treadle/models/make_model.hpp>
#include <treadle/solver/sgd.hpp>

#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/linear.h>

#include <iostream>

using namespace treadle;

int main(int, char** arguments) {
  torch::nn::Linear net(4, 1);
  auto model = make_model(net, [](auto& module, const Batch& batch) -> LossDict {
    return {{"mse", torch::nn::functional::mse_loss(module->forward(batch.tensor("x")), batch.tensor("y"))}};
  });
  auto source = make_batch_source([]() -> std::optional<Batch> {
    auto x = torch::randn({16, 4});
    return Batch(Dict{{"x", x}, {"y", x.sum(1, true)}});
  });
  Sgd optimizer(model->parameters(), {.lr = 0.1});
  SimpleTrainer trainer(model, *source, optimizer);
  trainer.train(0, 1);
  const double first = trainer.storage().history("mse").latest();
  trainer.train(1, 100);
  if (!(trainer.storage().history("mse").latest() < 0.01 * first)) return 1;

  Checkpointer(*net, arguments[1]).save("model");
  const auto weight = net->weight.detach().clone();
  torch::NoGradGuard no_grad;
  net->weight.zero_();
  Checkpointer(*net, arguments[1]).resume_or_load("");
  if (!net->weight.equal(weight)) return 1;
  std::cout << "the loss fell; the checkpoint came back\n";
}
