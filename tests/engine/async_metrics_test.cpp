// Metrics that are read one step later.
#include <tests/support/fake_group.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine.hpp>
#include <treadle/models/make_model.hpp>

#include <ATen/ops/full.h>
#include <gtest/gtest.h>
#include <torch/optim/sgd.h>

#include <limits>

namespace treadle {
namespace {

struct Net final : torch::nn::Module {
  Net() { w = register_parameter("w", torch::ones({1})); }
  torch::Tensor w;
};

/// Batch i is the number i + 1; the losses are x w and -x w / 2.
struct ShortRun {
  std::shared_ptr<Net> net = std::make_shared<Net>();
  torch::optim::SGD sgd{net->parameters(), 0.125};
  std::int64_t next_batch = 0;
  std::unique_ptr<BatchSource> source = make_batch_source(std::function<std::optional<Batch>()>([this] {
    ++next_batch;
    return std::optional<Batch>(Batch(Dict{{"x", at::full({1}, double(next_batch))}}, {next_batch}));
  }));
  std::unique_ptr<SimpleTrainer> trainer;

  explicit ShortRun(const SimpleTrainerOptions& options) {
    auto model = make_model(net, [](std::shared_ptr<Net>& n, const Batch& batch) -> LossDict {
      const at::Tensor product = (batch.tensor("x") * n->w).sum();
      return {{"a", product}, {"b", product * -0.5}};
    });
    trainer = std::make_unique<SimpleTrainer>(model, *source, sgd, options);
  }
  std::vector<HistoryBuffer::Sample> values(const std::string& name) const { return trainer->storage().history(name).values(); }
};

struct AsyncMetrics : testing::Test {
  std::vector<std::string> lines;
  LogCapture capture{[this](LogLevel, std::string_view line) { lines.emplace_back(line); }};
  const SimpleTrainerOptions async{.async_write_metrics = true};
};

TEST_F(AsyncMetrics, AreThoseOfEachIterationOneStepLater) {
  ShortRun plain({}), late(async);
  std::vector<std::int64_t> recorded;  // the newest iteration that is recorded when a step is done
  struct Look final : HookBase {
    std::vector<std::int64_t>* newest = nullptr;
    void after_step(TrainerBase& trainer) override {
      const HistoryBuffer* history = trainer.storage().find_history("a");
      newest->push_back(history ? history->values().back().iteration : -1);
    }
  };
  late.trainer->add_hook<Look>().newest = &recorded;
  plain.trainer->train(0, 5);
  late.trainer->train(0, 5);
  EXPECT_EQ(recorded, (std::vector<std::int64_t>{-1, 0, 1, 2, 3}));
  for (const char* name : {"a", "b", "total_loss"}) EXPECT_EQ(late.values(name), plain.values(name)) << name;
  for (const char* name : {"data_time", "rank_data_time"}) EXPECT_EQ(late.values(name).size(), 5u);
  EXPECT_EQ(late.values("data_time").back().iteration, 4);
  EXPECT_EQ(late.net->w.item<float>(), plain.net->w.item<float>());
}

TEST_F(AsyncMetrics, KeepTheGatherPeriodAndTheMeanOverBatches) {
  SimpleTrainerOptions options{.gather_metric_period = 2, .batches_per_step = 3};
  ShortRun plain(options);
  options.async_write_metrics = true;
  ShortRun late(options);
  plain.trainer->train(0, 5);
  late.trainer->train(0, 5);
  EXPECT_EQ(late.values("a"), plain.values("a"));
  ASSERT_EQ(late.values("a").size(), 2u);
  EXPECT_EQ(late.values("a").front().iteration, 1);
}

TEST_F(AsyncMetrics, WhatIsPendingIsPartOfTheState) {
  ShortRun whole(async);
  whole.trainer->train(0, 6);
  ShortRun first(async);
  std::optional<Dict> state, events;
  struct Keep final : HookBase {
    std::function<void(TrainerBase&)> keep;
    void after_step(TrainerBase& trainer) override {
      if (trainer.iter() == 2) keep(trainer);
    }
  };
  first.trainer->add_hook<Keep>().keep = [&](TrainerBase& trainer) {
    state = deep_clone(trainer.state_dict());
    events = deep_clone(trainer.storage().state_dict());
  };
  first.trainer->train(0, 3);
  EXPECT_EQ(state->at("pending_metrics").as_dict().at("iteration").as_int(), 2);

  // With the option or without it: no metric is lost and none is recorded twice.
  for (const bool still : {true, false}) {
    ShortRun resumed({.async_write_metrics = still});
    resumed.next_batch = 3;
    resumed.net->w.detach().copy_(first.net->w.detach());
    resumed.trainer->check_state_dict(*state);
    resumed.trainer->load_state_dict(*state);
    resumed.trainer->storage().load_state_dict(*events);
    resumed.trainer->train(3, 6);
    for (const char* name : {"a", "b", "total_loss"}) EXPECT_EQ(resumed.values(name), whole.values(name)) << name << still;
  }
  Dict broken = *state;
  broken.at("pending_metrics").as_dict().set("iteration", -2);
  EXPECT_THROW(first.trainer->check_state_dict(broken), FormatError);
  broken = *state;
  broken.at("pending_metrics").as_dict().set("losses", Dict{{std::int64_t{7}, 0.5}});
  EXPECT_THROW(first.trainer->check_state_dict(broken), FormatError);
}

TEST_F(AsyncMetrics, NoticeALossThatIsNotFiniteOneStepLater) {
  for (const std::int64_t bad : {2, 4}) {  // 4 is the last: noticed in time, or hooks would save it
    lines.clear();
    ShortRun run(async);
    struct End final : HookBase {
      std::vector<Outcome> outcomes;
      std::int64_t steps = 0;
      void after_step(TrainerBase&) override { ++steps; }
      void after_train(TrainerBase& trainer) override { outcomes.push_back(trainer.outcome()); }
    };
    End& end = run.trainer->add_hook<End>();
    int step = 0;
    run.net->w.register_hook(
        [&](const at::Tensor& grad) { return ++step == bad ? grad * std::numeric_limits<float>::infinity() : grad; });
    try {
      run.trainer->train(0, bad == 4 ? 5 : 8);
      FAIL();
    } catch (const NonFiniteError& error) {
      // The weight is infinite from the step `bad - 1` on, the loss in the one behind it.
      EXPECT_EQ(error.iteration(), bad);
      EXPECT_EQ(error.ids(), (std::vector<std::int64_t>{bad + 1}));
      EXPECT_EQ(error.losses().front().first, "a");
    }
    EXPECT_EQ(run.trainer->outcome(), Outcome::failed);
    EXPECT_EQ(end.outcomes, std::vector{Outcome::failed});
    const std::int64_t noticed = bad == 4 ? 4 : bad + 1;
    EXPECT_EQ(end.steps, noticed);
    EXPECT_TRUE(run.trainer->group().is_broken());
    EXPECT_TRUE(lines.back().starts_with("Exception during training in iteration " + std::to_string(noticed) + ": "))
        << lines.back();
    EXPECT_NE(lines.back().find("iteration " + std::to_string(bad) + ": a = "), std::string::npos) << lines.back();
    EXPECT_EQ(run.values("a").size(), static_cast<std::size_t>(bad));
  }
}

TEST_F(AsyncMetrics, TravelInTheExchangeOfTheNextStep) {
  auto group = std::make_shared<FakeGroup>(0, 2);
  group->play_exchange = [](const std::vector<double>& own) {
    auto other = own;
    for (std::size_t i = 4; i < other.size(); ++i) other[i] += 2;
    return StepRows{own, other};
  };
  SimpleTrainerOptions options = async;
  options.trainer.group = group;
  ShortRun plain({}), late(options);
  plain.trainer->train(0, 4);
  late.trainer->train(0, 4);
  const auto expected = plain.values("a"), found = late.values("a");
  ASSERT_EQ(found.size(), 4u);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(found[i].value, expected[i].value + 1);
}

TEST_F(AsyncMetrics, CannotBeCombinedWithWhatNeedsAVerdictInTime) {
  for (const NonFiniteAction action : {NonFiniteAction::skip, NonFiniteAction::roll_back}) {
    EXPECT_THROW(validate(SimpleTrainerOptions{.async_write_metrics = true, .non_finite = {.action = action}}), ConfigError);
  }
  EXPECT_THROW(validate(SimpleTrainerOptions{.async_write_metrics = true, .non_finite = {.check_gradients = true}}), ConfigError);
}

}  // namespace
}  // namespace treadle
