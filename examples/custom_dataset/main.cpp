// A data set of your own: two spirals, made when they are asked for. Two threads make the batches; each sample is shaken by
// random numbers that depend on nothing but the seed and its place in the run.
#include <treadle/data/build.hpp>
#include <treadle/engine.hpp>
#include <treadle/models/make_model.hpp>
#include <treadle/solver/adamw.hpp>

#include <torch/torch.h>

#include <cmath>
#include <iostream>

using namespace treadle;

class Spirals final : public Dataset {
 public:
  std::int64_t size() const override { return 2000; }
  // Called by many threads at once: it only reads.
  Sample get(std::int64_t index, Rng& rng) const override {
    const std::int64_t label = index % 2, place = index / 2;
    const double t = 0.25 + static_cast<double>(place) / 1000 * 2.5, angle = 2 * t + static_cast<double>(label) * M_PI;
    auto x = torch::tensor({t * std::cos(angle) + 0.05 * rng.normal(), t * std::sin(angle) + 0.05 * rng.normal()});
    return {{"x", x.to(torch::kFloat)}, {"label", label}};
  }
};

int main() {
  torch::manual_seed(0);
  torch::nn::Sequential net(torch::nn::Linear(2, 64), torch::nn::Tanh(), torch::nn::Linear(64, 64), torch::nn::Tanh(),
                            torch::nn::Linear(64, 2));
  auto model = make_model(net, [](auto& module, const Batch& batch) -> LossDict {
    return {{"cross_entropy", torch::nn::functional::cross_entropy(module->forward(batch.tensor("x")), batch.tensor("label"))}};
  });
  auto spirals = std::make_shared<Spirals>();
  auto loader = build_train_loader(spirals, {.total_batch_size = 100, .num_workers = 2, .seed = 1}, make_single_process_group());
  AdamW optimizer(model->parameters(), {.lr = 0.01});
  SimpleTrainer trainer(model, *loader, optimizer);
  trainer.train(0, 600);

  torch::NoGradGuard no_gradients;
  auto test = build_test_loader(spirals, {.batch_size = 500}, make_single_process_group());
  std::int64_t right = 0;
  while (auto batch = test->next()) {
    right += (net->forward(batch->tensor("x")).argmax(1) == batch->tensor("label")).sum().item<std::int64_t>();
  }
  std::cout << "right: " << 100.0 * static_cast<double>(right) / 2000 << " %\n";
}
