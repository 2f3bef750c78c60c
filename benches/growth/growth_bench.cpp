// How the cost of the engine grows: with hooks, metrics, parameters, the length of the run, and ranks. Each row is a step of
// SimpleTrainer beside the same LibTorch and solver calls by hand, in turns in one run, on one thread; the difference is what the
// engine costs.

#include <benches/report.hpp>
#include <benches/timing.hpp>
#include <treadle/base/log.hpp>
#include <treadle/comm/process_group.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine.hpp>
#include <treadle/engine/distributed_model.hpp>
#include <treadle/hooks.hpp>
#include <treadle/models/make_model.hpp>
#include <treadle/solver/sgd.hpp>

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>
#include <torch/utils.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace treadle;

constexpr int kRounds = 9;
constexpr std::int64_t kSteps = 500;  // of a turn

struct Shape {
  std::int64_t layers = 2, width = 16;
  int hooks = 0;
  int metrics = 0;
};

/// One problem, trained either way.
class Subject {
 public:
  Subject(const Shape& shape, std::shared_ptr<Group> group)
      : x_(torch::randn({8, shape.width})),
        source_(make_batch_source([batch = Batch(Dict{{"x", x_}})] { return std::optional(batch); })),
        model_(model_of(shape, group)),
        optimizer_(model_->parameters(), SgdOptions{.lr = 1e-4, .momentum = 0.9}),
        trainer_(model_, *source_, optimizer_, {.trainer = {.group = group}}) {
    for (int i = 0; i < shape.hooks; ++i)
      trainer_.add_hook<hooks::CallbackHook>(
          hooks::Callbacks{.before_step = [](TrainerBase&) {}, .after_step = [](TrainerBase&) {}});
    if (shape.metrics == 0) return;
    for (int i = 0; i < shape.metrics; ++i) names_.push_back(fmt::format("metric_{}", i));
    trainer_.add_hook<hooks::CallbackHook>(hooks::Callbacks{.after_step = [this](TrainerBase& trainer) {
      for (const std::string& name : names_) trainer.storage().put_scalar(name, 1.0);
    }});
  }

  double engine(std::int64_t steps) {
    return seconds([&] { trainer_.train(trainer_.iter(), trainer_.iter() + steps); }) / static_cast<double>(steps);
  }
  double by_hand(std::int64_t steps) {
    const Batch batch(Dict{{"x", x_}});
    double sum = 0;
    return seconds([&] {
             for (std::int64_t i = 0; i < steps; ++i) {
               const LossDict losses = model_->losses(batch);
               sum += losses.front().second.detach().item<double>();
               optimizer_.zero_grad();
               losses.front().second.backward();
               optimizer_.step();
             }
           }) /
           static_cast<double>(steps);
  }

 private:
  static std::shared_ptr<Model> model_of(const Shape& shape, const std::shared_ptr<Group>& group) {
    torch::nn::Sequential net;
    for (std::int64_t i = 0; i < shape.layers; ++i) {
      net->push_back(torch::nn::Linear(shape.width, shape.width));
      net->push_back(torch::nn::ReLU());
    }
    auto model = make_model(net, [](torch::nn::Sequential& module, const Batch& batch) -> LossDict {
      return {{"loss", module->forward(batch.tensor("x")).square().mean()}};
    });
    return group != nullptr ? create_ddp_model(std::move(model), group) : model;
  }

  std::vector<std::string> names_;
  at::Tensor x_;
  std::unique_ptr<BatchSource> source_;
  std::shared_ptr<Model> model_;
  Sgd optimizer_;
  SimpleTrainer trainer_;
};

