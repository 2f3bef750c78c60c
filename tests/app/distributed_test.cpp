// `treadle train` with many processes: ours, those of others, two machines; failures, signals and restarts.
#include <tests/app/command.hpp>
#include <tests/support/no_thread_sanitizer.hpp>
#include <tests/support/running_process.hpp>
#include <tests/support/source_folder.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/launch/held_port.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace treadle {
namespace {

namespace fs = std::filesystem;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

Value model_in(const std::string& file) { return load_checkpoint_file(file).as_dict().at("model"); }

std::string free_url() { return "tcp://127.0.0.1:" + std::to_string(find_free_port().port()); }

/// A run in a folder of its own, whose processes bear a mark.
struct Trained {
  Command command;
  std::pair<std::string, std::string> mark = new_mark();

  std::map<std::string, std::string> environment() const { return {mark}; }
  ProcessResult run(std::vector<std::string> rest) const {
    RunningProcess process(command.words(std::move(rest)), environment());
    return process.finish(std::chrono::minutes(3));
  }
  Value weights() const { return model_in(command.output + "/model_final.pth"); }
  bool nothing_left() const { return none_left(mark); }
  /// The process of rank `rank`.
  pid_t rank(int rank) const {
    for (const pid_t pid : processes_marked(mark.first + "=" + mark.second)) {
      if (read_text("/proc/" + std::to_string(pid) + "/comm") == "treadle:" + std::to_string(rank) + "\n") return pid;
    }
    return 0;
  }
};

TEST(Distributed, TwoProcessesTrainOnce) {
  const Trained run;
  const ProcessResult result = run.run({"--num-gpus", "2"});
  ASSERT_EQ(result.status, 0) << result.out << result.err;
  EXPECT_TRUE(contains(result.out, "| classification/accuracy ")) << result.out;
  EXPECT_TRUE(contains(result.out, "           64 |\n")) << result.out;
  // Said once, by the main process.
  EXPECT_EQ(result.out.find("Trained 30 iterations"), result.out.rfind("Trained 30 iterations"));
  EXPECT_TRUE(contains(result.out, "train --config-file " + run.command.config + " --num-processes 2 --resume"));
  std::vector<std::int64_t> iterations;
  for (const std::string& line : lines_of(read_text(run.command.output + "/metrics.json"))) {
    iterations.push_back(nlohmann::json::parse(line).at("iteration").get<std::int64_t>());
  }
  EXPECT_EQ(iterations, (std::vector<std::int64_t>{19, 29, 30}));
  EXPECT_TRUE(contains(read_text(run.command.output + "/rank_1.out"), "Random seed of this process: 4"));
  EXPECT_TRUE(contains(read_text(run.command.output + "/log.txt.rank1"), "Random seed of this process: 4"));
  EXPECT_TRUE(run.nothing_left());
}

TEST(Distributed, TorchrunAndTwoMachinesGiveTheWeightsOfOurProcesses) {
  const fs::path torchrun = fs::path(source_folder()) / ".venv/bin/torchrun";
  const Trained ours, machines;
  ASSERT_EQ(ours.run({"--num-processes", "2"}).status, 0);

  const std::string url = free_url();
  const auto machine = [&](const std::string& rank) {
    return std::make_unique<RunningProcess>(
        machines.command.words({"--num-machines", "2", "--machine-rank", rank, "--dist-url", url}), machines.environment());
  };
  const auto second = machine("1"), first = machine("0");
  EXPECT_EQ(first->finish().status, 0) << first->out();
  EXPECT_EQ(second->finish().status, 0) << second->out();
  EXPECT_TRUE(identical(ours.weights(), machines.weights()));

  const Trained alone;
  ASSERT_EQ(alone.run({}).status, 0);
  EXPECT_FALSE(identical(ours.weights(), alone.weights())) << "two processes draw other random numbers than one";

  if (!fs::exists(torchrun)) GTEST_SKIP() << "no torchrun in .venv to compare with";
  const Trained theirs;
  std::vector<std::string> words = {
      torchrun.string(), "--no-python", "--nproc-per-node", "2", "--master-port", std::to_string(find_free_port().port())};
  const auto own = theirs.command.words({});
  words.insert(words.end(), own.begin(), own.end());
  RunningProcess process(words, theirs.environment());
  const ProcessResult result = process.finish(std::chrono::minutes(3));
  ASSERT_EQ(result.status, 0) << result.out << result.err;
  EXPECT_TRUE(identical(ours.weights(), theirs.weights()));
}

TEST(Distributed, CtrlCSavesOnceAndResumeGivesTheSameBits) {
  const Trained whole, stopped;
  ASSERT_EQ(whole.run({"--num-processes", "2", "SOLVER.MAX_ITER", "60"}).status, 0);
  RunningProcess process(stopped.command.words({"--num-processes", "2", "SOLVER.MAX_ITER", "60"}), stopped.environment());
  process.wait_for("iter: 19");
  process.signal(SIGINT);
  const ProcessResult first = process.finish();
  ASSERT_EQ(first.status, 130) << first.out << first.err;
  EXPECT_TRUE(contains(first.out, "the state is saved")) << first.out;
  EXPECT_TRUE(contains(first.out, "--num-processes 2 --resume SOLVER.MAX_ITER 60")) << first.out;
  EXPECT_EQ(first.out.find("finishing this step"), first.out.rfind("finishing this step"));
  EXPECT_FALSE(fs::exists(stopped.command.output + "/model_final.pth"));
  ASSERT_EQ(stopped.run({"--num-processes", "2", "--resume", "SOLVER.MAX_ITER", "60"}).status, 0);
  EXPECT_TRUE(identical(whole.weights(), stopped.weights()));
  EXPECT_TRUE(stopped.nothing_left());
}

TEST(Distributed, SigtermSavesOnceToo) {
  const Trained run;
  RunningProcess process(run.command.words({"--num-processes", "2", "SOLVER.MAX_ITER", "100000"}), run.environment());
  process.wait_for("iter: 19");
  process.signal(SIGTERM);
  const ProcessResult result = process.finish();
  EXPECT_EQ(result.status, 143) << result.out << result.err;
  EXPECT_TRUE(contains(result.out, "the state is saved")) << result.out;
  EXPECT_EQ(result.out.find("finishing this step"), result.out.rfind("finishing this step"));
  EXPECT_TRUE(fs::exists(run.command.output + "/last_checkpoint"));
  EXPECT_TRUE(run.nothing_left());
}

// One trains and one evaluates, as two ranks that something else has started.
TEST(Distributed, CheckOrderTellsTheCallsBefore) {
  const Trained run;
  ASSERT_EQ(run.run({"SOLVER.MAX_ITER", "10"}).status, 0);
  const std::string url = free_url();
  const auto start = [&](int rank, const std::string& what) {
    std::map<std::string, std::string> variables = run.environment();
    variables.insert({{"OMPI_COMM_WORLD_RANK", std::to_string(rank)},
                      {"OMPI_COMM_WORLD_SIZE", "2"},
                      {"OMPI_COMM_WORLD_LOCAL_RANK", std::to_string(rank)},
                      {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                      {"PMIX_NAMESPACE", "7"}});
    const std::vector<std::string> words = {Command::program(),
                                            what,
                                            "--config-file",
                                            run.command.config,
                                            "--check-order",
                                            "--dist-url",
                                            url,
                                            "MODEL.WEIGHTS",
                                            run.command.output + "/model_final.pth",
                                            "OUTPUT_DIR",
                                            run.command.folder / "other"};
    return std::make_unique<RunningProcess>(words, variables);
  };
  const auto second = start(1, "evaluate"), first = start(0, "train");
  for (RunningProcess* each : {first.get(), second.get()}) {
    const ProcessResult result = each->finish();
    EXPECT_EQ(result.status, 1);
    EXPECT_TRUE(contains(result.err, "the ranks made different calls: ")) << result.err << result.out;
    EXPECT_TRUE(contains(result.err, "; before that this rank called ")) << result.err;
  }
}

TEST(Distributed, AfterAFailureAllGoOnFromTheNewestCheckpointWithTheSameBits) {
  const Trained whole, broken;
  ASSERT_EQ(whole.run({"--num-processes", "2", "SOLVER.MAX_ITER", "60"}).status, 0);
  // An earlier run in the folder is not what a restart goes on with.
  ASSERT_EQ(broken.run({"--num-processes", "2", "SOLVER.MAX_ITER", "10"}).status, 0);
  RunningProcess process(broken.command.words({"--num-processes", "2", "--max-restarts", "2", "SOLVER.MAX_ITER", "60"}),
                         broken.environment());
  process.wait_for("Full config");
  kill(broken.rank(1), SIGKILL);
  process.wait_for("(1 of 2 restarts)");
  process.wait_for("iter: 39");
  kill(broken.rank(0), SIGKILL);
  const ProcessResult result = process.finish(std::chrono::minutes(3));
  ASSERT_EQ(result.status, 0) << result.out << result.err;
  EXPECT_TRUE(contains(result.out, "rank 1: killed by signal 9 (SIGKILL); all ranks are started again (1 of 2 restarts)"))
      << result.out;
  EXPECT_TRUE(contains(result.out, "rank 0: killed by signal 9 (SIGKILL); all ranks are started again (2 of 2 restarts)"))
      << result.out;
  EXPECT_TRUE(identical(whole.weights(), broken.weights()));
  const auto count = [](const Trained& run) { return lines_of(read_text(run.command.output + "/metrics.json")).size(); };
  EXPECT_EQ(count(broken), count(whole));
  EXPECT_TRUE(broken.nothing_left());
}

TEST(Distributed, ErrorsAreOneLineThatNamesTheRank) {
  const Trained run;
  const ProcessResult batch = run.run({"--num-processes", "3"});
  EXPECT_EQ(batch.status, 1);
  EXPECT_TRUE(contains(batch.err, "SOLVER.IMS_PER_BATCH")) << batch.err;
  EXPECT_TRUE(contains(batch.err, "multiple of the number of ranks, 3, found 16")) << batch.err;
  EXPECT_EQ(lines_of(batch.err).size(), 1u) << batch.err;
  EXPECT_TRUE(run.nothing_left());

  RunningProcess process(run.command.words({"--num-processes", "2", "SOLVER.MAX_ITER", "100000"}), run.environment());
  process.wait_for("iter: 19");
  kill(run.rank(1), SIGKILL);
  const ProcessResult killed = process.finish();
  EXPECT_EQ(killed.status, 137);
  EXPECT_EQ(killed.err, "treadle: error: rank 1: killed by signal 9 (SIGKILL)\n");
  EXPECT_TRUE(contains(killed.out, "The end of what rank 1 wrote (\"" + run.command.output + "/rank_1.out\")")) << killed.out;
}

TEST(Distributed, ARankThatIsStoppedIsNamedWithinTheTimeLimit) {
  const Trained run;
  RunningProcess process(run.command.words({"--num-processes", "2", "--dist-timeout", "5", "SOLVER.MAX_ITER", "100000"}),
                         run.environment());
  process.wait_for("iter: 19");
  kill(run.rank(1), SIGSTOP);
  const ProcessResult result = process.finish();
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(contains(result.err, "rank 1 was stopped by signal 19 (SIGSTOP)")) << result.err;
  EXPECT_TRUE(run.nothing_left());
}

TEST(Distributed, MachinesWithDifferentConfigsAreToldWhichAndWhat) {
  const Trained run;
  const std::string url = free_url();
  const auto machine = [&](const std::string& rank, const std::string& rate) {
    return std::make_unique<RunningProcess>(
        run.command.words({"--num-machines", "2", "--machine-rank", rank, "--dist-url", url, "SOLVER.BASE_LR", rate}),
        run.environment());
  };
  const auto first = machine("0", "0.05"), second = machine("1", "0.5");
  for (RunningProcess* each : {first.get(), second.get()}) {
    const ProcessResult result = each->finish();
    EXPECT_EQ(result.status, 1);
    EXPECT_TRUE(contains(result.err,
                         "rank 1 was started with another config than rank 0: SOLVER.BASE_LR is 0.5 there and 0.05 on "
                         "rank 0"))
        << result.err << result.out;
  }
}

TEST(Distributed, WrongNumbersAreSaid) {
  const Trained run;
  const ProcessResult machine = run.run({"--num-machines", "2", "--machine-rank", "2", "--dist-url", "tcp://localhost:1"});
  EXPECT_EQ(machine.status, 2);
  EXPECT_TRUE(contains(machine.err, "--machine-rank is 2; a number from 0 to 1 is needed")) << machine.err;
  EXPECT_TRUE(contains(run.run({"--num-processes", "0"}).err, "--num-processes is 0"));
  EXPECT_TRUE(contains(run.run({"--num-machines", "2"}).err, "several machines need an address"));
  EXPECT_EQ(run.run({"--num-processes", "two"}).status, 2);
  EXPECT_EQ(run.run({"--dist-timeout", "0"}).status, 2);
}

TEST(Distributed, EvaluatesWithManyProcesses) {
  const Trained run;
  ASSERT_EQ(run.run({"SOLVER.MAX_ITER", "10"}).status, 0);
  const auto table = [](const std::string& out) { return out.substr(std::min(out.size(), out.find("+--"))); };
  const ProcessResult alone = run.run({"--eval-only", "--resume"});
  const ProcessResult many = run.run({"--eval-only", "--resume", "--num-processes", "3"});
  EXPECT_EQ(many.status, 0) << many.out << many.err;
  EXPECT_TRUE(contains(many.out, "           64 |\n")) << many.out;
  EXPECT_EQ(table(alone.out), table(many.out));
}

/// Ranks have batches of other sizes, for which a processor may have other kernels: their scores differ in the last bits, and so
/// does what is computed from the scores; what is counted does not.
void expect_same_results(const std::string& found_text, const std::string& expected_text) {
  const auto found = nlohmann::json::parse(found_text).at("classification");
  const auto expected = nlohmann::json::parse(expected_text).at("classification");
  ASSERT_EQ(found.size(), expected.size());
  for (const auto& [name, value] : expected.items()) {
    if (name == "calibration_error") {
      EXPECT_NEAR(found.at(name).get<double>(), value.get<double>(), 1e-5);
    } else {
      EXPECT_EQ(found.at(name), value) << name;
    }
  }
}

TEST(Distributed, EvaluateTakesTheOptionsOfTrain) {
  const Trained run;
  ASSERT_EQ(run.run({"SOLVER.MAX_ITER", "10"}).status, 0);
  const auto evaluate = [&](const std::vector<std::string>& rest) {
    std::vector<std::string> words = {Command::program(), "evaluate", "--config-file", run.command.config, "--resume", "--json"};
    words.insert(words.end(), rest.begin(), rest.end());
    return std::make_unique<RunningProcess>(words, run.environment());
  };
  const ProcessResult alone = evaluate({})->finish();
  ASSERT_EQ(alone.status, 0) << alone.err;
  const ProcessResult many = evaluate({"--num-gpus", "3"})->finish();
  EXPECT_EQ(many.status, 0) << many.err;
  expect_same_results(many.out, alone.out);
  EXPECT_EQ(many.err, "");
  EXPECT_TRUE(fs::exists(run.command.output + "/rank_2.out"));

  const std::string url = free_url();
  const auto machine = [&](const std::string& rank) {
    return evaluate({"--num-machines", "2", "--machine-rank", rank, "--dist-url", url});
  };
  const auto second = machine("1"), first = machine("0");
  expect_same_results(first->finish().out, alone.out);
  const ProcessResult other = second->finish();
  EXPECT_EQ(other.status, 0) << other.err;
  EXPECT_EQ(other.out, "") << "the main process alone tells the results";
  EXPECT_EQ(evaluate({"--dist-timeout", "0"})->finish().status, 2);
  EXPECT_EQ(evaluate({"--max-restarts", "-1"})->finish().status, 2);

  const ProcessResult wrong = evaluate({"--num-processes", "2", "TEST.EXPECTED_RESULTS", "[['boxes','AP',1,1]]"})->finish();
  EXPECT_EQ(wrong.status, 1);
  EXPECT_TRUE(contains(wrong.err, "rank 0: ") && contains(wrong.err, "boxes/AP is missing")) << wrong.err;
  EXPECT_TRUE(run.nothing_left());
}

}  // namespace
}  // namespace treadle
