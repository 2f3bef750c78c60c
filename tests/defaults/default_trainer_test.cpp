#include <tests/defaults/tiny_run.hpp>
#include <treadle/base/log.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/comm/group.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/defaults.hpp>
#include <treadle/evaluation/evaluator.hpp>
#include <treadle/hooks.hpp>
#include <treadle/models/make_model.hpp>
#include <treadle/solver/lr_scheduler.hpp>

#include <ATen/ops/ones.h>
#include <gtest/gtest.h>
#include <torch/optim/sgd.h>

#include <algorithm>
#include <limits>
#include <map>

namespace treadle {
namespace {

namespace fs = std::filesystem;

struct DefaultTrainerTest : testing::Test {
  TinyRun run;
  TemporaryFolder output;
  std::vector<std::string> logs;
  LogCapture capture{[this](LogLevel, std::string_view line) { logs.emplace_back(line); }};
};

TEST_F(DefaultTrainerTest, TrainsEvaluatesAndLeavesItsFiles) {
  DefaultTrainer trainer(run.config(output / "."), nullptr);
  EXPECT_EQ(trainer.hook_keys(), (std::vector<std::string>{"IterationTimer", "LRScheduler", "PeriodicCheckpointer", "EvalHook",
                                                           "PeriodicWriter", "PeriodicWriter#2"}));
  trainer.resume_or_load(false);
  const Dict results = trainer.train();
  EXPECT_EQ(results.at("classification").as_dict().at("num_samples").as_int(), 64);
  for (const char* name : {"metrics.json", "last_checkpoint", "model_0000004.pth", "model_0000009.pth", "model_final.pth"}) {
    EXPECT_TRUE(fs::exists(output / name)) << name;
  }
  EXPECT_EQ(read_text(output / "last_checkpoint"), "model_final.pth");
  const auto metrics = lines_of(read_text(output / "metrics.json"));
  EXPECT_NE(metrics.back().find("\"classification/accuracy\""), std::string::npos);
  EXPECT_NE(metrics.back().find("\"iteration\": 12"), std::string::npos);
}

TEST_F(DefaultTrainerTest, CheckpointHasDetectron2sLayoutAndOurRecord) {
  DefaultTrainer trainer(run.config(output / "."), nullptr);
  trainer.train();
  const Value file = load_checkpoint_file(output / "model_0000004.pth");
  const Dict& checkpoint = file.as_dict();
  EXPECT_EQ(checkpoint.at("iteration").as_int(), 4);
  EXPECT_TRUE(checkpoint.at("model").as_dict().contains("backbone.conv1.weight"));
  EXPECT_FALSE(checkpoint.at("model").as_dict().contains("pixel_mean"));
  const Dict& state = checkpoint.at("trainer").as_dict();
  EXPECT_EQ(state.at("iteration").as_int(), 4);
  EXPECT_TRUE(state.at("hooks").as_dict().contains("LRScheduler"));
  EXPECT_EQ(state.at("hooks").as_dict().size(), 1u);  // Detectron2 would hand the writer's to a hook that takes none
  EXPECT_TRUE(state.at("treadle_hooks").as_dict().contains("PeriodicWriter"));
  EXPECT_EQ(state.at("_trainer").as_dict().at("iteration").as_int(), 4);
  EXPECT_TRUE(state.at("_trainer").as_dict().at("optimizer").as_dict().contains("param_groups"));
  const Dict& record = checkpoint.at("treadle").as_dict();
  EXPECT_EQ(record.at("position").as_dict().at("after_step_index").as_int(), 2);
  EXPECT_EQ(record.at("ranks").as_list().size(), 1u);
}

TEST_F(DefaultTrainerTest, AllSixCallsReachItsHooks) {
  std::map<std::string, int> calls;
  Builders builders = default_builders();
  builders.hooks = [&](DefaultTrainer&) {
    const auto count = [&](const char* name) { return [&calls, name](TrainerBase&) { ++calls[name]; }; };
    std::vector<std::unique_ptr<HookBase>> hooks;
    hooks.push_back(std::make_unique<hooks::CallbackHook>(hooks::Callbacks{.before_train = count("before_train"),
                                                                           .after_train = count("after_train"),
                                                                           .before_step = count("before_step"),
                                                                           .after_backward = count("after_backward"),
                                                                           .after_step = count("after_step"),
                                                                           .registered = count("registered")}));
    return hooks;
  };
  DefaultTrainer trainer(run.config(output / "."), nullptr, builders);
  trainer.train();
  const std::map<std::string, int> expected = {{"registered", 1},      {"before_train", 1}, {"before_step", 12},
                                               {"after_backward", 12}, {"after_step", 12},  {"after_train", 1}};
  EXPECT_EQ(calls, expected);
}

/// Stands in for every part, and says which were asked for.
TEST_F(DefaultTrainerTest, EveryBuilderCanBeReplaced) {
  struct Net final : torch::nn::Module {
    Net() { w = register_parameter("w", torch::ones({1})); }
    torch::Tensor w;
  };
  struct Constant final : DatasetEvaluator {
    void reset() override {}
    void process(const Batch&, const List&) override {}
    Dict evaluate() override { return {{"own", Dict{{"value", 4}}}}; }
  };
  std::vector<std::string> built;
  Builders builders = default_builders();
  builders.model = [&](const Config&) {
    built.emplace_back("model");
    return make_model(
        std::make_shared<Net>(),
        [](auto& net, const Batch& batch) -> LossDict { return {{"own_loss", (batch.tensor("x") * net->w).sum()}}; },
        [](auto&, const Batch&) { return List{Dict{}}; });
  };
  builders.optimizer = [&](const Config&, Model& model) {
    built.emplace_back("optimizer");
    return std::make_unique<torch::optim::SGD>(model.parameters(), 0.5);
  };
  builders.lr_scheduler = [&](const Config&, torch::optim::Optimizer& optimizer) {
    built.emplace_back("lr_scheduler");
    return std::make_unique<LRMultiplier>(optimizer, [](double) { return 0.5; }, LRMultiplierOptions{.max_iter = 2});
  };
  builders.train_loader = [&](const Config&, std::shared_ptr<Group>) {
    built.emplace_back("train_loader");
    return make_batch_source([]() -> std::optional<Batch> { return Batch(Dict{{"x", at::ones({1})}}); });
  };
  builders.test_loader = [&](const Config&, const std::string& name, std::shared_ptr<Group>) {
    built.push_back("test_loader " + name);
    return make_batch_source(std::vector<Batch>{Batch(Dict{{"x", at::ones({1})}})});
  };
  builders.evaluator = [&](const Config&, const std::string& name, std::shared_ptr<Group>) {
    built.push_back("evaluator " + name);
    return std::make_unique<Constant>();
  };
  builders.writers = [&](DefaultTrainer&) {
    built.emplace_back("writers");
    return std::vector<hooks::PeriodicWriter::NamedWriter>();
  };
  DefaultTrainer trainer(run.config(output / ".", {"SOLVER.MAX_ITER", "2", "DATASETS.TEST", "('first', 'second')"}), nullptr,
                         builders);
  const Dict results = trainer.train();
  EXPECT_EQ(built, (std::vector<std::string>{"train_loader", "test_loader first", "evaluator first", "test_loader second",
                                             "evaluator second", "model", "optimizer", "lr_scheduler", "writers"}));
  EXPECT_EQ(results.at("second").as_dict().at("own").as_dict().at("value").as_int(), 4);
  EXPECT_EQ(trainer.model().parameters()[0].item<float>(), 1 - 0.25f - 0.25f);
  EXPECT_NE(trainer.storage().find_history("own_loss"), nullptr);
  EXPECT_FALSE(fs::exists(output / "metrics.json"));
}

TEST_F(DefaultTrainerTest, WeightsAloneDoNotResume) {
  {
    DefaultTrainer trainer(run.config(output / "first"), nullptr);
    trainer.train();
  }
  DefaultTrainer trainer(run.config(output / "second", {"MODEL.WEIGHTS", output / "first/model_final.pth"}), nullptr);
  trainer.resume_or_load(true);
  EXPECT_EQ(trainer.start_iter(), 0);
  const Value saved = load_checkpoint_file(output / "first/model_final.pth");
  EXPECT_TRUE(trainer.model().named_parameters()["backbone.output.bias"].equal(
      saved.as_dict().at("model").as_dict().at("backbone.output.bias").as_tensor()));
}

TEST_F(DefaultTrainerTest, ARunThatHasComeFurtherThanItsEndIsSaid) {
  DefaultTrainer(run.config(output / "."), nullptr).train();
  DefaultTrainer trainer(run.config(output / ".", {"SOLVER.MAX_ITER", "6"}), nullptr);
  trainer.resume_or_load(true);
  EXPECT_THROW(trainer.train(), ConfigError);
}

TEST_F(DefaultTrainerTest, MixedPrecisionTrainsAndItsScaleIsSaved) {
  DefaultTrainer trainer(run.config(output / ".", {"SOLVER.AMP.ENABLED", "True"}), nullptr);
  ASSERT_NE(dynamic_cast<AMPTrainer*>(&trainer.inner_trainer()), nullptr);
  trainer.train();
  const Value saved = load_checkpoint_file(output / "model_final.pth");
  const Dict& inner = saved.as_dict().at("trainer").as_dict().at("_trainer").as_dict();
  const std::int64_t tracker = inner.at("grad_scaler").as_dict().at("_growth_tracker").as_int();
  EXPECT_GT(tracker, 0);
  DefaultTrainer resumed(run.config(output / ".", {"SOLVER.AMP.ENABLED", "True"}), nullptr);
  resumed.resume_or_load(true);
  EXPECT_EQ(dynamic_cast<AMPTrainer&>(resumed.inner_trainer()).grad_scaler().growth_tracker(), tracker);
}

TEST_F(DefaultTrainerTest, SeveralBatchesMakeOneStep) {
  DefaultTrainer trainer(run.config(output / ".", {"TREADLE.SOLVER.BATCHES_PER_STEP", "2", "SOLVER.MAX_ITER", "4"}), nullptr);
  trainer.train();
  EXPECT_EQ(trainer.inner_trainer().options().batches_per_step, 2);
}

TEST_F(DefaultTrainerTest, ARunResumedWithOtherSettingsTakesTheNewOnesAndWarnsOnceOfEach) {
  DefaultTrainer(run.config(output / "."), nullptr).train();
  const std::vector<std::string> other = {"SOLVER.MAX_ITER", "24", "SOLVER.BASE_LR", "0.2", "SOLVER.WEIGHT_DECAY", "0.5"};
  logs.clear();
  DefaultTrainer trainer(run.config(output / ".", other), nullptr);
  trainer.resume_or_load(true);
  const auto lines_with = [&](const std::string& text) {
    return std::ranges::count_if(logs, [&](const std::string& line) { return line.find(text) != std::string::npos; });
  };
  EXPECT_EQ(lines_with("the base learning rate differs"), 1);
  EXPECT_EQ(lines_with("the weight decay of parameter group"), 1);
  EXPECT_EQ(lines_with("SOLVER.MAX_ITER differs"), 1);
  EXPECT_EQ(trainer.lr_scheduler().base_lrs().front(), 0.2);
  trainer.train();
  EXPECT_EQ(trainer.iter(), 24);
}

TEST_F(DefaultTrainerTest, ARunResumedWithSavedSettingsGoesOnAsItWasMeantTo) {
  {
    DefaultTrainer first(run.config(output / "."), nullptr);
    first.add_hook<hooks::CallbackHook>(hooks::Callbacks{.after_step = [](TrainerBase& trainer) {
      if (trainer.iter() == 6) trainer.request_stop("the test");
    }});
    first.train();
  }
  Config config = run.config(output / ".", {"TREADLE.SOLVER.RESUME", "saved", "SOLVER.MAX_ITER", "24", "SOLVER.BASE_LR", "0.2",
                                            "SOLVER.WEIGHT_DECAY", "0.5"});
  take_saved_max_iter(config);
  EXPECT_EQ(config.get_int("SOLVER.MAX_ITER"), 12);
  logs.clear();
  DefaultTrainer trainer(config, nullptr);
  trainer.resume_or_load(true);
  EXPECT_EQ(trainer.lr_scheduler().base_lrs().front(), 0.05);
  EXPECT_EQ(static_cast<torch::optim::SGDOptions&>(trainer.optimizer().param_groups()[0].options()).weight_decay(), 0.0001);
  for (const std::string& line : logs) EXPECT_EQ(line.find("differs"), std::string::npos) << line;
  trainer.train();
  EXPECT_EQ(trainer.iter(), 12);

  Config fresh = run.config(output / "nothing here", {"TREADLE.SOLVER.RESUME", "saved", "SOLVER.MAX_ITER", "24"});
  take_saved_max_iter(fresh);
  EXPECT_EQ(fresh.get_int("SOLVER.MAX_ITER"), 24);
}

TEST_F(DefaultTrainerTest, AFinishedRunResumedEvaluatesAgain) {
  const Dict first = DefaultTrainer(run.config(output / "."), nullptr).train();
  const std::string metrics = read_text(output / "metrics.json");
  DefaultTrainer trainer(run.config(output / "."), nullptr);
  trainer.resume_or_load(true);
  EXPECT_EQ(trainer.start_iter(), 12);
  EXPECT_TRUE(identical(trainer.train(), first));
  EXPECT_EQ(read_text(output / "metrics.json"), metrics);
}

TEST_F(DefaultTrainerTest, TheInnerTrainersEndOfTrainingRuns) {
  DefaultTrainer trainer(run.config(output / ".", {"SOLVER.MAX_ITER", "4"}), nullptr);
  int ends = 0;
  trainer.inner_trainer().add_hook<hooks::CallbackHook>(hooks::Callbacks{.after_train = [&](TrainerBase&) {
    ++ends;
    throw FormatError("at the end of the inner trainer");
  }});
  trainer.add_hook<hooks::CallbackHook>(hooks::Callbacks{.after_train = [&](TrainerBase&) { ++ends; }});
  trainer.inner_trainer();
  trainer.train();
  EXPECT_EQ(ends, 2);
}

TEST_F(DefaultTrainerTest, NothingIsEvaluatedOrSavedWhenTheLastLossIsNotFinite) {
  // The loss is read at the end of the last step; its weights are those of every other run.
  Builders builders = default_builders();
  builders.model = [inner = builders.model](const Config& config) {
    const std::shared_ptr<Model> model = inner(config);
    return make_model(
        model,
        [steps = 0](auto& m, const Batch& batch) mutable {
          LossDict losses = m->losses(batch);
          if (++steps == 4) losses.front().second = losses.front().second * std::numeric_limits<double>::quiet_NaN();
          return losses;
        },
        [](auto& m, const Batch& batch) { return m->predict(batch); });
  };
  DefaultTrainer trainer(
      run.config(output / ".", {"SOLVER.MAX_ITER", "4", "TEST.EVAL_PERIOD", "0", "TREADLE.SOLVER.ASYNC_WRITE_METRICS", "True",
                                "TREADLE.EMA.ENABLED", "True", "TREADLE.BEST_CHECKPOINT.METRIC", "classification/accuracy"}),
      nullptr, builders);
  EXPECT_THROW(trainer.train(), NonFiniteError);
  EXPECT_EQ(trainer.outcome(), Outcome::failed);
  EXPECT_TRUE(trainer.last_results().empty());
  for (const char* file : {"model_final.pth", "model_ema.pth", "model_best.pth"}) EXPECT_FALSE(fs::exists(output / file)) << file;
  EXPECT_TRUE(std::ranges::any_of(logs, [](const std::string& line) {
    return line.starts_with("Exception during training in iteration 3: a loss or gradient is not finite in iteration 3: ");
  }));
}

TEST_F(DefaultTrainerTest, AResumeWithoutOurRecordIsSaid) {
  DefaultTrainer(run.config(output / "."), nullptr).train();
  Value file = load_checkpoint_file(output / "model_0000004.pth");
  file.as_dict().erase("treadle");
  save_checkpoint_file(output / "model_0000004.pth", file);
  write_text(output / "last_checkpoint", "model_0000004.pth");
  logs.clear();
  DefaultTrainer trainer(run.config(output / "."), nullptr);
  trainer.resume_or_load(true);
  EXPECT_EQ(trainer.start_iter(), 5);
  EXPECT_NE(logs.back().find("not written by Treadle"), std::string::npos);
}

TEST_F(DefaultTrainerTest, WithoutTestDataNothingIsEvaluated) {
  DefaultTrainer trainer(run.config(output / ".", {"DATASETS.TEST", "()"}), nullptr);
  EXPECT_TRUE(trainer.train().empty());
  EXPECT_TRUE(trainer.tester().empty());
}

TEST_F(DefaultTrainerTest, UnknownNamesAreSaidWithTheirKey) {
  const auto message = [&](const std::vector<std::string>& overrides) {
    try {
      DefaultTrainer trainer(run.config(output / ".", overrides), nullptr);
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(message({"DATASETS.TRAIN", "('fashion_mnist_trian',)"}).find("fashion_mnist_train"), std::string::npos);
  EXPECT_NE(message({"DATASETS.TRAIN", "('a', 'b')"}).find("DATASETS.TRAIN"), std::string::npos);
  EXPECT_NE(message({"MODEL.META_ARCHITECTURE", "ImageClasifier"}).find("\"ImageClassifier\""), std::string::npos);
  EXPECT_NE(message({"TEST.AUG.ENABLED", "True"}).find("TEST.AUG.ENABLED"), std::string::npos);
}

TEST_F(DefaultTrainerTest, TrainsForEpochsOnSeveralDataSetsAndSeesItsLoader) {
  // 256 + 64 samples in batches of 16: 20 iterations an epoch.
  DefaultTrainer trainer(run.config(output / ".", {"DATASETS.TRAIN", "('fashion_mnist_train', 'fashion_mnist_test')",
                                                   "TREADLE.SOLVER.MAX_EPOCHS", "1.25", "TREADLE.DATALOADER.TIMES", "True"}),
                         nullptr);
  EXPECT_EQ(trainer.config().get_int("SOLVER.MAX_ITER"), 25);
  trainer.train();
  EXPECT_EQ(trainer.iter(), 25);
  EXPECT_EQ(trainer.hook_keys().at(1), "LoaderTimer");
  const double decode = trainer.storage().history("data_decode_time").latest();
  const double collate = trainer.storage().history("data_collate_time").latest();
  EXPECT_GE(decode, 0);
  EXPECT_GE(collate, 0);
  EXPECT_LE(decode + collate, trainer.storage().history("rank_data_time").latest());
}

TEST_F(DefaultTrainerTest, TrainsOnATableThatItsNameDescribes) {
  std::string table = "label";
  for (int i = 0; i < 4; ++i) table += ",x" + std::to_string(i);
  for (int i = 0; i < 32; ++i) table += "\n" + std::to_string(i % 2) + ",1,2,3," + std::to_string(i);
  write_text(run.data / "table.csv", table);
  auto builders = default_builders();
  const Config config = run.config(output / ".", {"DATASETS.TRAIN", "('csv:table.csv:label:2',)", "INPUT.RANDOM_FLIP", "none"});
  const auto source = builders.train_loader(config, make_single_process_group());
  const Batch batch = source->next().value();
  EXPECT_EQ(batch.tensor("x").sizes(), (at::IntArrayRef{16, 4}));
  EXPECT_EQ(batch.tensor("label").size(0), 16);
}

}  // namespace
}  // namespace treadle
