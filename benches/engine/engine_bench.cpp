// What a step of the engine costs, on one thread: a 16-wide MLP trained
//   by a bare LibTorch loop with torch::optim::SGD,
//   by hand with Treadle's Sgd, as one writes it: `zero_grad`, `backward` and `item` of LibTorch,
//   by hand with the cheaper calls that the engine makes for these three, to compare with,
//   by SimpleTrainer with the six hooks of DefaultTrainer, metrics recorded and written every 20 iterations.
// They take turns of 2000 steps; medians over the turns, and of the differences in a turn, are compared, so that a busy machine
// slows all. The start and the end of a run, which saves and evaluates, do not count. Calls of operator new are counted, over all
// steps and in those that write nothing. Batches are made ahead, as a loader's threads do. Ends with the memory that a million
// recorded steps take.

#include <benches/report.hpp>
#include <benches/timing.hpp>
#include <tests/support/count_news.hpp>
#include <treadle/base/log.hpp>
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine.hpp>
#include <treadle/events/json_writer.hpp>
#include <treadle/hooks.hpp>
#include <treadle/models/make_model.hpp>
#include <treadle/solver/lr_scheduler.hpp>
#include <treadle/solver/optimizer_state.hpp>
#include <treadle/solver/sgd.hpp>

#include <ATen/Parallel.h>
#include <ATen/ops/ones.h>
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

using Clock = std::chrono::steady_clock;

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
  Data data{};
  torch::nn::Sequential net = mlp();
  Sgd optimizer{net->parameters(), SgdOptions{.lr = 1e-3, .momentum = 0.9}};
  double sum = 0;

  void run() {
    for (std::int64_t i = 0; i < kStepsOfATurn; ++i) {
      const at::Tensor loss = loss_of(net, data.x, data.y);
      sum += loss.detach().item<double>();
      optimizer.zero_grad();
      loss.backward();
      optimizer.step();
    }
  }
};

/// The loss is read where it lies, gradients are not detached before they are dropped, and that of the loss is kept.
struct ByHandWithTheCallsOfTheEngine : ByHand {
  at::Tensor one = at::ones({});

  void run() {
    for (std::int64_t i = 0; i < kStepsOfATurn; ++i) {
      const at::Tensor loss = loss_of(net, data.x, data.y);
      sum += *loss.const_data_ptr<float>();
      zero_grad(optimizer);
      loss.backward(one);
      optimizer.step();
    }
  }
};

/// Where a run stands when it asks for a batch.
struct Mark {
  Clock::time_point time;
  std::int64_t news = 0;

  static Mark now() { return {Clock::now(), count_news()}; }
};

/// Hands out batches that were made before, and marks the first and the last of a turn, and those behind a write and in front of
/// the next.
class BatchesAhead final : public BatchSource {
 public:
  explicit BatchesAhead(const Data& data) : batch_(Dict{{"x", data.x}, {"y", data.y}}) {}
  void make(std::int64_t count) {
    ready_.assign(static_cast<std::size_t>(count), batch_);
    next_ = 0;
  }
  std::optional<Batch> next() override {
    const auto place = static_cast<std::int64_t>(next_) % kPeriod;
    if (next_ == 0) first = Mark::now();
    if (place == 0) news_behind_write_ = count_news();
    if (place == kPeriod - 1) quiet_news = static_cast<double>(count_news() - news_behind_write_) / (kPeriod - 1);
    if (next_ + 1 == ready_.size()) last = Mark::now();
    return std::move(ready_[next_++]);
  }
  void rewind() override {}
  std::string name() const override { return "batches made ahead"; }
  Dict state_dict() const override { return {}; }
  void check_state_dict(const Dict&) const override {}
  void load_state_dict(const Dict&) override {}

  Mark first, last;
  double quiet_news = 0;  // per step that writes nothing

 private:
  Batch batch_;
  std::vector<Batch> ready_;
  std::size_t next_ = 0;
  std::int64_t news_behind_write_ = 0;
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
  Checkpointer checkpointer;

