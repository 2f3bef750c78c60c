// Writes what Python reads: a checkpoint with the optimizer's state, and metrics. read.py, beside this file, is the other side.
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine.hpp>
#include <treadle/events/json_writer.hpp>
#include <treadle/hooks.hpp>
#include <treadle/models/make_model.hpp>
#include <treadle/solver/adamw.hpp>

#include <torch/torch.h>

#include <filesystem>
#include <iostream>

using namespace treadle;

int main() {
  torch::manual_seed(0);
  std::filesystem::remove_all("output/python_side");
  std::filesystem::create_directories("output/python_side");
  torch::nn::Sequential net(torch::nn::Linear(4, 8), torch::nn::ReLU(), torch::nn::Linear(8, 1));
  auto model = make_model(net, [](auto& module, const Batch& batch) -> LossDict {
    return {{"mse", torch::mse_loss(module->forward(batch.tensor("x")), batch.tensor("y"))}};
  });
  auto source = make_batch_source([]() -> std::optional<Batch> {
    auto x = torch::randn({64, 4});
    return Batch(Dict{{"x", x}, {"y", x.prod(1, true)}});
  });
  AdamW optimizer(model->parameters(), {.lr = 0.01});
  SimpleTrainer trainer(model, *source, optimizer);
  Checkpointer checkpointer(*model, "output/python_side");
  checkpointer.add_checkpointable("trainer", trainer);
  trainer.add_hook<hooks::PeriodicCheckpointer>(checkpointer, hooks::PeriodicCheckpointerOptions{.period = 100});
  std::vector<hooks::PeriodicWriter::NamedWriter> writers;
  writers.emplace_back("metrics.json",
                       std::make_unique<JSONWriter>(JSONWriterOptions{.file = "output/python_side/metrics.json"}));
  trainer.add_hook<hooks::PeriodicWriter>(std::move(writers), 20);
  trainer.train(0, 200);
  std::cout << "first weight " << net->parameters()[0][0][0].item<float>() << "\n";
}
