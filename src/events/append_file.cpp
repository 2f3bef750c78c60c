#include <treadle/base/errors.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "events/append_file.hpp"

namespace treadle {

using Clock = std::chrono::steady_clock;

AppendFile::AppendFile(std::filesystem::path path, Milliseconds max_delay) : path_(std::move(path)), max_delay_(max_delay) {
  open();
}

AppendFile::~AppendFile() {
  try {
    flush();
  } catch (const IoError&) {
    // Whoever wanted to know has called close.
  }
  release();
}

void AppendFile::open() {
  descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor_ < 0) throw IoError("open", path_, errno);
  struct stat status{};
  if (::fstat(descriptor_, &status) != 0) {
    const int error = errno;
    release();
    throw IoError("look at", path_, error);
  }
  size_ = status.st_size;
}

void AppendFile::reopen() {
  if (descriptor_ < 0) open();
}

void AppendFile::append(std::string_view data) {
  reopen();
  const std::size_t before = waiting_.size();
  waiting_ += data;
  if (flushed_ && Clock::now() - *flushed_ < max_delay_) return;
  try {
    flush();
  } catch (const IoError&) {
    waiting_.resize(before);
    throw;
  }
}

void AppendFile::flush() {
  if (waiting_.empty()) return;
  reopen();
  std::size_t written = 0;
  while (written < waiting_.size()) {
    const ssize_t n = ::write(descriptor_, waiting_.data() + written, waiting_.size() - written);
    if (n >= 0) {
      written += static_cast<std::size_t>(n);
      continue;
    }
    if (errno == EINTR) continue;
    const int error = errno;
    if (written > 0 && ::ftruncate(descriptor_, size_) != 0) size_ += static_cast<std::int64_t>(written);
    throw IoError("write to", path_, error);
  }
  size_ += static_cast<std::int64_t>(waiting_.size());
  waiting_.clear();
  if (max_delay_.count() > 0) flushed_ = Clock::now();
}

void AppendFile::truncate(std::int64_t size) {
  reopen();
  flush();
  if (::ftruncate(descriptor_, size) != 0) throw IoError("cut back", path_, errno);
  size_ = size;
}

std::string AppendFile::read(std::int64_t offset, std::int64_t length) {
  reopen();
  flush();
  std::string data(static_cast<std::size_t>(length), '\0');
  std::size_t got = 0;
  while (got < data.size()) {
    const ssize_t n = ::pread(descriptor_, data.data() + got, data.size() - got, offset + static_cast<std::int64_t>(got));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw IoError("read", path_, errno);
    if (n == 0) break;
    got += static_cast<std::size_t>(n);
  }
  data.resize(got);
  return data;
}

void AppendFile::sync() noexcept {
  try {
    flush();
  } catch (const IoError&) {
    // The next append says so.
  }
  if (descriptor_ >= 0) ::fdatasync(descriptor_);
}

void AppendFile::close() {
  flush();
  if (descriptor_ >= 0) ::fdatasync(descriptor_);
  release();
}

void AppendFile::release() noexcept {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}

}  // namespace treadle
