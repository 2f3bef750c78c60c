#pragma once

#include <tests/support/no_thread_sanitizer.hpp>
#include <tests/support/running_process.hpp>
#include <tests/support/temporary_folder.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

namespace treadle {

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// The lines of a file, sorted.
inline std::vector<std::string> notes(const std::string& file) {
  auto lines = lines_of(read_text(file));
  std::sort(lines.begin(), lines.end());
  return lines;
}

/// `rank_program` in a folder of its own, under a mark that all of its processes bear.
struct Program {
  TemporaryFolder folder;
  std::pair<std::string, std::string> mark = new_mark();
  std::string file = folder / "notes";

  static std::vector<std::string> words(const std::vector<std::string>& rest) {
    const char* path = std::getenv("TREADLE_RANK_PROGRAM");
    std::vector<std::string> all = {path != nullptr ? path : "build/release/tests/rank_program"};
    all.insert(all.end(), rest.begin(), rest.end());
    return all;
  }
  std::map<std::string, std::string> environment(std::map<std::string, std::string> more = {}) const {
    more.insert(mark);
    return more;
  }
  ProcessResult run(const std::vector<std::string>& rest, const std::map<std::string, std::string>& more = {}) const {
    RunningProcess process(words(rest), environment(more));
    return process.finish();
  }
  bool nothing_left() const { return none_left(mark); }
  /// The processes that `work` has noted.
  std::vector<pid_t> noted_pids(const std::string& word) const {
    std::vector<pid_t> pids;
    for (const std::string& line : notes(file)) {
      if (contains(line, word)) pids.push_back(std::atoi(line.substr(line.rfind(' ')).c_str()));
    }
    return pids;
  }
};

inline std::string notes_of(const Program& program) { return read_text(program.file); }

}  // namespace treadle
