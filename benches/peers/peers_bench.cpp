// A training step of Treadle, with a timer, a schedule and metrics written every 20 iterations, against the same step by other
// frameworks in Python that also keep the losses and write them: a plain PyTorch loop, Lightning, Ignite. Two networks, one
// thread each: a 16-wide MLP, where the framework is what costs, and a small CNN on 32 images. All take turns.
//
// The frameworks come from the Python that TREADLE_PEERS_PYTHON names (tools/bench.py makes one), or from TREADLE_PYTHON.

#include <benches/python_side.hpp>
#include <benches/report.hpp>
#include <benches/timing.hpp>
#include <treadle/base/log.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine.hpp>
#include <treadle/events/json_writer.hpp>
#include <treadle/hooks.hpp>
#include <treadle/models/make_model.hpp>
#include <treadle/solver/lr_scheduler.hpp>
#include <treadle/solver/sgd.hpp>

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/pooling.h>
#include <torch/utils.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace {

using namespace treadle;
namespace nn = torch::nn;

constexpr int kRounds = 9;

class Flatten final : public nn::Cloneable<Flatten> {
 public:
  void reset() override {}
  at::Tensor forward(const at::Tensor& x) { return x.flatten(1); }
};

struct Problem {
  nn::Sequential net;
  at::Tensor x, y;
  bool classes;
};

Problem mlp() {
  const at::Tensor x = torch::randn({32, 16});
  return {nn::Sequential(nn::Linear(16, 16), nn::ReLU(), nn::Linear(16, 1)), x, x.sum(1, true), false};
}

Problem cnn() {
  auto conv = [](int in, int out) { return nn::Conv2d(nn::Conv2dOptions(in, out, 3).padding(1).bias(false)); };
  return {nn::Sequential(conv(1, 32), nn::BatchNorm2d(32), nn::ReLU(), nn::MaxPool2d(2), conv(32, 64), nn::BatchNorm2d(64),
                         nn::ReLU(), nn::MaxPool2d(2), Flatten(), nn::Linear(64 * 7 * 7, 128), nn::ReLU(), nn::Linear(128, 10)),
          torch::rand({32, 1, 28, 28}), torch::randint(0, 10, {32}, torch::kLong), true};
}

/// What a user of Treadle would write.
class OurSide {
 public:
  OurSide(Problem problem, const std::string& folder)
      : problem_(std::move(problem)),
        source_(make_batch_source([batch = Batch(Dict{{"x", problem_.x}, {"y", problem_.y}})] { return std::optional(batch); })),
        model_(make_model(problem_.net,
                          [classes = problem_.classes](nn::Sequential& net, const Batch& batch) -> LossDict {
                            const at::Tensor out = net->forward(batch.tensor("x"));
                            return {{"loss", classes ? nn::functional::cross_entropy(out, batch.tensor("y"))
                                                     : nn::functional::mse_loss(out, batch.tensor("y"))}};
                          })),
        optimizer_(model_->parameters(), SgdOptions{.lr = 1e-3, .momentum = 0.9}),
        schedule_(optimizer_, ConstantParamScheduler(1), {.max_iter = 1'000'000'000}),
        trainer_(model_, *source_, optimizer_) {
    trainer_.add_hook<hooks::IterationTimer>();
    trainer_.add_hook<hooks::LRScheduler>(optimizer_, schedule_);
    std::vector<hooks::PeriodicWriter::NamedWriter> writers;
    writers.emplace_back("metrics.json", std::make_unique<JSONWriter>(JSONWriterOptions{.file = folder + "/metrics.json"}));
    trainer_.add_hook<hooks::PeriodicWriter>(std::move(writers), 20);
  }

  double seconds_a_step(int steps) {
    return seconds([&] { trainer_.train(trainer_.iter(), trainer_.iter() + steps); }) / steps;
  }

 private:
  Problem problem_;
  std::unique_ptr<BatchSource> source_;
  std::shared_ptr<Model> model_;
  Sgd optimizer_;
  LRMultiplier schedule_;
  SimpleTrainer trainer_;
};

void compare(const std::string& name, const std::string& label, OurSide& ours,
             const std::vector<std::pair<std::string, PythonSide*>>& peers, int steps) {
  const std::string line = fmt::format("{} {}", name, steps);
  std::vector<double> own;
  std::map<std::string, std::vector<double>> theirs;
  for (int round = -1; round < rounds(kRounds); ++round) {
    const double mine = ours.seconds_a_step(steps);
    if (round >= 0) own.push_back(mine);  // the first is for warming up
    for (const auto& [peer, side] : peers) {
      const auto time = side->seconds(line);
      if (time && round >= 0) theirs[peer].push_back(*time);
    }
  }
  for (const auto& [peer, side] : peers) {
    if (theirs[peer].empty()) {
      remark(peer + " is not installed in the Python of the comparison: left out");
      continue;
    }
    report({.what = "a training step, " + label,
            .unit = "us",
            .ours = 1e6 * median(own),
            .peer = peer,
            .theirs = 1e6 * median(theirs[peer]),
            .asked = Asked::ratio_at_most(1)});
  }
}

}  // namespace

int main() {
  const char* chosen = std::getenv("TREADLE_PEERS_PYTHON");
  const std::string program = chosen != nullptr ? chosen : python_program();
  PythonSide plain("peers/peers.py", {"plain"}, program), lightning("peers/peers.py", {"lightning"}, program),
      ignite("peers/peers.py", {"ignite"}, program);
  at::set_num_threads(1);
  torch::manual_seed(0);
  const LogCapture silence([](LogLevel, std::string_view) {});
  const auto folder = std::filesystem::temp_directory_path() / fmt::format("treadle-bench-peers-{}", getpid());
  for (const char* name : {"mlp", "cnn"}) std::filesystem::create_directories(folder / name);
  OurSide small(mlp(), folder / "mlp"), large(cnn(), folder / "cnn");
  const std::vector<std::pair<std::string, PythonSide*>> peers{
      {"plain PyTorch", &plain}, {"Lightning", &lightning}, {"Ignite", &ignite}};
  compare("mlp", "16-wide MLP", small, peers, quick() ? 500 : 2000);
  compare("cnn", "small CNN, 32 images", large, peers, 20);
  std::filesystem::remove_all(folder);
  return 0;
}
