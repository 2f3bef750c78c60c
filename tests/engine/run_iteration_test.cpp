// A run in the hands of somebody else's loop, and a step that is called without a run.
#include <tests/support/clock_keys.hpp>
#include <tests/support/fake_group.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine.hpp>
#include <treadle/models/make_model.hpp>

#include <ATen/ops/full.h>
#include <gtest/gtest.h>
#include <torch/optim/sgd.h>

#include <functional>

namespace treadle {
namespace {

struct Net final : torch::nn::Module {
  Net() { w = register_parameter("w", torch::ones({1})); }
  torch::Tensor w;
};

/// Notes every call, and asks to stop in one iteration.
struct Recorder final : HookBase {
  Recorder(std::vector<std::string>& calls, std::int64_t stop_at) : calls_(calls), stop_at_(stop_at) {}
  void before_train(TrainerBase& t) override { note("before_train", t); }
  void after_train(TrainerBase& t) override { note("after_train, " + std::string(to_string(t.outcome())), t); }
  void before_step(TrainerBase& t) override { note("before_step", t); }
  void after_backward(TrainerBase& t) override { note("after_backward", t); }
  void after_step(TrainerBase& t) override {
    note("after_step", t);
    t.storage().put_scalar("own", static_cast<double>(t.iter()), /*smoothing_hint=*/false);
    if (t.iter() == stop_at_) t.request_stop("enough");
  }
  void note(const std::string& call, TrainerBase& t) {
    EXPECT_EQ(t.iter(), t.storage().iter()) << call;
    EXPECT_EQ(&get_event_storage(), &t.storage());
    calls_.push_back(call + " " + std::to_string(t.iter()));
  }
  Dict state_dict() const override { return {{"calls", static_cast<std::int64_t>(calls_.size())}}; }

 private:
  std::vector<std::string>& calls_;
  std::int64_t stop_at_;
};

/// Batch i holds i + 1; the loss is its product with the weight, whose backward pass throws where somebody asks for it.
struct ShortRun {
  std::shared_ptr<Net> net = std::make_shared<Net>();
  torch::optim::SGD sgd{net->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9)};
  std::int64_t batches = 0, backwards = 0, fail_backward = -1, fail_forward = -1;
  std::vector<std::string> calls;
  std::unique_ptr<BatchSource> source = make_batch_source(std::function<std::optional<Batch>()>(
      [this] { return std::optional<Batch>(Batch(Dict{{"x", at::full({1}, static_cast<double>(++batches))}})); }));
  std::unique_ptr<SimpleTrainer> trainer;

  explicit ShortRun(const SimpleTrainerOptions& options, std::int64_t stop_at = -1) {
    auto model = make_model(net, [this](std::shared_ptr<Net>& n, const Batch& batch) -> LossDict {
      if (batches == fail_forward) throw std::runtime_error("forward fell over");
      return {{"product", (batch.tensor("x") * n->w).sum()}};
    });
    net->w.register_hook([this](const at::Tensor& grad) {
      if (++backwards == fail_backward) throw std::runtime_error("backward fell over");
      return grad;
    });
    trainer = std::make_unique<SimpleTrainer>(model, *source, sgd, options);
    trainer->add_hook<Recorder>(calls, stop_at);
  }

  Dict result() const {
    Dict events = trainer->storage().state_dict();
    for (const char* key : kClockKeys) events.at("scalars").as_dict().erase(key);
    return deep_clone(Dict{{"weights", module_state_dict(*net)}, {"trainer", trainer->state_dict()}, {"events", events}});
  }
};

struct RunIteration : testing::Test {
  std::vector<std::string> logs;
  LogCapture capture{[this](LogLevel, std::string_view line) { logs.emplace_back(line); }};

