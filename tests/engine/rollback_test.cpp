// A run goes back to the last kept state when a step is not finite, and on with the next batch.
#include <tests/support/clock_keys.hpp>
#include <tests/support/fake_group.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine.hpp>
#include <treadle/models/make_model.hpp>
#include <treadle/solver/optimizer_state.hpp>

#include <ATen/ops/randn.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>

#include <limits>
#include <set>

namespace treadle {
namespace {

/// Counts its steps, in its state.
struct CountingHook final : HookBase {
  std::int64_t steps = 0;
  std::vector<std::int64_t> seen;  // not in the state
  Phase phase() const override { return Phase::statistics; }
  void after_step(TrainerBase& trainer) override {
    ++steps;
    seen.push_back(trainer.iter());
  }
  Dict state_dict() const override { return {{"steps", steps}}; }
  void load_state_dict(const Dict& state) override { steps = state.at("steps").as_int(); }
};

/// A model with everything that a step changes, and the batches 0, 1, 2, …, of which some are left out and some hold a NaN.
struct ShortRun {
  torch::nn::Sequential net{torch::nn::Linear(4, 4), torch::nn::BatchNorm1d(4), torch::nn::Dropout(0.5), torch::nn::Linear(4, 1)};
  torch::optim::SGD sgd{net->parameters(), torch::optim::SGDOptions(0.05).momentum(0.9)};
  std::set<std::int64_t> left_out, poisoned;
  std::int64_t next_batch = 0;
  std::unique_ptr<BatchSource> source = make_batch_source(std::function<std::optional<Batch>()>([this] { return make_batch(); }));
  std::unique_ptr<SimpleTrainer> trainer;
  CountingHook* hook = nullptr;

  explicit ShortRun(const SimpleTrainerOptions& options, std::optional<AmpPrecision> amp = {}) {
    const at::NoGradGuard no_grad;
    Rng rng(7, 1);
    for (at::Tensor& p : net->parameters()) {
      auto generator = rng.generator();
      p.normal_(0, 0.5, generator);
    }
    auto model = make_model(net, [](torch::nn::Sequential& module, const Batch& batch) -> LossDict {
      const at::Tensor out = module->forward(batch.tensor("x")).to(at::kFloat);
      return {{"loss", out.square().mean()}, {"loss_abs", out.abs().mean()}};
    });
    if (amp) {
      trainer = std::make_unique<AMPTrainer>(model, *source, sgd, options,
                                             AmpOptions{.precision = *amp, .scaler = {.init_scale = 64, .growth_interval = 3}});
    } else {
      trainer = std::make_unique<SimpleTrainer>(model, *source, sgd, options);
    }
    hook = &trainer->add_hook<CountingHook>();
  }

  std::optional<Batch> make_batch() {
    while (left_out.contains(next_batch)) ++next_batch;
    const std::int64_t index = next_batch++;
    auto generator = Rng(3, static_cast<std::uint64_t>(index)).generator();
    at::Tensor x = at::randn({8, 4}, generator);
    if (poisoned.contains(index)) x[0][0] = std::numeric_limits<float>::quiet_NaN();
    return Batch(Dict{{"x", x}}, {10 * index, 10 * index + 1});
  }

  void train(std::int64_t iterations) {
    seed_everything(5);
    trainer->train(0, iterations);
  }

