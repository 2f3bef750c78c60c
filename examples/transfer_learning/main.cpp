// Transfer learning by matching names. A network is trained on one task and saved; another one, whose trunk stands under another
// name and whose head has another size, takes over what fits. The trunk is frozen and the head alone is trained.
#include <treadle/checkpoint/detection_checkpointer.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine.hpp>
#include <treadle/models/make_model.hpp>
#include <treadle/solver/adamw.hpp>

#include <torch/torch.h>

#include <iostream>

using namespace treadle;

struct Net : torch::nn::Module {
  Net(const std::string& trunk_name, std::int64_t classes) {
    trunk = register_module(trunk_name, torch::nn::Sequential(torch::nn::Linear(2, 64), torch::nn::Tanh(),
                                                              torch::nn::Linear(64, 64), torch::nn::Tanh()));
    head = register_module("head", torch::nn::Linear(64, classes));
  }
  at::Tensor forward(const at::Tensor& x) { return head(trunk->forward(x)); }
  torch::nn::Sequential trunk{nullptr};
  torch::nn::Linear head{nullptr};
};

/// Points of the plane; the class is the number of the ring they lie in.
std::unique_ptr<BatchSource> rings(std::int64_t classes) {
  return make_batch_source([classes]() -> std::optional<Batch> {
    auto x = torch::empty({128, 2}).uniform_(-1, 1);
    auto label = (x.norm(2, 1) * 0.7 * static_cast<double>(classes)).to(torch::kLong).clamp_max(classes - 1);
    return Batch(Dict{{"x", x}, {"label", label}});
  });
}

double train(const std::shared_ptr<Net>& net, std::int64_t classes, std::int64_t iterations) {
  auto model = make_model(net, [](auto& module, const Batch& batch) -> LossDict {
    return {{"cross_entropy", torch::nn::functional::cross_entropy(module->forward(batch.tensor("x")), batch.tensor("label"))}};
  });
  std::vector<at::Tensor> trainable;
  for (const auto& parameter : model->parameters()) {
    if (parameter.requires_grad()) trainable.push_back(parameter);
  }
  auto source = rings(classes);
  AdamW optimizer(trainable, {.lr = 0.01});
  SimpleTrainer trainer(model, *source, optimizer);
  trainer.train(0, iterations);
  return trainer.storage().history("cross_entropy").median(20);
}

int main() {
  torch::manual_seed(0);
  auto teacher = std::make_shared<Net>("trunk", 5);
  train(teacher, 5, 1500);
  Checkpointer(*teacher, "output/transfer_learning").save("model_final");

  auto student = std::make_shared<Net>("backbone", 4);
  DetectionCheckpointer(*student).load("output/transfer_learning/model_final.pth?matching_heuristics=True");
  for (auto& parameter : student->trunk->parameters()) parameter.set_requires_grad(false);
  const double taught = train(student, 4, 100);

  auto beginner = std::make_shared<Net>("backbone", 4);
  for (auto& parameter : beginner->trunk->parameters()) parameter.set_requires_grad(false);
  const double alone = train(beginner, 4, 100);
  std::cout << "loss with a taught trunk " << taught << ", with a random one " << alone << "\n";
  std::cout << (taught < alone ? "the teaching helped" : "the teaching did not help") << "\n";
}
