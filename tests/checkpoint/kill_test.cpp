// A process that saves without pause is killed with -9 at a random moment, again and again, and goes on each time: every restart
// must find a good checkpoint no older than the last commit that was reported. 50 times; more by tools/stress.py.
#include <treadle/base/log.hpp>
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/checkpoint/file_system.hpp>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <random>

#include "tests/checkpoint/small_model.hpp"
#include "tests/support/temporary_folder.hpp"
#include "tests/support/trials.hpp"

namespace treadle {
namespace {

void say(int pipe, const std::string& line) {
  const std::string text = line + "\n";
  if (::write(pipe, text.data(), text.size()) < 0) _exit(3);
}

/// Resumes, says what it found, and then saves for ever, saying of each checkpoint when it is durable. Some saves are made by the
/// writer's thread, and old checkpoints are removed.
[[noreturn]] void save_for_ever(const std::string& folder, int pipe) {
  const LogCapture quiet([pipe](LogLevel level, std::string_view line) {
    if (level >= LogLevel::warning) say(pipe, "warning " + std::string(line));
  });
  try {
    SmallModel model(0);
    Counter counter;
    Checkpointer checkpointer(model, folder);
    checkpointer.add_checkpointable("counter", counter);
    const Dict rest = checkpointer.resume_or_load("");
    const bool found = rest.contains("iteration");
    if (found && (model.value() != static_cast<double>(counter.count) || rest.at("iteration").as_int() != counter.count)) {
      say(pipe, "warning the parts of the checkpoint do not fit together");
    }
    say(pipe, "resumed " + std::to_string(found ? counter.count : 0));
    std::size_t told = 0;
    for (std::int64_t i = counter.count + 1;; ++i) {
      model.fill(static_cast<double>(i));
      counter.count = i;
      const Dict extras{{"iteration", i}};
      if (i % 3 == 0) {
        checkpointer.save("model_" + std::to_string(i), extras);
      } else {
        checkpointer.save_async("model_" + std::to_string(i), extras);
      }
      for (; told < checkpointer.saved().size(); ++told) say(pipe, "committed " + checkpointer.saved()[told].substr(6));
      if (i > 3) checkpointer.forget("model_" + std::to_string(i - 3));
    }
  } catch (const std::exception& error) {
    say(pipe, std::string("warning ") + error.what());
  }
  _exit(1);
}

struct Life {
  std::int64_t resumed = -1, committed = 0;
  std::string warnings;
};

/// One life of the process: it ends `delay` after the commit of number `commits` in it.
Life live_and_die(const std::string& folder, int commits, std::chrono::microseconds delay) {
  int ends[2];
  if (pipe(ends) != 0) throw std::runtime_error("pipe failed");
  const pid_t pid = fork();
  if (pid == 0) {
    close(ends[0]);
    save_for_ever(folder, ends[1]);
  }
  close(ends[1]);
  Life life;
  int seen = 0;
  bool killed = false;
  FILE* lines = fdopen(ends[0], "r");
  for (char line[1024]; std::fgets(line, sizeof line, lines) != nullptr;) {
    const std::string text = line;
    if (text.starts_with("resumed ")) life.resumed = std::atoll(line + 8);
    if (text.starts_with("committed ")) life.committed = std::atoll(line + 10), ++seen;
    if (text.starts_with("warning ")) life.warnings += text;
    if (killed || life.resumed < 0 || seen < commits) continue;
    const auto end = std::chrono::steady_clock::now() + delay;
    while (std::chrono::steady_clock::now() < end) continue;
    kill(pid, SIGKILL);
    killed = true;
  }
  std::fclose(lines);
  int status = 0;
  waitpid(pid, &status, 0);
  if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) life.warnings += "it ended by itself\n";
  return life;
}

TEST(Kill, EveryRestartFindsAGoodCheckpointNoOlderThanTheLastCommit) {
  at::set_num_threads(1);  // a process with threads must not fork
  std::mt19937 random(trial_seed());
  const TemporaryFolder folder;
  std::int64_t committed = 0;
  for (int trial = 0; trial < trials(50); ++trial) {
    const int commits = static_cast<int>(random() % 4);
    const Life life = live_and_die(folder.path(), commits, std::chrono::microseconds(random() % 20'000));
    ASSERT_EQ(life.warnings, "") << "trial " << trial;
    ASSERT_GE(life.resumed, committed) << "trial " << trial;
    committed = std::max(life.resumed, life.committed);
    for (const FolderEntry& entry : local_file_system()->list(folder.path())) {
      ASSERT_FALSE(entry.name.ends_with(".damaged")) << entry.name;
    }
  }
  EXPECT_GE(committed, (trials(50) - 10) / 4);
  std::cout << trials(50) << " kills, " << committed << " checkpoints\n";
}

}  // namespace
}  // namespace treadle
