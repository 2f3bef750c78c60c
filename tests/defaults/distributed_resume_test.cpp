// A run of several processes that is resumed from any of its checkpoints ends with the same bits as one that was never stopped.
#include "tests/support/ranks.hpp"

#include <tests/defaults/tiny_run.hpp>
#include <tests/support/clock_keys.hpp>
#include <tests/support/metrics_file.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/defaults.hpp>
#include <treadle/engine/distributed_model.hpp>

#include <gtest/gtest.h>

#include <cstdio>

namespace treadle {
namespace {

namespace fs = std::filesystem;

constexpr int kIterations = 7;

void erase_clock_of_pending(Dict& state) {
  if (Value* pending = state.find("pending_metrics")) pending->as_dict().erase("data_time");
}

/// What must be equal of a checkpoint: all but clock values and what the writers know of their files.
Value comparable(const fs::path& file) {
  Value value = load_checkpoint_file(file);
  Dict& trainer = value.as_dict().at("trainer").as_dict();
  Dict& record = value.as_dict().at("treadle").as_dict();
  record.erase("begun");
  for (const char* key : kClockKeys) record.at("events").as_dict().at("scalars").as_dict().erase(key);
  trainer.at("treadle_hooks").as_dict().erase("PeriodicWriter");
  erase_clock_of_pending(trainer.at("_trainer").as_dict());
  for (Value& rank : record.at("ranks").as_list()) {
    if (Value* own = rank.as_dict().find("trainer")) erase_clock_of_pending(own->as_dict());
  }
  return value;
}

std::string checkpoint_name(int iteration) {
  char name[32];
  std::snprintf(name, sizeof name, "model_%07d.pth", iteration);
  return name;
}

struct DistributedResume : testing::Test {
  TinyRun run;
  TemporaryFolder output;
  bool async_metrics = false;

  /// Trains on `size` ranks; `check` looks at the result on rank 0.
  void train(int size, const fs::path& folder, bool resume, const std::function<void(DefaultTrainer&)>& check) {
    expect_ranks(
        size,
        [&](Group& group) {
          const LogCapture quiet([](LogLevel, std::string_view) {});
          const std::shared_ptr<Group> shared(std::shared_ptr<Group>(), &group);
          // Other random numbers on every rank, and others again when resumed.
          seed_everything(static_cast<std::uint64_t>((resume ? 900 : 10) + group.get_rank()));
          DefaultTrainer trainer(
              run.config(folder.string(), {"SOLVER.CHECKPOINT_PERIOD", "1", "SOLVER.MAX_ITER", std::to_string(kIterations),
                                           "TEST.EVAL_PERIOD", "3", "SOLVER.IMS_PER_BATCH", "12",
                                           "TREADLE.SOLVER.ASYNC_WRITE_METRICS", async_metrics ? "True" : "False"}),
              shared);
          trainer.resume_or_load(resume);
          trainer.train();
          group.synchronize();
          const List weights = group.all_gather(named_parameters(trainer.model()).front().tensor);
          for (const Value& weight : weights) EXPECT_TRUE(identical(weight, weights[0]));
          if (group.is_main_process()) check(trainer);
        },
        {.timeout = std::chrono::seconds(60), .hard_limit = std::chrono::seconds(200)});
  }

  void expect_same_from(int iteration, int size, const fs::path& whole) {
    const fs::path resumed = output.path() / "resumed";
    fs::remove_all(resumed);
    fs::copy(whole, resumed);
    write_text(resumed / "last_checkpoint", checkpoint_name(iteration));
    train(size, resumed, true, [&](DefaultTrainer&) {
      EXPECT_TRUE(identical(comparable(whole / "model_final.pth"), comparable(resumed / "model_final.pth")))
          << size << " ranks, from iteration " << iteration;
      EXPECT_EQ(metrics_without_clock(whole), metrics_without_clock(resumed)) << size << " ranks, from iteration " << iteration;
    });
  }
};

TEST_F(DistributedResume, FromACheckpointOfAnyIteration) {
  for (int size : {3, 4}) {
    const fs::path whole = output.path() / ("whole" + std::to_string(size));
    train(size, whole, false, [&](DefaultTrainer& trainer) {
      EXPECT_NE(dynamic_cast<DistributedModel*>(&trainer.model()), nullptr);
      const Value final = load_checkpoint_file(whole / "model_final.pth");
      // Names as without ranks; the state of every rank, each with buffers of its own.
      EXPECT_TRUE(final.as_dict().at("model").as_dict().contains("backbone.conv1.weight"));
      const List& ranks = final.as_dict().at("treadle").as_dict().at("ranks").as_list();
      ASSERT_EQ(ranks.size(), static_cast<std::size_t>(size));
      EXPECT_FALSE(identical(ranks[0].as_dict().at("buffers"), ranks[1].as_dict().at("buffers")));
    });
    for (int iteration = 0; iteration + 1 < kIterations; ++iteration) expect_same_from(iteration, size, whole);
  }
}

TEST_F(DistributedResume, WithMetricsThatAreReadOneStepLater) {
  async_metrics = true;
  const fs::path whole = output.path() / "whole";
  train(3, whole, false, [&](DefaultTrainer&) {
    const Value final = load_checkpoint_file(whole / "model_final.pth");
    // The losses of each rank, which the mean is yet to be made of.
    const List& ranks = final.as_dict().at("treadle").as_dict().at("ranks").as_list();
    const auto losses = [&](std::size_t rank) {
      return ranks[rank].as_dict().at("trainer").as_dict().at("pending_metrics").as_dict().at("losses");
    };
    EXPECT_FALSE(identical(losses(0), losses(1)));
  });
  for (const int iteration : {0, 2, 5}) expect_same_from(iteration, 3, whole);
}

}  // namespace
}  // namespace treadle
