#include <launch/process_tree.hpp>
#include <treadle/base/errors.hpp>

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

namespace treadle {
namespace {

namespace fs = std::filesystem;

/// The parent in `pid (name) state parent …`; the name may hold anything. 0 when the process has gone.
pid_t parent_of(const fs::path& process) {
  std::ifstream file(process / "stat");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos || name_end + 4 >= text.size()) return 0;
  pid_t parent = 0;
  std::from_chars(text.data() + name_end + 4, text.data() + text.size(), parent);
  return parent;
}

std::vector<std::pair<pid_t, pid_t>> processes_with_parents() {
  std::vector<std::pair<pid_t, pid_t>> all;
  std::error_code code;
  fs::directory_iterator entry("/proc", code);
  if (code) throw IoError("list the processes in", "/proc", code.value());
  for (; entry != fs::directory_iterator(); entry.increment(code)) {
    const std::string name = entry->path().filename().string();
    pid_t pid = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (error == std::errc() && end == name.data() + name.size()) all.emplace_back(pid, parent_of(entry->path()));
  }
  return all;
}

}  // namespace

std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> found;
  for (const auto& [pid, its_parent] : processes_with_parents()) {
    if (its_parent == parent) found.push_back(pid);
  }
  return found;
}

std::vector<pid_t> descendants_of(pid_t root) {
  const auto all = processes_with_parents();
  std::vector<pid_t> found;
  pid_t parent = root;
  for (std::size_t next = 0;; ++next) {
    for (const auto& [pid, its_parent] : all) {
      if (its_parent == parent) found.push_back(pid);
    }
    if (next == found.size()) return found;
    parent = found[next];
  }
}

int count_threads() {
  std::error_code code;
  int count = 0;
  for (fs::directory_iterator entry("/proc/self/task", code); !code && entry != fs::directory_iterator(); entry.increment(code))
    ++count;
  return count;
}

}  // namespace treadle