  /// Everything that must be equal: all but wall-clock times and the number of times that the run went back.
  Dict comparable() const {
    Dict events = trainer->storage().state_dict();
    Dict& scalars = events.at("scalars").as_dict();
    for (const char* key : kClockKeys) scalars.erase(key);
    scalars.erase("rollbacks");
    Dict state = trainer->state_dict();
    state.erase("rollbacks");
    return deep_clone(
        Dict{{"model", module_state_dict(*net)}, {"trainer", state}, {"events", events}, {"rng", default_generator_state()}});
  }
};

/// What is never learned from when a run over the batches 0, 1, 2, … goes back at the poisoned ones, by simulation.
std::set<std::int64_t> forgotten(const std::set<std::int64_t>& poisoned, std::int64_t period, std::int64_t iterations) {
  std::vector<std::int64_t> learned;
  std::set<std::int64_t> result;
  for (std::int64_t batch = 0; std::ssize(learned) < iterations; ++batch) {
    learned.push_back(batch);
    if (!poisoned.contains(batch)) continue;
    const std::int64_t kept = (std::ssize(learned) - 1) / period * period;
    for (; std::ssize(learned) > kept; learned.pop_back()) result.insert(learned.back());
  }
  return result;
}

struct Rollback : testing::Test {
  std::vector<std::string> lines;
  LogCapture capture{[this](LogLevel, std::string_view line) { lines.emplace_back(line); }};

