// A module of your own, trained by SimpleTrainer with three hooks: no config, no files. It fits y = sin(x).
#include <treadle/data/batch_source.hpp>
#include <treadle/engine.hpp>
#include <treadle/hooks.hpp>
#include <treadle/models/make_model.hpp>

#include <torch/torch.h>

#include <iostream>

int main() {
  using namespace treadle;
  torch::manual_seed(0);
  torch::nn::Sequential net(torch::nn::Linear(1, 64), torch::nn::Tanh(), torch::nn::Linear(64, 1));
  auto model = make_model(net, [](auto& module, const Batch& batch) -> LossDict {
    return {{"mse", torch::mse_loss(module->forward(batch.tensor("x")), batch.tensor("y"))}};
  });
  auto source = make_batch_source([]() -> std::optional<Batch> {
    auto x = torch::empty({128, 1}).uniform_(-3, 3);
    return Batch(Dict{{"x", x}, {"y", x.sin()}});
  });
  torch::optim::Adam optimizer(model->parameters(), 0.01);

  SimpleTrainer trainer(model, *source, optimizer);
  trainer.add_hook<hooks::IterationTimer>();
  trainer.add_hook<hooks::EvalHook>(
      [&, x = torch::linspace(-3, 3, 200).unsqueeze(1)] {
        torch::NoGradGuard no_gradients;
        return Dict{{"validation", Dict{{"mse", torch::mse_loss(net->forward(x), x.sin()).item<double>()}}}};
      },
      hooks::EvalHookOptions{.period = 500});
  trainer.add_hook<hooks::CallbackHook>(hooks::Callbacks{.after_step = [](TrainerBase& t) {
    if (t.iter() % 250 == 0) std::cout << "iteration " << t.iter() << ": " << t.storage().history("mse").latest() << "\n";
  }});
  trainer.train(0, 1500);
  std::cout << "fitted: mean squared error " << trainer.storage().history("validation/mse").latest() << "\n";
}