void measure(const std::string& what, const Shape& shape, std::shared_ptr<Group> group = nullptr, std::int64_t steps = kSteps) {
  Subject subject(shape, group);
  if (quick()) steps = std::max<std::int64_t>(1, steps / 4);
  std::vector<double> engine, hand;
  for (int round = -1; round < rounds(kRounds); ++round) {
    const double ours = subject.engine(steps), theirs = subject.by_hand(steps);
    if (round < 0) continue;  // for warming up
    engine.push_back(ours);
    hand.push_back(theirs);
  }
  if (group != nullptr && group->get_rank() > 0) return;
  report({.what = what, .unit = "us", .ours = 1e6 * median(engine), .peer = "by hand", .theirs = 1e6 * median(hand)});
}

double resident_mib() {
  std::ifstream statm("/proc/self/statm");
  std::int64_t total = 0, resident = 0;
  statm >> total >> resident;
  return static_cast<double>(resident * sysconf(_SC_PAGESIZE)) / (1 << 20);
}

/// The last part of a run of each length is nine turns beside the loop by hand.
void measure_length() {
  Subject subject({.metrics = 5}, nullptr);
  std::int64_t done = 0;
  const std::int64_t longest = quick() ? 10'000 : 1'000'000;
  for (std::int64_t length = 1'000; length <= longest; length *= 10) {
    const std::int64_t turn = std::min<std::int64_t>(kSteps, length / 10), last_part = rounds(kRounds) * turn;
    subject.engine(length - last_part - done);
    done = length;
    std::vector<double> engine, hand;
    for (std::int64_t step = 0; step < last_part; step += turn) {
      engine.push_back(subject.engine(turn));
      hand.push_back(subject.by_hand(turn));
    }
    report({.what = fmt::format("run of {} steps: a step of its last part", length),
            .unit = "us",
            .ours = 1e6 * median(engine),
            .peer = "by hand",
            .theirs = 1e6 * median(hand)});
    report({.what = fmt::format("run of {} steps: resident", length), .unit = "MiB", .ours = resident_mib()});
  }
}

/// False when a rank failed.
bool measure_ranks(int size) {
  std::string pattern = (std::filesystem::temp_directory_path() / "treadle_growth_XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("there is no temporary folder");
  std::fflush(stdout);
  std::vector<pid_t> ranks;
  for (int rank = 0; rank < size; ++rank) {
    const pid_t pid = fork();
    if (pid == 0) {
      at::set_num_threads(1);
      auto group = connect_group({.rank = rank,
                                  .world_size = size,
                                  .local_rank = rank,
                                  .local_size = size,
                                  .file = pattern + "/store",
                                  .timeout = std::chrono::minutes(2)});
      measure(fmt::format("a step with {} ranks", size), {}, group, 100);
      group->synchronize();
      _exit(0);
    }
    ranks.push_back(pid);
  }
  bool all = true;
  for (const pid_t pid : ranks) {
    int status = 0;
    all = waitpid(pid, &status, 0) == pid && status == 0 && all;
  }
  std::filesystem::remove_all(pattern);
  if (!all) std::fprintf(stderr, "%d ranks: one of them failed\n", size);
  return all;
}

}  // namespace

int main() {
  const LogCapture silence([](LogLevel, std::string_view) {});
  bool all = true;
  for (const int size : {1, 2, 4}) all = measure_ranks(size) && all;  // forked before this process has threads
  at::set_num_threads(1);
  for (const int hooks : {0, 5, 10, 20, 50}) measure(fmt::format("a step with {} hooks", hooks), {.hooks = hooks});
  for (const int metrics : {1, 10, 100, 1000})
    measure(fmt::format("a step with {} metrics more", metrics), {.metrics = metrics}, nullptr, metrics > 100 ? 100 : kSteps);
  for (const std::int64_t layers : {2, 20, 200})
    measure(fmt::format("a step with {} parameter tensors", 2 * layers), {.layers = layers}, nullptr, layers > 20 ? 50 : kSteps);
  for (const std::int64_t width : {16, 51, 160})
    measure(fmt::format("a step with {} parameters", 2 * width * (width + 1)), {.width = width});
  measure_length();
  return all ? 0 : 1;
}