  explicit Engine(const std::string& folder) : checkpointer(*model, folder) {
    trainer.add_hook<hooks::IterationTimer>();
    trainer.add_hook<hooks::LRScheduler>(optimizer, schedule);
    trainer.add_hook<hooks::PeriodicCheckpointer>(checkpointer, hooks::PeriodicCheckpointerOptions{.period = 1'000'000'000});
    trainer.add_hook<hooks::EvalHook>([] { return Dict{{"accuracy", 1.0}}; }, hooks::EvalHookOptions{.period = 1'000'000'000});
    trainer.add_hook<hooks::BestCheckpointer>(checkpointer,
                                              hooks::BestCheckpointerOptions{.period = 1'000'000'000, .metric = "accuracy"});
    std::vector<hooks::PeriodicWriter::NamedWriter> writers;
    writers.emplace_back("metrics.json",
                         std::make_unique<JSONWriter>(JSONWriterOptions{.file = folder + "/metrics.json",
                                                                        .latest_only = {"lr", "eta_seconds"},
                                                                        .max_delay = std::chrono::milliseconds(100)}));
    trainer.add_hook<hooks::PeriodicWriter>(std::move(writers), kPeriod);
  }
};

struct Turn {
  double microseconds;  // per step
  double news;          // per step
};

Turn turn_between(const Mark& first, const Mark& last) {
  const std::chrono::duration<double, std::micro> time = last.time - first.time;
  return {time.count() / kStepsOfATurn, static_cast<double>(last.news - first.news) / kStepsOfATurn};
}

template <class Loop>
Turn turn(Loop& loop) {
  const Mark first = Mark::now();
  loop.run();
  return turn_between(first, Mark::now());
}

Turn turn(Engine& engine) {
  engine.source.make(kStepsOfATurn + 1);
  engine.trainer.train(engine.trainer.iter(), engine.trainer.iter() + kStepsOfATurn + 1);
  return turn_between(engine.source.first, engine.source.last);
}

std::int64_t resident_kib() {
  std::ifstream status("/proc/self/statm");
  std::int64_t pages = 0;
  status >> pages >> pages;
  return pages * 4;
}

void time_put_scalar() {
  EventStorage storage;
  constexpr int kCalls = 100'000;
  std::vector<double> times;
  for (int round = 0; round < rounds(11); ++round) {
    times.push_back(seconds([&] {
      for (int i = 0; i < kCalls; ++i) {
        storage.set_iter(i);
        storage.put_scalar("loss", i);
      }
    }));
  }
  report({.what = "put_scalar", .unit = "ns", .ours = median(times) / kCalls * 1e9, .asked = Asked::at_most(50)});
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
    ByHand hand;
    ByHandWithTheCallsOfTheEngine leanest;
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
    report({.what = "a step, six default hooks, metrics written",
            .unit = "us",
            .ours = engine_time,
            .peer = "bare LibTorch loop",
            .theirs = bare_time,
            .asked = Asked::ratio_at_most(0.95)});
    report({.what = "a step, six default hooks, metrics written",
            .unit = "us",
            .ours = engine_time,
            .peer = "by hand, as one writes it",
            .theirs = engine_time - more_than(hand_times),
            .asked = Asked::more_at_most(2)});
    report({.what = "a step, six default hooks, metrics written",
            .unit = "us",
            .ours = engine_time,
            .peer = "by hand with the calls of the engine",
            .theirs = engine_time - more_than(leanest_times)});
    report({.what = "operator new a step, between two writes",
            .unit = "calls",
            .ours = engine.source.quiet_news,
            .peer = "by hand",
            .theirs = median(hand_news),
            .asked = Asked::more_at_most(0)});
    report({.what = "operator new a step, writes included", .unit = "calls", .ours = median(engine_news)});
  }
  time_put_scalar();
  measure_memory();
  std::filesystem::remove_all(folder);
}
