#include <launch/rank_output.hpp>
#include <treadle/base/errors.hpp>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <sstream>

namespace treadle {

RankOutput::RankOutput(const std::filesystem::path& folder, int rank) {
  const std::string name = fmt::format("rank_{}.out", rank);
  if (folder.empty()) {
    output_ = Descriptor(memfd_create(name.c_str(), MFD_CLOEXEC));
  } else {
    std::error_code code;
    std::filesystem::create_directories(folder, code);
    if (code) throw IoError("create the folder of logs", folder, code.value());
    file_ = folder / name;
    output_ = Descriptor(open(file_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  }
  if (output_.get() < 0) throw IoError("open the log of a rank", folder.empty() ? name : file_.string(), errno);
  begin_ = lseek(output_.get(), 0, SEEK_END);
}

Descriptor RankOutput::take_over() const {
  std::fflush(nullptr);
  Descriptor before(fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0));
  dup2(output_.get(), STDOUT_FILENO);
  dup2(output_.get(), STDERR_FILENO);
  return before;
}

std::vector<std::string> RankOutput::last_lines(std::size_t count) const {
  constexpr off_t most = 16384;
  struct stat status{};
  if (fstat(output_.get(), &status) != 0) return {};
  const off_t begin = std::max(begin_, status.st_size - most);
  std::string text(static_cast<std::size_t>(status.st_size - begin), '\0');
  const ssize_t size = pread(output_.get(), text.data(), text.size(), begin);
  text.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  if (begin > begin_ && !lines.empty()) lines.erase(lines.begin());
  if (lines.size() > count) lines.erase(lines.begin(), lines.end() - static_cast<std::ptrdiff_t>(count));
  return lines;
}

}  // namespace treadle
