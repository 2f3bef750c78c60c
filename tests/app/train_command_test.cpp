#include <tests/app/command.hpp>
#include <treadle/checkpoint/file.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <regex>

namespace treadle {
namespace {

namespace fs = std::filesystem;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

Value model_in(const std::string& file) { return load_checkpoint_file(file).as_dict().at("model"); }

TEST(TrainCommand, TrainsShowsTheResultAndSaysHowToGoOn) {
  const Command command;
  const ProcessResult result = command.train();
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_TRUE(contains(result.out, "| classification/accuracy ")) << result.out;
  EXPECT_TRUE(contains(result.out, "--eval-only MODEL.WEIGHTS " + command.output + "/model_final.pth"));
  EXPECT_TRUE(contains(result.out, "--resume SOLVER.MAX_ITER 60"));
  EXPECT_TRUE(contains(result.out, "eta: "));
  EXPECT_FALSE(contains(result.out, "\033["));
  EXPECT_FALSE(contains(result.out, "\r"));
  for (const char* name : {"metrics.json", "config.yaml", "log.txt", "last_checkpoint", "model_0000009.pth", "model_0000029.pth",
                           "model_final.pth"}) {
    EXPECT_TRUE(fs::exists(command.output + "/" + name)) << name;
  }
  const auto metrics = lines_of(read_text(command.output + "/metrics.json"));
  EXPECT_GE(nlohmann::json::parse(metrics.back()).at("classification/accuracy").get<double>(), 50);
}

TEST(TrainCommand, EvaluatesWeightsOrTheLastCheckpoint) {
  const Command command;
  ASSERT_EQ(command.train().status, 0);
  const auto table = [](const std::string& out) { return out.substr(out.find("+--")); };
  const ProcessResult weights = command.train({"--eval-only", "MODEL.WEIGHTS", command.output + "/model_0000019.pth"});
  const ProcessResult last = command.train({"--eval-only", "--resume"});
  EXPECT_EQ(weights.status, 0) << weights.err;
  EXPECT_EQ(last.status, 0) << last.err;
  EXPECT_TRUE(std::regex_search(table(weights.out), std::regex(R"(\| classification/num_samples +\| +64 \|)"))) << weights.out;
  EXPECT_TRUE(std::regex_search(table(last.out), std::regex(R"(\| classification/num_samples +\| +64 \|)"))) << last.out;
  EXPECT_TRUE(fs::exists(command.output + "/last_checkpoint"));
}

TEST(TrainCommand, CtrlCSavesAndResumeGivesTheSameBits) {
  const Command whole, stopped;
  ASSERT_EQ(whole.train({"SOLVER.MAX_ITER", "60"}).status, 0);

  bool sent = false;
  const ProcessResult first = stopped.train({"SOLVER.MAX_ITER", "60"}, [&](const std::string& out, pid_t pid) {
    if (sent || !contains(out, "iter: 19")) return;
    sent = true;
    kill(pid, SIGINT);
  });
  ASSERT_EQ(first.status, 130) << first.out << first.err;
  EXPECT_TRUE(contains(first.out, "--resume SOLVER.MAX_ITER 60")) << first.out;
  EXPECT_FALSE(fs::exists(stopped.output + "/model_final.pth"));

  const ProcessResult second = stopped.train({"--resume", "SOLVER.MAX_ITER", "60"});
  ASSERT_EQ(second.status, 0) << second.err;
  EXPECT_TRUE(identical(model_in(whole.output + "/model_final.pth"), model_in(stopped.output + "/model_final.pth")));
}

TEST(TrainCommand, SigtermSavesToo) {
  const Command command;
  bool sent = false;
  const ProcessResult result = command.train({"SOLVER.MAX_ITER", "100000"}, [&](const std::string& out, pid_t pid) {
    if (!sent && contains(out, "iter: 19")) sent = kill(pid, SIGTERM) == 0;
  });
  EXPECT_EQ(result.status, 143) << result.out;
  EXPECT_TRUE(contains(result.out, "the state is saved"));
}

TEST(TrainCommand, ASecondCtrlCStopsAtOnce) {
  const Command command;
  int sent = 0;
  // A step of the whole data set takes long enough for the second signal to meet the step that the first one waits for.
  const ProcessResult result =
      command.train({"SOLVER.MAX_ITER", "100000", "SOLVER.IMS_PER_BATCH", "256"}, [&](const std::string& out, pid_t pid) {
        if (sent == 0 && contains(out, "iter: 19")) sent = kill(pid, SIGINT) == 0;
        if (sent == 1 && contains(out, "Ctrl-C: ")) sent = kill(pid, SIGINT) == 0 ? 2 : 1;
      });
  EXPECT_EQ(result.signal, SIGINT) << result.out;
  EXPECT_FALSE(contains(result.out, "the state is saved"));
}

TEST(TrainCommand, AKilledRunGoesOnToTheSameBits) {
  const Command whole, killed;
  ASSERT_EQ(whole.train({"SOLVER.MAX_ITER", "60"}).status, 0);
  const ProcessResult first = killed.train({"SOLVER.MAX_ITER", "60"}, [](const std::string& out, pid_t pid) {
    if (contains(out, "iter: 39")) kill(pid, SIGKILL);
  });
  ASSERT_EQ(first.status, 128 + SIGKILL);
  const ProcessResult second = killed.train({"--resume", "SOLVER.MAX_ITER", "60"});
  ASSERT_EQ(second.status, 0) << second.err;
  EXPECT_TRUE(contains(second.out, "Starting training from iteration ")) << second.out;
  EXPECT_FALSE(contains(second.out, "Starting training from iteration 0\n"));
  EXPECT_TRUE(identical(model_in(whole.output + "/model_final.pth"), model_in(killed.output + "/model_final.pth")));
}

TEST(TrainCommand, ResumeInAnEmptyFolderStartsAnewAndSaysSo) {
  const Command command;
  const ProcessResult result = command.train({"--resume", "SOLVER.MAX_ITER", "6"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(contains(result.out, "there is no checkpoint in"));
}

TEST(TrainCommand, ASecondRunInTheFolderSaysSo) {
  const Command command;
  ASSERT_EQ(command.train({"SOLVER.MAX_ITER", "6"}).status, 0);
  const ProcessResult second = command.train({"SOLVER.MAX_ITER", "6"});
  EXPECT_EQ(second.status, 0) << second.err;
  EXPECT_TRUE(contains(second.out, "holds an earlier run")) << second.out;
  EXPECT_TRUE(fs::exists(command.output + "/previous-1/metrics.json"));
  EXPECT_EQ(lines_of(read_text(command.output + "/metrics.json")).size(), 2u);
}

TEST(TrainCommand, ARunKilledBeforeItsFirstSaveIsResumedWithOneHistory) {
  const Command command;
  const ProcessResult killed = command.train({"SOLVER.CHECKPOINT_PERIOD", "1000"}, [](const std::string& out, pid_t pid) {
    if (contains(out, "iter: 19")) kill(pid, SIGKILL);
  });
  ASSERT_EQ(killed.signal, SIGKILL);
  ASSERT_EQ(command.train({"--resume"}).status, 0);
  EXPECT_EQ(lines_of(read_text(command.output + "/metrics.json")).size(), 3u);
}

TEST(TrainCommand, AMistakeLeavesTheEarlierRunWhole) {
  const Command command;
  ASSERT_EQ(command.train({"SOLVER.MAX_ITER", "6"}).status, 0);
  const std::string metrics = read_text(command.output + "/metrics.json");
  EXPECT_EQ(command.train({"SOLVER.CHECKPOINT_PERIOD", "0"}).status, 1);
  EXPECT_EQ(command.train({"DATASETS.TEST", "('nothing',)"}).status, 1);
  EXPECT_EQ(read_text(command.output + "/metrics.json"), metrics);
  EXPECT_EQ(command.train({"--resume", "SOLVER.MAX_ITER", "12"}).status, 0);
}

TEST(TrainCommand, WeightsThatCannotBeLoadedLeaveTheEarlierRunWhole) {
  const Command command;
  const fs::path output = command.output;
  ASSERT_EQ(command.train({"SOLVER.MAX_ITER", "6"}).status, 0);
  write_text(command.folder / "no_checkpoint.pth", "no checkpoint");
  // A line that a kill has torn is cut by who goes on with the file, and by nobody else.
  const std::string torn = read_text(output / "metrics.json") + "{\"iter";
  write_text(output / "metrics.json", torn);
  const std::string last = read_text(output / "last_checkpoint");
  const auto fails = [&](std::vector<std::string> words, const std::string& weights) {
    for (const std::string& word : {std::string("MODEL.WEIGHTS"), command.folder / weights}) words.push_back(word);
    const ProcessResult result = command.train(words);
    EXPECT_EQ(result.status, 1) << result.out;
    EXPECT_TRUE(contains(result.err, weights)) << result.err;
    EXPECT_EQ(read_text(output / "metrics.json"), torn) << weights;
    EXPECT_FALSE(fs::exists(output / "previous-1")) << weights;
  };
  for (const char* weights : {"absent.pth", "no_checkpoint.pth"}) fails({"SOLVER.MAX_ITER", "6"}, weights);
  EXPECT_EQ(read_text(output / "last_checkpoint"), last);
  const ProcessResult resumed = command.train({"--resume", "SOLVER.MAX_ITER", "12"});
  EXPECT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_TRUE(contains(resumed.out, "Starting training from iteration 6\n")) << resumed.out;

  // A run that had saved nothing yet begins anew with --resume too.
  fs::remove(output / "last_checkpoint");
  write_text(output / "metrics.json", torn);
  fails({"--resume", "SOLVER.MAX_ITER", "6"}, "absent.pth");
}

TEST(TrainCommand, HelpShowsAnExample) {
  const ProcessResult help = run_process({Command::program(), "train", "--help"});
  EXPECT_EQ(help.status, 0);
  EXPECT_TRUE(contains(help.out, "Example:"));
  EXPECT_TRUE(contains(help.out, "--eval-only"));
  EXPECT_EQ(run_process({Command::program(), "--help"}).status, 0);
}

}  // namespace
}  // namespace treadle