  static SimpleTrainerOptions options(std::int64_t period, std::int64_t most = 3) {
    return {.non_finite = {.action = NonFiniteAction::roll_back, .rollback_period = period, .max_rollbacks = most}};
  }
};

TEST_F(Rollback, EqualsARunThatWasNeverGivenTheBatches) {
  constexpr std::int64_t kIterations = 14;
  const std::vector<std::optional<AmpPrecision>> precisions = {{}, AmpPrecision::float16, AmpPrecision::bfloat16};
  for (const auto& amp : precisions) {
    for (const std::set<std::int64_t>& poisoned : {std::set<std::int64_t>{7}, {0}, {4}, {13}, {5, 6}, {2, 9, 15}}) {
      for (const std::int64_t period : {1, 4, 100}) {
        ShortRun poisoned_run(options(period), amp);
        poisoned_run.poisoned = poisoned;
        poisoned_run.train(kIterations);
        const Dict found = poisoned_run.comparable();
        ShortRun clean(options(period), amp);
        clean.left_out = forgotten(poisoned, period, kIterations);
        clean.train(kIterations);
        EXPECT_TRUE(identical(found, clean.comparable()))
            << "first poisoned batch " << *poisoned.begin() << " of " << poisoned.size() << ", period " << period;
        EXPECT_EQ(poisoned_run.trainer->storage().history("rollbacks").latest(), poisoned.size());
        EXPECT_EQ(clean.trainer->storage().find_history("rollbacks"), nullptr);
        EXPECT_EQ(poisoned_run.next_batch, clean.next_batch);
      }
    }
  }
}

TEST_F(Rollback, GradientsThatAreNotFiniteCountOnRequest) {
  SimpleTrainerOptions checking = options(2);
  checking.non_finite.check_gradients = true;
  ShortRun run(checking);
  int step = 0;
  run.net->parameters()[0].register_hook(
      [&](const at::Tensor& grad) { return ++step == 4 ? grad * std::numeric_limits<float>::infinity() : grad; });
  run.train(6);
  EXPECT_EQ(run.trainer->storage().history("rollbacks").latest(), 1);
  EXPECT_EQ(run.next_batch, 8);
  EXPECT_TRUE(run.net->parameters()[0].isfinite().all().item<bool>());
}

TEST_F(Rollback, TheStepTakenBackHasNoAfterStep) {
  ShortRun run(options(4));
  run.poisoned = {6};
  run.train(8);
  EXPECT_EQ(run.hook->seen, (std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 4, 5, 6, 7}));
  EXPECT_EQ(run.hook->steps, 8);
  EXPECT_EQ(run.trainer->start_iter(), 0);
  EXPECT_EQ(run.trainer->outcome(), Outcome::completed);
}

/// Has no state before its first step of an odd iteration.
struct LateHook final : HookBase {
  std::optional<std::int64_t> first;
  void after_step(TrainerBase& trainer) override {
    if (!first && trainer.iter() % 2 == 1) first = trainer.iter();
  }
  Dict state_dict() const override { return first ? Dict{{"first", *first}} : Dict(); }
  void load_state_dict(const Dict& state) override {
    first.reset();
    if (!state.empty()) first = state.at("first").as_int();
  }
};

TEST_F(Rollback, AHookThatHadNoStateHasNoneAgain) {
  ShortRun run(options(100));
  auto& late = run.trainer->add_hook<LateHook>();
  run.poisoned = {2};
  std::vector<bool> had;
  struct Watch final : HookBase {
    std::function<void()> call;
    void before_step(TrainerBase&) override { call(); }
  };
  run.trainer->add_hook<Watch>().call = [&] { had.push_back(late.first.has_value()); };
  run.train(3);
  // Iterations 0, 1, 2, and after going back to the beginning 0, 1, 2 again.
  EXPECT_EQ(had, (std::vector<bool>{false, false, true, false, false, true}));
}

struct RefusesNothing final : HookBase {
  std::int64_t steps = 0;
  void after_step(TrainerBase&) override { ++steps; }
  Dict state_dict() const override { return steps > 0 ? Dict{{"steps", steps}} : Dict(); }
  void load_state_dict(const Dict& state) override { steps = state.at("steps").as_int(); }
};

TEST_F(Rollback, AHookThatCannotTakeAnEmptyStateKeepsItsOwn) {
  ShortRun run(options(100));
  const auto& hook = run.trainer->add_hook<RefusesNothing>();
  run.poisoned = {2};
  run.train(3);
  EXPECT_EQ(run.trainer->outcome(), Outcome::completed);
  EXPECT_EQ(hook.steps, 5);
}

TEST_F(Rollback, HappensAtMostSoManyTimesOverRestartsToo) {
  ShortRun run(options(2, 2));
  run.poisoned = {3, 5, 9};
  try {
    run.train(20);
    FAIL();
  } catch (const NonFiniteError& error) {
    EXPECT_EQ(error.ids(), (std::vector<std::int64_t>{90, 91}));
    EXPECT_EQ(error.losses().size(), 2u);
  }
  ShortRun first(options(2, 1));
  first.poisoned = {3};
  first.train(6);
  EXPECT_EQ(first.trainer->state_dict().at("rollbacks").as_int(), 1);
  ShortRun resumed(options(2, 1));
  resumed.trainer->load_state_dict(deep_clone(first.trainer->state_dict()));
  resumed.poisoned = {1};
  EXPECT_THROW(resumed.trainer->train(6, 9), NonFiniteError);
  Dict broken = deep_clone(first.trainer->state_dict());
  broken.set("rollbacks", -1);
  EXPECT_THROW(resumed.trainer->check_state_dict(broken), FormatError);
}

TEST_F(Rollback, ALaterRunBeginsWithAStateOfItsOwn) {
  ShortRun run(options(100));
  run.train(3);
  run.poisoned = {4};
  run.trainer->train(3, 5);
  // Back to the beginning of the second run, not to that of the first.
  EXPECT_EQ(run.next_batch, 7);
  EXPECT_EQ(run.hook->steps, 5);
}

TEST_F(Rollback, AnotherRanksStepTakesThisOneBackToo) {
  auto group = std::make_shared<FakeGroup>(0, 2);
  int step = 0;
  group->play_exchange = [&](const std::vector<double>& own) {
    auto other = own;
    if (++step == 6) other[1] = 0;
    return StepRows{own, other};
  };
  SimpleTrainerOptions in_group = options(4);
  in_group.trainer.group = group;
  ShortRun run(in_group);
  run.train(8);
  EXPECT_EQ(run.next_batch, 10);
  EXPECT_EQ(run.trainer->storage().history("rollbacks").latest(), 1);
}

TEST_F(Rollback, RefusesOptionsOutOfRange) {
  EXPECT_THROW(validate(options(0)), ConfigError);
  EXPECT_THROW(validate(options(1, -1)), ConfigError);
  EXPECT_NO_THROW(validate(options(1, 0)));
}

}  // namespace
}  // namespace treadle
