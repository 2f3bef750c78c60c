// Whatever a user gets wrong: exit status 1 (2 for wrong usage), one line on stderr that says what and where, and no files left
// behind.
#include <tests/app/command.hpp>
#include <treadle/image/image.hpp>

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>

namespace treadle {
namespace {

namespace fs = std::filesystem;

struct BadInput : testing::Test {
  Command command;

  void expect(const std::vector<std::string>& arguments, const std::vector<std::string>& parts, int status = 1) {
    expect(command.train(arguments), parts, status);
  }
  void expect(const ProcessResult& result, const std::vector<std::string>& parts, int status) const {
    EXPECT_EQ(result.status, status) << result.out << result.err;
    EXPECT_EQ(lines_of(result.err).size(), 1u) << result.err;
    EXPECT_TRUE(result.err.starts_with("treadle: error: ")) << result.err;
    for (const std::string& part : parts)
      EXPECT_NE(result.err.find(part), std::string::npos) << "lacks: " << part << "\n" << result.err;
    for (const auto& entry : fs::recursive_directory_iterator(command.folder.path())) {
      EXPECT_NE(entry.path().extension(), ".tmp") << entry.path();
      EXPECT_EQ(entry.path().filename().string().find("probe"), std::string::npos) << entry.path();
    }
    for (const char* frame : {"Exception raised from", "frame #", "terminate called"})
      EXPECT_EQ(result.err.find(frame), std::string::npos);
  }
  void append_to_config(const std::string& line) { write_text(command.config, read_text(command.config) + line + "\n"); }
};

TEST_F(BadInput, UnknownKeyInTheFile) {
  write_text(command.config, "SOLVER:\n  MAX_ITR: 30\n");
  expect({}, {"config.yaml:2", "MAX_ITR", "SOLVER.MAX_ITER"});
  EXPECT_FALSE(fs::exists(command.output));
}

TEST_F(BadInput, UnknownKeyInTheOverrides) {
  expect({"SOLVER.BASE_RL", "0.1"}, {"SOLVER.BASE_RL", "SOLVER.BASE_LR"});
  EXPECT_FALSE(fs::exists(command.output));
}

TEST_F(BadInput, WrongType) {
  write_text(command.config, "SOLVER:\n  MAX_ITER: many\n");
  expect({}, {"config.yaml:2", "SOLVER.MAX_ITER", "int", "many"});
}

TEST_F(BadInput, WrongTypeInTheOverrides) { expect({"SOLVER.BASE_LR", "fast"}, {"SOLVER.BASE_LR", "float", "fast"}); }

TEST_F(BadInput, OverrideWithoutAValue) { expect({"SOLVER.BASE_LR"}, {"SOLVER.BASE_LR"}); }

TEST_F(BadInput, AConflictNamesBothPlaces) {
  write_text(command.folder / "base.yaml", "VERSION: 2\nSOLVER:\n  STEPS: (10, 20)\n");
  write_text(command.config, "_BASE_: base.yaml\nSOLVER:\n  STEPS: often\n");
  expect({}, {"config.yaml:3", "SOLVER.STEPS", "(30000,) (default)", "often"});
  write_text(command.config, "_BASE_: base.yaml\nSOLVER:\n  STEPS:\n    FIRST: 10\n");
  expect({}, {"config.yaml:3", "SOLVER.STEPS", "base.yaml:3"});
}

TEST_F(BadInput, AConfigOfANewerVersion) {
  write_text(command.config, "SEED: 1\nVERSION: 3\n");
  expect({}, {"config.yaml", "VERSION", "3", "2"});
}

TEST_F(BadInput, ResumeWithAnotherModelSaysWhichKeysDiffer) {
  ASSERT_EQ(command.train({"SOLVER.MAX_ITER", "6"}).status, 0);
  expect({"--resume", "MODEL.BACKBONE.NAME", "MLP"}, {"model_final.pth", "backbone.linear1.weight", "backbone.conv1.weight"});
}

TEST_F(BadInput, AScriptThatIsNone) {
  expect({"MODEL.META_ARCHITECTURE", "ScriptedModel"}, {"TREADLE.SCRIPTED.FILE is ''"});
  expect({"MODEL.META_ARCHITECTURE", "ScriptedModel", "TREADLE.SCRIPTED.FILE", command.folder / "absent.pt"}, {"absent.pt"});
  expect({"TREADLE.SCRIPTED.LOSS", "mean"}, {"TREADLE.SCRIPTED.LOSS is 'mean' (command line)", "\"mse\""});
}

TEST_F(BadInput, MissingConfigFile) {
  expect(run_process({Command::program(), "train", "--config-file", command.folder / "absent.yaml"}),
         {"absent.yaml", "No such file"}, 1);
}

TEST_F(BadInput, NotYaml) {
  write_text(command.config, "SOLVER: [1, 2\n");
  expect({}, {"config.yaml"});
}

TEST_F(BadInput, MissingDataFileNamesItsPackage) {
  fs::remove(command.folder / "train-labels-idx1-ubyte.gz");
  expect({}, {"train-labels-idx1-ubyte.gz", "dataset-fashion-mnist"});
}

TEST_F(BadInput, TruncatedDataFileGivesTheOffset) {
  write_gzip(command.folder / "t10k-images-idx3-ubyte.gz", idx_bytes({64, 28, 28}, std::string(100, 'x')));
  expect({}, {"t10k-images-idx3-ubyte.gz", "at byte 116"});
}

TEST_F(BadInput, AWrongDataFileGivesTheOffset) {
  write_gzip(command.folder / "t10k-labels-idx1-ubyte.gz", "this is not an IDX file");
  expect({}, {"t10k-labels-idx1-ubyte.gz", "at byte 0"});
}

TEST_F(BadInput, DataIsSaidWithItsPlace) {
  write_text(command.folder / "empty.csv", "x,label\n");
  write_text(command.folder / "label.csv", "x,label\n1,0\n2,5\n");
  fs::create_directories(command.folder / "none");
  fs::create_directories(command.folder / "bare/class");
  const auto from = [](const std::string& name) { return std::vector<std::string>{"DATASETS.TRAIN", "('" + name + "',)"}; };
  expect(from("csv:empty.csv:label:3"), {"empty.csv:1", "no sample"});
  expect(from("csv:label.csv:label:3"), {"label.csv:3", "\"label\"", "[0, 3)", "5"});
  expect(from("image_folder:none"), {"none\"", "classes"});
  expect(from("image_folder:bare"), {"bare/class\"", "no picture"});
  expect({"TREADLE.CLASSIFIER.NUM_CLASSES", "9", "SOLVER.IMS_PER_BATCH", "256"},
         {"TREADLE.CLASSIFIER.NUM_CLASSES is 9 (command line)", "has 10 classes"});
}

TEST_F(BadInput, ADamagedPictureIsSaidOrLeftOut) {
  fs::create_directories(command.folder / "pictures/class");
  for (int i = 0; i < 20; ++i)
    save_png(Image(28, 28, {static_cast<std::uint8_t>(i)}),
             command.folder / ("pictures/class/" + std::to_string(10 + i) + ".png"));
  const std::string damaged = command.folder / "pictures/class/17.png";
  write_text(damaged, read_text(damaged).substr(0, 60));
  std::vector<std::string> settings = {"DATASETS.TRAIN",       "('image_folder:pictures',)",
                                       "DATASETS.TEST",        "()",
                                       "INPUT.FORMAT",         "L",
                                       "INPUT.MIN_SIZE_TRAIN", "(0,)",
                                       "SOLVER.MAX_ITER",      "6"};
  expect(settings, {"sample 7 of \"image_folder:pictures\"", damaged, "at byte "});
  settings.insert(settings.end(), {"TREADLE.DATALOADER.MAX_SKIPPED", "20"});
  const ProcessResult lenient = command.train(settings);
  EXPECT_EQ(lenient.status, 0) << lenient.err;
  EXPECT_NE(lenient.out.find("left out: sample 7 of"), std::string::npos) << lenient.out;
}

TEST_F(BadInput, UnwritableOutputFolder) {
  write_text(command.folder / "file", "x");
  expect({"OUTPUT_DIR", command.folder / "file/run"}, {"file/run", "OUTPUT_DIR"});
}

TEST_F(BadInput, UnknownNames) {
  expect({"DATASETS.TRAIN", "('fashion_mnist',)"}, {"DATASETS.TRAIN", "\"fashion_mnist_train\""});
  expect({"MODEL.META_ARCHITECTURE", "ImageClasifier"}, {"MODEL.META_ARCHITECTURE", "\"ImageClassifier\""});
  expect({"MODEL.BACKBONE.NAME", "SmalCnn"}, {"MODEL.BACKBONE.NAME", "\"SmallCnn\""});
  expect({"TREADLE.SOLVER.OPTIMIZER", "SGDD"}, {"TREADLE.SOLVER.OPTIMIZER", "\"SGD\""});
  expect({"SOLVER.LR_SCHEDULER_NAME", "WarmupCosine"}, {"SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR"});
  expect({"MODEL.DEVICE", "gpu"}, {"MODEL.DEVICE", "cpu"});
  expect({"TREADLE.EVALUATORS", "('LosEvaluator',)"}, {"TREADLE.EVALUATORS", "\"LossEvaluator\"", "\"ClassificationEvaluator\""});
  expect({"MODEL.BACKBONE.NAME", "ResNet", "MODEL.RESNETS.NORM", "Frozen"}, {"MODEL.RESNETS.NORM", "\"FrozenBN\"", "\"GN\""});
}

TEST_F(BadInput, ValuesOutOfRange) {
  expect({"SOLVER.MAX_ITER", "-5"}, {"SOLVER.MAX_ITER"});
  expect({"SOLVER.IMS_PER_BATCH", "0"}, {"SOLVER.IMS_PER_BATCH"});
  expect({"SOLVER.BASE_LR", "-1.0"}, {"SOLVER.BASE_LR is -1.0 (command line)"});
  expect({"SOLVER.WARMUP_ITERS", "31"}, {"SOLVER.WARMUP_ITERS is 31 (command line)"});
  expect({"MODEL.BACKBONE.NAME", "ResNet", "MODEL.RESNETS.DEPTH", "20"}, {"MODEL.RESNETS.DEPTH is 20 (command line)", "34"});
  expect({"TEST.EXPECTED_RESULTS", "[['accuracy', 90]]"}, {"TEST.EXPECTED_RESULTS", "[task, metric, value, tolerance]"});
  expect({"FLOAT32_PRECISION", "low"}, {"FLOAT32_PRECISION is 'low' (command line)", "highest"});
  expect({"SOLVER.IMS_PER_BATCH", "100000"}, {"SOLVER.IMS_PER_BATCH is 100000 (command line)", "256"});
}

TEST_F(BadInput, WhatThisVersionDoesNotHave) { expect({"TEST.AUG.ENABLED", "True"}, {"TEST.AUG.ENABLED"}); }

TEST_F(BadInput, NothingToEvaluate) {
  expect({"--eval-only"}, {"MODEL.WEIGHTS", "--resume"});
  expect({"--eval-only", "MODEL.WEIGHTS", command.folder / "absent.pth"}, {"absent.pth"});
}

TEST_F(BadInput, AFileThatIsNoCheckpoint) {
  write_text(command.folder / "weights.pth", "not a checkpoint");
  expect({"--eval-only", "MODEL.WEIGHTS", command.folder / "weights.pth"}, {"weights.pth"});
}

TEST_F(BadInput, AnErrorOfLibTorchHasNoFramesAnywhere) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer says a line of its own about so much memory";
#endif
  const ProcessResult result = command.train({"MODEL.BACKBONE.NAME", "MLP", "TREADLE.CLASSIFIER.HIDDEN", "(1000000000000,)"});
  expect(result, {"error: DefaultCPUAllocator: can't allocate memory"}, 1);
  EXPECT_EQ(result.out.find("frame #"), std::string::npos) << result.out;
  EXPECT_EQ(read_text(command.output + "/log.txt").find("frame #"), std::string::npos);
}

TEST_F(BadInput, DivergenceStopsWithTheLosses) { expect({"SOLVER.BASE_LR", "1e30"}, {"not finite in iteration", "loss_cls"}); }

TEST_F(BadInput, TwoRunsInOneFolder) {
  const ProcessResult first =
      command.train({"SOLVER.MAX_ITER", "100000"}, [&, tried = false](const std::string& out, pid_t pid) mutable {
        if (tried || out.find("Starting training") == std::string::npos) return;
        tried = true;
        expect({"SOLVER.MAX_ITER", "6"}, {"another run is training in \"" + command.output + "\"", "OUTPUT_DIR"});
        EXPECT_EQ(command.train({"OUTPUT_DIR", command.folder / "other", "SOLVER.MAX_ITER", "6"}).status, 0);
        kill(pid, SIGTERM);
      });
  EXPECT_EQ(first.status, 128 + SIGTERM);
  EXPECT_EQ(command.train({"SOLVER.MAX_ITER", "6"}).status, 0);  // the lock has gone with the run
}

TEST_F(BadInput, WrongUsage) {
  expect({"--no-such-option"}, {"--no-such-option"}, 2);
  expect({"--config-file", command.config}, {"--config-file"}, 2);  // given twice
  expect(run_process({Command::program()}), {"--help"}, 2);
  expect(run_process({Command::program(), "trian"}), {"\"trian\"", "\"train\""}, 2);
  expect(run_process({Command::program(), "--json", "config"}), {"--json belongs behind the command: treadle config --json"}, 2);
}

}  // namespace
}  // namespace treadle
