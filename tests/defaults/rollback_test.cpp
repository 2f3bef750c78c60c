// NON_FINITE rollback by config: the files of a run that went back hold one history.
#include <tests/defaults/tiny_run.hpp>
#include <tests/support/clock_keys.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/defaults.hpp>
#include <treadle/models/model.hpp>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <limits>
#include <set>

namespace treadle {
namespace {

namespace fs = std::filesystem;

/// The batches of another source, of which some are left out and some hold a NaN.
class Spoilt final : public BatchSource {
 public:
  Spoilt(std::unique_ptr<BatchSource> source, std::set<int> left_out, std::set<int> poisoned)
      : source_(std::move(source)), left_out_(std::move(left_out)), poisoned_(std::move(poisoned)) {}
  std::optional<Batch> next() override {
    for (; left_out_.contains(count_); ++count_) source_->next();
    std::optional<Batch> batch = source_->next();
    if (poisoned_.contains(count_++)) {
      at::Tensor image = batch->tensor("image").to(at::kFloat);
      image.flatten()[0] = std::numeric_limits<float>::quiet_NaN();
      batch->fields().set("image", image);
    }
    return batch;
  }
  void rewind() override { source_->rewind(); }
  std::string name() const override { return source_->name(); }
  Dict state_dict() const override { return source_->state_dict(); }
  void check_state_dict(const Dict& state) const override { source_->check_state_dict(state); }
  void load_state_dict(const Dict& state) override { source_->load_state_dict(state); }

 private:
  std::unique_ptr<BatchSource> source_;
  std::set<int> left_out_, poisoned_;
  int count_ = 0;
};

struct RollbackByConfig : testing::Test {
  TinyRun run;
  TemporaryFolder output;
  LogCapture quiet{[](LogLevel, std::string_view) {}};
  void SetUp() override { at::set_num_threads(1); }

  void train(const fs::path& folder, const std::string& amp, const std::set<int>& left_out, const std::set<int>& poisoned) {
    Builders builders = default_builders();
    builders.train_loader = [&, build = builders.train_loader](const Config& config, std::shared_ptr<Group> group) {
      return std::make_unique<Spoilt>(build(config, std::move(group)), left_out, poisoned);
    };
    const std::vector<std::string> settings = {"SOLVER.MAX_ITER",
                                               "30",
                                               "SOLVER.CHECKPOINT_PERIOD",
                                               "5",
                                               "TEST.EVAL_PERIOD",
                                               "7",
                                               "TREADLE.EMA.ENABLED",
                                               "True",
                                               "TREADLE.EMA.DECAY",
                                               "0.5",
                                               "SOLVER.CLIP_GRADIENTS.ENABLED",
                                               "True",
                                               "SOLVER.AMP.ENABLED",
                                               amp,
                                               "TREADLE.SOLVER.NON_FINITE",
                                               "rollback",
                                               "TREADLE.SOLVER.ROLLBACK_PERIOD",
                                               "8"};
    seed_everything(11);
    DefaultTrainer trainer(run.config(folder.string(), settings), nullptr, builders);
    trainer.train();
  }

  static Value comparable(const fs::path& file) {
    Value value = load_checkpoint_file(file);
    Dict& checkpoint = value.as_dict();
    checkpoint.at("treadle").as_dict().erase("events");
    checkpoint.at("treadle").as_dict().erase("begun");
    checkpoint.at("trainer").as_dict().at("treadle_hooks").as_dict().erase("PeriodicWriter");
    checkpoint.at("trainer").as_dict().at("_trainer").as_dict().erase("rollbacks");
    return value;
  }

  static std::vector<nlohmann::json> metrics(const fs::path& folder) {
    std::vector<nlohmann::json> lines;
    for (const std::string& line : lines_of(read_text(folder / "metrics.json"))) {
      nlohmann::json object = nlohmann::json::parse(line);
      for (const char* key : kClockKeys) object.erase(key);
      object.erase("rollbacks");
      if (object.size() > 1) lines.push_back(object);
    }
    return lines;
  }
};

TEST_F(RollbackByConfig, EqualsARunThatWasNeverGivenTheBatches) {
  for (const std::string amp : {"False", "True"}) {
    const fs::path spoilt = output.path() / ("spoilt" + amp), clean = output.path() / ("clean" + amp);
    // A line is written at 19 and an evaluation's at 20, before batch 21 takes the run back to 16.
    train(spoilt, amp, {}, {21});
    train(clean, amp, {16, 17, 18, 19, 20, 21}, {});
    EXPECT_TRUE(identical(comparable(spoilt / "model_final.pth"), comparable(clean / "model_final.pth"))) << amp;
    EXPECT_EQ(metrics(spoilt), metrics(clean)) << amp;
    const std::string text = read_text(spoilt / "metrics.json");
    EXPECT_NE(text.find("\"rollbacks\": 1"), std::string::npos);
    EXPECT_EQ(read_text(clean / "metrics.json").find("rollbacks"), std::string::npos);
  }
}

}  // namespace
}  // namespace treadle
