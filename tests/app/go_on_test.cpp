// The commands that a run prints at its end do what they say.
#include <tests/app/command.hpp>

#include <gtest/gtest.h>

namespace treadle {
namespace {

using Words = std::vector<std::string>;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// The command behind `label` in what a run printed.
std::string printed(const std::string& out, const std::string& label) {
  for (const std::string& line : lines_of(out)) {
    const std::size_t at = line.find(label);
    if (at != std::string::npos) return line.substr(line.find_first_not_of(' ', at + label.size()));
  }
  return "";
}

ProcessResult run_in_shell(const std::string& command) { return run_process({"/bin/bash", "-c", command}); }

/// As the shell takes the command apart.
Words words_of(const std::string& command) { return lines_of(run_in_shell(R"(printf '%s\n' )" + command).out); }

TEST(GoOn, TheShellReadsThePrintedCommandsBackWordByWord) {
  const Command command;
  const std::string output = command.folder / R"(it's $HOME/a "b" `c` \d;&)";
  const Words typed = {"TEST.EXPECTED_RESULTS",
                       R"([["classification", "accuracy", 50, 50]])",
                       "DATASETS.PROPOSAL_FILES_TEST",
                       "()",
                       "OUTPUT_DIR",
                       output};
  Words words = {"SOLVER.MAX_ITER", "6", "MODEL.WEIGHTS", ""};
  words.insert(words.end(), typed.begin(), typed.end());
  const ProcessResult result = command.train(words);
  ASSERT_EQ(result.status, 0) << result.err;

  const auto with = [&](Words all, const Words& last) {
    all.insert(all.end(), typed.begin(), typed.end());
    all.insert(all.end(), last.begin(), last.end());
    return all;
  };
  EXPECT_EQ(words_of(printed(result.out, "evaluate:")),
            with(command.words({"--eval-only", "SOLVER.MAX_ITER", "6"}), {"MODEL.WEIGHTS", output + "/model_final.pth"}));
  EXPECT_EQ(words_of(printed(result.out, "go on:")),
            with(command.words({"--resume", "MODEL.WEIGHTS", ""}), {"SOLVER.MAX_ITER", "12"}));
  const ProcessResult longer = run_in_shell(printed(result.out, "go on:"));
  EXPECT_EQ(longer.status, 0) << longer.err;
  EXPECT_TRUE(contains(longer.out, "Trained 12 iterations")) << longer.out;
}

TEST(GoOn, AScaledRunBecomesTwiceAsLong) {
  for (const char* settings : {"current", "saved"}) {
    const Command command;
    const ProcessResult first = command.train({"SOLVER.REFERENCE_WORLD_SIZE", "2", "SOLVER.MAX_ITER", "6",
                                               "TREADLE.SOLVER.RESUME", settings, "SOLVER.WARMUP_ITERS", "2"});
    ASSERT_EQ(first.status, 0) << first.err;
    EXPECT_TRUE(contains(first.out, "Trained 12 iterations")) << first.out;
    const ProcessResult second = run_in_shell(printed(first.out, "go on:"));
    EXPECT_EQ(second.status, 0) << second.err;
    EXPECT_TRUE(contains(second.out, "Trained 24 iterations")) << second.out;
  }
}

TEST(GoOn, ASavedMaxIterIsNotScaledAgain) {
  for (const int processes : {1, 2}) {
    const Command command;
    const auto train = [&](Words words) {
      for (const std::string& word :
           {std::string("--num-processes"), std::to_string(processes), std::string("SOLVER.REFERENCE_WORLD_SIZE"),
            std::to_string(2 * processes), std::string("SOLVER.WARMUP_ITERS"), std::string("2")})
        words.push_back(word);
      return command.train(words);
    };
    ASSERT_EQ(train({"SOLVER.MAX_ITER", "6"}).status, 0);
    ProcessResult resumed;
    // As many as the config asks for when scaled; as many as it asks for; others.
    for (const char* asked : {"6", "12", "50"}) {
      resumed = train({"--resume", "TREADLE.SOLVER.RESUME", "saved", "SOLVER.MAX_ITER", asked});
      EXPECT_EQ(resumed.status, 0) << resumed.err;
      EXPECT_TRUE(contains(resumed.out, "Trained 12 iterations")) << asked << resumed.out;
    }
    const ProcessResult longer = run_in_shell(printed(resumed.out, "go on:"));
    EXPECT_EQ(longer.status, 0) << longer.err;
    EXPECT_TRUE(contains(longer.out, "Trained 24 iterations")) << longer.out;
  }
}

}  // namespace
}  // namespace treadle
