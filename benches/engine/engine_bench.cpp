// What a step of the engine costs, on one thread: a 16-wide MLP trained
//   by a bare LibTorch loop with torch::optim::SGD,
//   by hand with the calls that the engine makes (Treadle's Sgd), the loss read by `item`, as one writes it,
//   by hand with exactly these calls: the loss read from memory, which the engine does where it can, to compare with,
//   by SimpleTrainer with six hooks, metrics recorded and written every 20 iterations.
// They take turns of 2000 steps, over which the start and the end of a run (half a millisecond) are spread; medians over the
// turns, and of the differences in a turn, are compared, so that a busy machine slows all. Calls of operator new are counted,
// over all steps and in those that write nothing. Batches are made ahead, as a loader's threads do. Ends with the memory that a
// million recorded steps take.

#include <benches/report.hpp>
#include <benches/timing.hpp>
#include <tests/support/count_news.hpp>
#include <treadle/base/log.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine.hpp>
#include <treadle/events/json_writer.hpp>
#include <treadle/hooks.hpp>
#include <treadle/models/make_model.hpp>
#include <treadle/solver/lr_scheduler.hpp>
#include <treadle/solver/sgd.hpp>

#include <ATen/Parallel.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <vector>

namespace {

using namespace treadle;

constexpr std::int64_t kStepsOfATurn = 2000;
constexpr int kTurns = 41;
constexpr std::int64_t kPeriod = 20;  // of the writer

torch::nn::Sequential mlp() {
  return torch::nn::Sequential(torch::nn::Linear(16, 16), torch::nn::ReLU(), torch::nn::Linear(16, 1));
}

at::Tensor loss_of(torch::nn::Sequential& net, const at::Tensor& x, const at::Tensor& y) {
  return (net->forward(x) - y).square().mean();
}

struct Data {
  at::Tensor x = torch::randn({32, 16});
  at::Tensor y = x.sum(1, true);
};

struct BareLoop {
  Data data;
  torch::nn::Sequential net = mlp();
  torch::optim::SGD optimizer{net->parameters(), torch::optim::SGDOptions(1e-3).momentum(0.9)};

  void run() {
    for (std::int64_t i = 0; i < kStepsOfATurn; ++i) {
      optimizer.zero_grad();
      loss_of(net, data.x, data.y).backward();
      optimizer.step();
    }
  }
};

struct ByHand {
  bool reads_by_item;
  Data data{};
  torch::nn::Sequential net = mlp();
  Sgd optimizer{net->parameters(), SgdOptions{.lr = 1e-3, .momentum = 0.9}};
  double sum = 0;

  void run() {
    for (std::int64_t i = 0; i < kStepsOfATurn; ++i) {
      const at::Tensor loss = loss_of(net, data.x, data.y);
      sum += reads_by_item ? loss.detach().item<double>() : *loss.const_data_ptr<float>();
      optimizer.zero_grad();
      loss.backward();
      optimizer.step();
    }
  }
};

/// Hands out batches that were made before.
class BatchesAhead final : public BatchSource {
 public:
  explicit BatchesAhead(const Data& data) : batch_(Dict{{"x", data.x}, {"y", data.y}}) {}
  void make(std::int64_t count) {
    ready_.assign(static_cast<std::size_t>(count), batch_);
    next_ = 0;
  }
  std::optional<Batch> next() override { return std::move(ready_[next_++]); }
  void rewind() override {}
  std::string name() const override { return "batches made ahead"; }
  Dict state_dict() const override { return {}; }
  void check_state_dict(const Dict&) const override {}
  void load_state_dict(const Dict&) override {}

