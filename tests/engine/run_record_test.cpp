#include <treadle/base/log.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine.hpp>

#include <tests/support/fake_group.hpp>

#include <ATen/ops/rand.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/nn/module.h>

namespace treadle {
namespace {

struct Net final : torch::nn::Module {
  Net() {
    mean = register_buffer("mean", torch::zeros({2}));
    pixel_mean = register_buffer("pixel_mean", torch::zeros({1}));
  }
  torch::Tensor mean, pixel_mean;
};

/// Every step draws a random number, changes a buffer and takes a batch.
struct Trainer final : TrainerBase {
  Trainer(Net& net, BatchSource& source, TrainerOptions options = {})
      : TrainerBase(std::move(options)), net_(net), source_(source) {}
  void run_step() override {
    const double drawn = at::rand({1}).item<double>();
    net_.mean += source_.next()->tensor("x");
    storage().put_scalar("drawn", drawn);
    log.emplace_back(iter(), drawn, net_.mean[0].item<double>());
  }
  std::vector<std::tuple<std::int64_t, double, double>> log;
  Net& net_;
  BatchSource& source_;
};

std::unique_ptr<BatchSource> batches() {
  std::vector<Batch> list;
  for (int i = 0; i < 100; ++i) list.push_back(Batch(Dict{{"x", torch::full({2}, static_cast<float>(i * i))}}));
  return make_batch_source(std::move(list));
}

struct RunRecordTest : testing::Test {
  std::vector<std::string> warnings;
  LogCapture capture{[this](LogLevel level, std::string_view line) {
    if (level == LogLevel::warning) warnings.emplace_back(line);
  }};
};

TEST_F(RunRecordTest, ARunBeganWhenItWasFirstMade) {
  Net net;
  const auto source = batches();
  Trainer trainer(net, *source);
  const RunRecord first(trainer, nullptr, net);
  const Dict saved = first.state_dict();
  RunRecord resumed(trainer, nullptr, net);
  EXPECT_GE(resumed.state_dict().at("begun").as_int(), saved.at("begun").as_int());
  Dict earlier = saved;
  earlier.set("begun", 7);
  resumed.check_state_dict(earlier);
  resumed.load_state_dict(earlier);
  EXPECT_EQ(resumed.state_dict().at("begun").as_int(), 7);
  earlier.set("begun", "once");
  EXPECT_THROW(resumed.check_state_dict(earlier), FormatError);
  // Records from before it was written.
  earlier.erase("begun");
  resumed.check_state_dict(earlier);
}

TEST_F(RunRecordTest, AResumedRunGoesOnInTheSameBits) {
  seed_everything(5);
  Net net;
  auto source = batches();
  Trainer whole(net, *source);
  RunRecord record(whole, source.get(), net);
  whole.train(0, 6);
  const Dict saved = deep_clone(record.state_dict());
  const Dict state = deep_clone(whole.state_dict());
  whole.train(6, 9);

  seed_everything(99);
  Net other;
  auto other_source = batches();
  Trainer resumed(other, *other_source);
  RunRecord other_record(resumed, other_source.get(), other);
  ASSERT_TRUE(load_state({{"trainer", &resumed}, {"treadle", &other_record}}, {{"trainer", state}, {"treadle", saved}}).empty());
  at::rand({7});  // whatever happens between the load and the run draws from elsewhere
  resumed.train(resumed.start_iter(), 9);
  EXPECT_EQ(resumed.log, (std::vector(whole.log.begin() + 6, whole.log.end())));
  EXPECT_TRUE(identical(resumed.storage().state_dict(), whole.storage().state_dict()));
}

TEST_F(RunRecordTest, HasTheLayoutThatItsHeaderSays) {
  Net net;
  auto source = batches();
  Trainer trainer(net, *source);
  trainer.train(0, 1);
  const Dict state = RunRecord(trainer, source.get(), net, {"pixel_mean"}).state_dict();
  EXPECT_EQ(state.at("version").as_int(), 1);
  EXPECT_EQ(state.at("position").as_dict().at("iteration").as_int(), 0);
  EXPECT_EQ(state.at("ranks").as_list().size(), 1u);
  const Dict& rank = state.at("ranks").as_list()[0].as_dict();
  EXPECT_TRUE(rank.at("rng").as_dict().contains("cpu"));
  EXPECT_FALSE(rank.at("loader").as_dict().empty());
  EXPECT_TRUE(rank.at("buffers").as_dict().contains("mean"));
  EXPECT_FALSE(rank.at("buffers").as_dict().contains("pixel_mean"));
}

TEST_F(RunRecordTest, EveryRankTakesItsOwnEntry) {
  Net net;
  auto source = batches();
  const auto entry = [&](float mean) {
    Net one;
    one.mean.fill_(mean);
    Trainer trainer(one, *source);
    return RunRecord(trainer, source.get(), one).state_dict().at("ranks").as_list()[0];
  };
  Trainer main(net, *source);
  Dict state = deep_clone(RunRecord(main, source.get(), net).state_dict());
  state.set("ranks", deep_clone(Value(List{entry(10), entry(11)})));
  Trainer second(net, *source, {.group = std::make_shared<FakeGroup>(1, 2), .events = {}});
  RunRecord record(second, source.get(), net);
  record.check_state_dict(state);
  record.load_state_dict(state);
  EXPECT_EQ(net.mean[0].item<float>(), 11);
  EXPECT_TRUE(warnings.empty());

  Trainer third(net, *source, {.group = std::make_shared<FakeGroup>(2, 3), .events = {}});
  net.mean.fill_(-1);
  RunRecord late(third, source.get(), net);
  late.check_state_dict(state);
  late.load_state_dict(state);
  EXPECT_EQ(net.mean[0].item<float>(), -1);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("rank 2"), std::string::npos);
}

TEST_F(RunRecordTest, EveryRankGetsBackWhatItsTrainerHadOfItsOwn) {
  struct Own final : TrainerBase {
    using TrainerBase::TrainerBase;
    void run_step() override {}
    Dict rank_state_dict() const override { return own.empty() ? Dict() : Dict{{"own", own}}; }
    void check_rank_state_dict(const Dict& state) const override {
      if (!state.contains("own")) throw FormatError("no own");
    }
    void load_rank_state_dict(const Dict& state) override { own = state.at("own").as_string(); }
    std::string own;
  };
  Net net;
  auto group = std::make_shared<FakeGroup>(1, 3);
  Own trainer({.group = group, .events = {}});
  RunRecord record(trainer, nullptr, net);
  EXPECT_FALSE(record.state_dict().at("ranks").as_list()[1].as_dict().contains("trainer"));
  trainer.own = "of rank 1";
  Dict state = deep_clone(record.state_dict());
  state.at("ranks").as_list()[0].as_dict().at("trainer").as_dict().set("own", "of rank 0");
  trainer.own = "of the main process";
  record.check_state_dict(state);
  record.load_state_dict(state);
  EXPECT_EQ(trainer.own, "of rank 1");
  // A record of before, and one of fewer ranks, say nothing of it.
  state.at("ranks").as_list()[1].as_dict().erase("trainer");
  record.load_state_dict(state);
  EXPECT_EQ(trainer.own, "of rank 1");
  state.set("ranks", List{state.at("ranks").as_list()[0]});
  record.load_state_dict(state);
  EXPECT_EQ(trainer.own, "of rank 1");
  state.set("ranks", List{state.at("ranks").as_list()[0], state.at("ranks").as_list()[0]});
  state.at("ranks").as_list()[1].as_dict().set("trainer", Dict{});
  EXPECT_THROW(record.check_state_dict(state), FormatError);
}

TEST_F(RunRecordTest, CheckRefusesWhatLoadCouldNotTake) {
  Net net;
  auto source = batches();
  Trainer trainer(net, *source);
  RunRecord record(trainer, source.get(), net);
  const Dict good = deep_clone(record.state_dict());
  EXPECT_NO_THROW(record.check_state_dict(good));
  const auto refuses = [&](const std::string& key, Value value) {
    Dict bad = good;
    bad.set(key, std::move(value));
    EXPECT_THROW(record.check_state_dict(bad), FormatError) << key;
  };
  refuses("version", 2);
  refuses("events", Dict{{"nonsense", 1}});
  refuses("position", Dict{});
  refuses("position", Dict{{"iteration", 1}, {"after_step_index", 0}, {"hooks_behind", List{3}}});
  refuses("ranks", List{});
  refuses("ranks", List{Dict{}});
  Dict entry = good.at("ranks").as_list()[0].as_dict();
  entry.set("buffers", Dict{{"mean", at::zeros({5})}, {"pixel_mean", at::zeros({1})}});
  refuses("ranks", List{entry});
  entry = good.at("ranks").as_list()[0].as_dict();
  entry.set("rng", Dict{{"cpu", at::zeros({5})}});
  refuses("ranks", List{entry});
}

TEST_F(RunRecordTest, ASourceWithoutStateIsNoObstacle) {
  Net net;
  auto source = batches();
  Trainer trainer(net, *source);
  RunRecord record(trainer, nullptr, net);
  const Dict state = record.state_dict();
  record.check_state_dict(state);
  record.load_state_dict(state);
}

}  // namespace
}  // namespace treadle
