// Regression on a table in a CSV file: a small network, evaluated every 200 iterations on rows it does not train on, the best
// weights kept, stopped when the error no longer falls.
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/data/build.hpp>
#include <treadle/data/csv_dataset.hpp>
#include <treadle/engine.hpp>
#include <treadle/hooks.hpp>
#include <treadle/models/make_model.hpp>
#include <treadle/solver/adamw.hpp>

#include <torch/torch.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <numeric>

using namespace treadle;

/// A table to learn from: how far a ball flies that is thrown at some speed and angle, measured with an error.
void write_table(const std::string& file) {
  std::ofstream table(file);
  table << "speed,angle,distance\n";
  Rng rng(7);
  for (int row = 0; row < 2000; ++row) {
    const double speed = rng.uniform(1, 10), angle = rng.uniform(0.1, 1.4);
    table << speed << "," << angle << "," << speed * speed * std::sin(2 * angle) / 9.81 + 0.02 * rng.normal() << "\n";
  }
}

std::shared_ptr<const Dataset> rows(const std::shared_ptr<const Dataset>& table, std::int64_t first, std::int64_t last) {
  std::vector<std::int64_t> indices(static_cast<std::size_t>(last - first));
  std::iota(indices.begin(), indices.end(), first);
  return std::make_shared<SubsetDataset>(table, indices);
}

int main() {
  torch::manual_seed(0);
  std::filesystem::create_directories("output/regression_mlp");
  write_table("output/regression_mlp/throws.csv");
  auto table = std::make_shared<CsvDataset>(CsvOptions{.file = "output/regression_mlp/throws.csv", .targets = {"distance"}});
  const auto group = make_single_process_group();
  auto train_loader = build_train_loader(rows(table, 0, 1600), {.total_batch_size = 64, .seed = 1}, group);
  auto test_loader = build_test_loader(rows(table, 1600, 2000), {.batch_size = 400}, group);

  torch::nn::Sequential net(torch::nn::Linear(2, 64), torch::nn::SiLU(), torch::nn::Linear(64, 64), torch::nn::SiLU(),
                            torch::nn::Linear(64, 1));
  auto model = make_model(net, [](auto& module, const Batch& batch) -> LossDict {
    return {{"mse", torch::mse_loss(module->forward(batch.tensor("x")), batch.tensor("y"))}};
  });
  auto evaluate = [&] {
    torch::NoGradGuard no_gradients;
    double squares = 0;
    while (auto batch = test_loader->next()) {
      squares += (net->forward(batch->tensor("x")) - batch->tensor("y")).square().sum().item<double>();
    }
    return Dict{{"test", Dict{{"rmse", std::sqrt(squares / 400)}}}};
  };

  AdamW optimizer(model->parameters(), {.lr = 0.003});
  SimpleTrainer trainer(model, *train_loader, optimizer);
  Checkpointer checkpointer(*model, "output/regression_mlp");
  checkpointer.add_checkpointable("trainer", trainer);
  trainer.add_hook<hooks::EvalHook>(evaluate, hooks::EvalHookOptions{.period = 200});
  trainer.add_hook<hooks::BestCheckpointer>(
      checkpointer, hooks::BestCheckpointerOptions{.period = 200, .metric = "test/rmse", .mode = hooks::MetricMode::min});
  trainer.add_hook<hooks::EarlyStopping>(
      hooks::EarlyStoppingOptions{.metric = "test/rmse", .mode = hooks::MetricMode::min, .patience = 5});
  trainer.train(0, 10000);

  checkpointer.load("output/regression_mlp/model_best.pth", std::vector<std::string>{});
  const double error = evaluate().at("test").as_dict().at("rmse").as_double();
  std::cout << "stopped after iteration " << trainer.iter() - 1 << "; the best weights miss by " << error << " m\n";
  std::cout << (error < 0.06 ? "as good as the measurement allows\n" : "worse than it should be\n");
}