 private:
  Batch batch_;
  std::vector<Batch> ready_;
  std::size_t next_ = 0;
};

struct Engine {
  Data data;
  torch::nn::Sequential net = mlp();
  BatchesAhead source{data};
  Sgd optimizer{net->parameters(), SgdOptions{.lr = 1e-3, .momentum = 0.9}};
  LRMultiplier schedule{optimizer, ConstantParamScheduler(1), {.max_iter = 1'000'000'000}};
  std::shared_ptr<Model> model = make_model(net, [](torch::nn::Sequential& module, const Batch& batch) -> LossDict {
    return {{"loss", loss_of(module, batch.tensor("x"), batch.tensor("y"))}};
  });
  SimpleTrainer trainer{model, source, optimizer};

  explicit Engine(const std::string& folder) {
    trainer.add_hook<hooks::IterationTimer>();
    trainer.add_hook<hooks::LRScheduler>(optimizer, schedule);
    trainer.add_hook<hooks::CallbackHook>(hooks::Callbacks{.after_step = [](TrainerBase&) {}});
    trainer.add_hook<hooks::EvalHook>([] { return Dict(); }, hooks::EvalHookOptions{.eval_after_train = false});
    // From the first step behind a write to the last in front of one.
    trainer.add_hook<hooks::CallbackHook>(hooks::Callbacks{.before_step = [this](TrainerBase& t) {
      const std::int64_t place = t.iter() % kPeriod;
      if (place == 1) news_before_ = count_news();
      if (place == kPeriod - 1) quiet_news_ = static_cast<double>(count_news() - news_before_) / (kPeriod - 2);
    }});
    std::vector<hooks::PeriodicWriter::NamedWriter> writers;
    writers.emplace_back("metrics.json", std::make_unique<JSONWriter>(JSONWriterOptions{.file = folder + "/metrics.json",
                                                                                        .latest_only = {"lr", "eta_seconds"},
                                                                                        .max_delay = std::chrono::milliseconds(100)}));
    trainer.add_hook<hooks::PeriodicWriter>(std::move(writers), kPeriod);
  }
  void prepare() { source.make(kStepsOfATurn); }
  void run() { trainer.train(trainer.iter(), trainer.iter() + kStepsOfATurn); }
  double quiet_news() const { return quiet_news_; }

 private:
  std::int64_t news_before_ = 0;
  double quiet_news_ = 0;  // per step that writes nothing
};

struct Turn {
  double microseconds;  // per step
  double news;          // per step
};

template <class Loop>
Turn turn(Loop& loop) {
  if constexpr (requires { loop.prepare(); }) loop.prepare();
  const std::int64_t news_before = count_news();
  const auto start = std::chrono::steady_clock::now();
  loop.run();
  const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
  return {time.count() / kStepsOfATurn, static_cast<double>(count_news() - news_before) / kStepsOfATurn};
}

std::int64_t resident_kib() {
  std::ifstream status("/proc/self/statm");
  std::int64_t pages = 0;
  status >> pages >> pages;
  return pages * 4;
}

void time_put_scalar() {
  EventStorage storage;
  constexpr int kCalls = 1'000'000;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kCalls; ++i) {
    storage.set_iter(i);
    storage.put_scalar("loss", i);
  }
  const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - start;
  report({.what = "put_scalar", .unit = "ns", .ours = time.count() / kCalls, .asked = Asked::at_most(50)});
}

void measure_memory() {
  EventStorage storage;
  std::int64_t after_tenth = 0;
  constexpr int kSteps = 1'000'000;
  for (int i = 0; i < kSteps; ++i) {
    storage.set_iter(i);
    for (const char* name : {"loss", "lr", "time", "data_time", "rank_data_time", "total_loss"}) storage.put_scalar(name, i);
    if (i == kSteps / 10) after_tenth = resident_kib();
  }
  report({.what = "resident after 1,000,000 steps of six scalars",
          .unit = "KiB",
          .ours = static_cast<double>(resident_kib()),
          .peer = "after 100,000",
          .theirs = static_cast<double>(after_tenth),
          .asked = Asked::more_at_most(64)});
}

}  // namespace

int main() {
  at::set_num_threads(1);
  const LogCapture silence([](LogLevel, std::string_view) {});
  const auto folder = std::filesystem::temp_directory_path() / "treadle_bench_engine";
  std::filesystem::create_directories(folder);
  {
    BareLoop bare;
    ByHand hand{.reads_by_item = true}, leanest{.reads_by_item = false};
    Engine engine(folder.string());
    std::vector<double> bare_times, hand_times, leanest_times, engine_times, bare_news, hand_news, engine_news;
    for (int k = -1; k < (quick() ? 7 : kTurns); ++k) {
      const Turn a = turn(bare), b = turn(hand), c = turn(engine), d = turn(leanest);
      if (k < 0) continue;
      bare_times.push_back(a.microseconds), hand_times.push_back(b.microseconds), engine_times.push_back(c.microseconds);
      leanest_times.push_back(d.microseconds);
      bare_news.push_back(a.news), hand_news.push_back(b.news), engine_news.push_back(c.news);
    }
    const double bare_time = median(bare_times), engine_time = median(engine_times);
    const auto more_than = [&](const std::vector<double>& others) {
      std::vector<double> more;  // turn by turn: the machine's mood changes slowly
      for (std::size_t k = 0; k < engine_times.size(); ++k) more.push_back(engine_times[k] - others[k]);
      return median(more);
    };
    report({.what = "a step, six hooks, metrics written",
            .unit = "us",
            .ours = engine_time,
            .peer = "bare LibTorch loop",
            .theirs = bare_time,
            .asked = Asked::ratio_at_most(0.95)});
    report({.what = "a step, six hooks, metrics written",
            .unit = "us",
            .ours = engine_time,
            .peer = "the same calls by hand",
            .theirs = engine_time - more_than(hand_times),
            .asked = Asked::more_at_most(2)});
    report({.what = "a step, six hooks, metrics written",
            .unit = "us",
            .ours = engine_time,
            .peer = "by hand, the loss read from memory",
            .theirs = engine_time - more_than(leanest_times)});
    report({.what = "operator new a step, between two writes",
            .unit = "calls",
            .ours = engine.quiet_news(),
            .peer = "the same calls by hand",
            .theirs = median(hand_news),
            .asked = Asked::more_at_most(0)});
    report({.what = "operator new a step, writes included", .unit = "calls", .ours = median(engine_news)});
  }
  time_put_scalar();
  measure_memory();
  std::filesystem::remove_all(folder);
}
