// A network written in Python, trained here, and taken back to Python: export.py, beside this file, makes net.pt before this
// program runs, check.py loads the weights after it.
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine.hpp>
#include <treadle/hooks.hpp>
#include <treadle/models/scripted_model.hpp>
#include <treadle/solver/sgd.hpp>

#include <torch/torch.h>

#include <iostream>

using namespace treadle;

/// Points of the plane, and whether they lie in a circle.
Batch points(std::int64_t count) {
  auto x = torch::empty({count, 2}).uniform_(-1, 1);
  return Batch(Dict{{"x", x}, {"label", (x.norm(2, 1) < 0.8).to(torch::kLong)}});
}

int main() {
  torch::manual_seed(0);
  auto model = std::make_shared<ScriptedModel>(ScriptedModelOptions{.file = "output/scripted_model/net.pt",
                                                                    .inputs = {"x"},
                                                                    .loss = ScriptedModelOptions::Loss::method,
                                                                    .loss_method = "losses",
                                                                    .loss_inputs = {"x", "label"}});
  auto source = make_batch_source([]() -> std::optional<Batch> { return points(128); });
  Sgd optimizer(model->parameters(), {.lr = 0.1, .momentum = 0.9});
  SimpleTrainer trainer(model, *source, optimizer);
  Checkpointer checkpointer(*model, "output/scripted_model");
  checkpointer.add_checkpointable("trainer", trainer);
  trainer.add_hook<hooks::PeriodicCheckpointer>(checkpointer, hooks::PeriodicCheckpointerOptions{.period = 500});
  trainer.train(0, 500);

  model->eval();
  torch::NoGradGuard no_gradients;
  const Batch test = points(2000);
  const List predictions = model->predict(test);
  std::int64_t right = 0;
  for (std::size_t i = 0; i < predictions.size(); ++i) {
    const auto& scores = predictions[i].as_dict().at("scores").as_tensor();
    const auto label = test.tensor("label")[static_cast<std::int64_t>(i)];
    if (scores.argmax().item<std::int64_t>() == label.item<std::int64_t>()) ++right;
  }
  std::cout << "losses: cross_entropy " << trainer.storage().history("cross_entropy").median(20) << ", size "
            << trainer.storage().history("size").median(20) << "\n";
  std::cout << "right: " << 100.0 * static_cast<double>(right) / 2000 << " %\n";
}