  /// The iteration that is next, behind every one.
  static std::vector<std::int64_t> run(SimpleTrainer& trainer, std::int64_t start_iter, std::int64_t max_iter) {
    std::vector<std::int64_t> next;
    trainer.start_training(start_iter, max_iter);
    while (trainer.run_iteration()) next.push_back(trainer.iter());
    return next;
  }
};

TEST_F(RunIteration, EqualsTrainInEveryBit) {
  for (const bool async : {false, true}) {
    for (const std::int64_t stop_at : {-1, 6}) {
      const SimpleTrainerOptions options{.gather_metric_period = 3, .async_write_metrics = async};
      ShortRun whole(options, stop_at), by_hand(options, stop_at);
      whole.trainer->train(2, 11);
      const std::vector<std::string> expected_logs = std::exchange(logs, {});
      const auto next = run(*by_hand.trainer, 2, 11);
      EXPECT_EQ(next.front(), 3);
      EXPECT_EQ(next.back(), stop_at < 0 ? 11 : 7);
      EXPECT_TRUE(identical(by_hand.result(), whole.result()));
      EXPECT_EQ(by_hand.calls, whole.calls);
      EXPECT_EQ(by_hand.trainer->storage().history("product").values().size(), stop_at < 0 ? 3u : 2u);  // 2, 5 and 8
      EXPECT_EQ(by_hand.trainer->outcome(), stop_at < 0 ? Outcome::completed : Outcome::stopped);
      EXPECT_EQ(by_hand.trainer->iter(), whole.trainer->iter());
      EXPECT_EQ(by_hand.trainer->stop_reason(), whole.trainer->stop_reason());
      EXPECT_EQ(logs, expected_logs);
      EXPECT_FALSE(has_event_storage());
      logs.clear();
    }
  }
}

TEST_F(RunIteration, AStateTakenBetweenTwoGoesOnInTheSameBits) {
  ShortRun whole({.async_write_metrics = true});
  whole.trainer->train(0, 6);
  ShortRun first({.async_write_metrics = true});
  first.trainer->start_training(0, 6);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(first.trainer->run_iteration());
  EXPECT_EQ(first.trainer->position().iteration, 2);
  EXPECT_TRUE(first.trainer->position().hooks_behind.empty());
  const Dict state = deep_clone(first.trainer->state_dict()), events = deep_clone(first.trainer->storage().state_dict());

  ShortRun resumed({.async_write_metrics = true});
  resumed.batches = 3;
  resumed.net->w.detach().copy_(first.net->w.detach());
  resumed.calls = first.calls;
  resumed.calls.pop_back();  // so that before_train makes up for it
  resumed.trainer->load_state_dict(state);
  resumed.trainer->storage().load_state_dict(events);
  run(*resumed.trainer, resumed.trainer->start_iter(), 6);
  EXPECT_TRUE(identical(resumed.result(), whole.result()));
}

TEST_F(RunIteration, AFailureEndsTheRunAsItEndsTrain) {
  ShortRun run({});
  run.fail_backward = 3;
  run.trainer->start_training(0, 9);
  EXPECT_TRUE(run.trainer->run_iteration());
  EXPECT_TRUE(run.trainer->run_iteration());
  EXPECT_THROW(run.trainer->train(0, 9), Error);  // not in the middle of a run
  EXPECT_THROW(run.trainer->run_iteration(), std::runtime_error);
  EXPECT_EQ(run.calls.back(), "after_train, failed 2");
  EXPECT_EQ(run.trainer->outcome(), Outcome::failed);
  EXPECT_THROW(run.trainer->run_iteration(), Error);
  // A further run is another run.
  RunIteration::run(*run.trainer, 2, 4);
  EXPECT_EQ(run.trainer->outcome(), Outcome::completed);
  EXPECT_THROW(run.trainer->run_iteration(), Error);

  struct Refuses final : HookBase {
    void before_train(TrainerBase&) override { throw FormatError("not today"); }
  };
  run.trainer->add_hook<Refuses>();
  EXPECT_THROW(run.trainer->start_training(4, 5), FormatError);
  EXPECT_EQ(run.trainer->outcome(), Outcome::failed);
}

TEST_F(RunIteration, AStopOfAnotherRankEndsIt) {
  auto group = std::make_shared<FakeGroup>(0, 2);
  group->play_exchange = [&](const std::vector<double>& own) {
    auto other = own;
    other[0] = group->exchanges == 3 ? 1 : 0;
    return StepRows{own, other};
  };
  ShortRun run({.trainer = {.group = group}});
  EXPECT_EQ(RunIteration::run(*run.trainer, 0, 9), (std::vector<std::int64_t>{1, 2, 3}));
  EXPECT_EQ(run.trainer->outcome(), Outcome::stopped);
}

TEST_F(RunIteration, AStepWithoutARunCanBeTriedAgain) {
  ShortRun run({});
  const CurrentEventStorage current(run.trainer->storage());
  run.fail_backward = 1;
  EXPECT_THROW(run.trainer->run_step(), std::runtime_error);
  run.trainer->run_step();
  EXPECT_EQ(run.trainer->storage().history("product").latest(), 2);
  EXPECT_FALSE(run.trainer->group().is_broken());
}

TEST_F(RunIteration, AStepThatFailsOnOneOfSeveralRanksBreaksTheGroup) {
  for (const bool forward : {false, true}) {
    auto group = std::make_shared<FakeGroup>(0, 2);
    group->play_exchange = [](const std::vector<double>& own) { return StepRows{own, own}; };
    ShortRun run({.trainer = {.group = group}});
    const CurrentEventStorage current(run.trainer->storage());
    (forward ? run.fail_forward : run.fail_backward) = 1;
    EXPECT_THROW(run.trainer->run_step(), std::runtime_error);
    EXPECT_TRUE(group->broken_reason.starts_with("the step of iteration 0 failed: ")) << group->broken_reason;
    EXPECT_NE(group->broken_reason.find("fell over"), std::string::npos);
    group->rebuild();
    EXPECT_NO_THROW(run.trainer->run_step());
    // Within a run its end gives the reason.
    (forward ? run.fail_forward : run.fail_backward) = 3;
    EXPECT_THROW(run.trainer->train(0, 2), std::runtime_error);
    EXPECT_TRUE(group->broken_reason.starts_with("training failed in iteration 0: ")) << group->broken_reason;
  }
}

}  // namespace
}  // namespace treadle
