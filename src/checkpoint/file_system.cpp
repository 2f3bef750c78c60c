#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/checkpoint/file_system.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>

#include <string>

namespace treadle {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const char* operation, const fs::path& path) { throw IoError(operation, path, errno); }

/// An open file descriptor.
class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags, const char* operation) : path_(path) {
    do {
      number_ = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
    } while (number_ < 0 && errno == EINTR);
    if (number_ < 0) fail(operation, path);
  }
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int number() const noexcept { return number_; }
  const fs::path& path() const noexcept { return path_; }
  void sync() const {
    if (::fsync(number_) != 0) fail("make durable", path_);
  }
  void close() {
    int closing = std::exchange(number_, -1);
    if (::close(closing) != 0 && errno != EINTR) fail("close", path_);
  }

 private:
  fs::path path_;
  int number_ = -1;
};

class LocalWritable final : public WritableFile {
 public:
  explicit LocalWritable(const fs::path& path) : file_(path, O_WRONLY | O_CREAT | O_TRUNC, "create") {}

  void write(std::span<const std::byte> bytes) override {
    while (!bytes.empty()) {
      ssize_t written = ::write(file_.number(), bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail("write", file_.path());
      bytes = bytes.subspan(static_cast<std::size_t>(written));
      written_ += written;
    }
    write_behind();
  }
  void sync() override { file_.sync(); }
  void close() override { file_.close(); }

 private:
  // Lets the device begin while the rest is still being computed and copied, so that little is left for fsync to wait for. It is
  // a hint: what it returns changes nothing, errors of the device come from fsync.
  void write_behind() {
    constexpr off_t kStep = 8 << 20;
    if (written_ - begun_ < kStep) return;
    ::sync_file_range(file_.number(), begun_, written_ - begun_, SYNC_FILE_RANGE_WRITE);
    begun_ = written_;
  }

  Descriptor file_;
  off_t written_ = 0, begun_ = 0;
};

class LocalReadable final : public ReadableFile {
 public:
  explicit LocalReadable(const fs::path& path) : file_(path, O_RDONLY, "open") {
    struct stat status{};
    if (::fstat(file_.number(), &status) != 0) fail("examine", path);
    if (!S_ISREG(status.st_mode)) throw IoError("read", path, S_ISDIR(status.st_mode) ? EISDIR : EINVAL);
    size_ = static_cast<std::uint64_t>(status.st_size);
  }

  std::uint64_t size() const override { return size_; }
  void read(std::uint64_t offset, std::span<std::byte> bytes) const override {
    while (!bytes.empty()) {
      ssize_t got = ::pread(file_.number(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail("read", file_.path());
      if (got == 0) throw IoError("read", file_.path(), ENODATA, "the file became shorter while it was being read");
      offset += static_cast<std::uint64_t>(got);
      bytes = bytes.subspan(static_cast<std::size_t>(got));
    }
  }
  std::shared_ptr<std::byte> map() const override {
    const std::size_t length = size_;
    void* memory = length == 0 ? MAP_FAILED : ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE, file_.number(), 0);
    if (memory == MAP_FAILED) return nullptr;
    return {static_cast<std::byte*>(memory), [length](std::byte* start) { ::munmap(start, length); }};
  }

 private:
  Descriptor file_;
  std::uint64_t size_ = 0;
};

class LocalFileSystem final : public FileSystem {
 public:
  std::unique_ptr<WritableFile> create(const fs::path& path) override { return std::make_unique<LocalWritable>(path); }
  std::unique_ptr<ReadableFile> open(const fs::path& path) override { return std::make_unique<LocalReadable>(path); }
  void rename(const fs::path& from, const fs::path& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) fail("rename", from);
  }
  void remove(const fs::path& path) override {
    if (::unlink(path.c_str()) != 0) fail("remove", path);
  }
  void sync_folder(const fs::path& folder) override {
    Descriptor(folder.empty() ? fs::path(".") : folder, O_RDONLY | O_DIRECTORY, "open the folder").sync();
  }
  void create_folders(const fs::path& folder) override {
    if (folder.empty()) return;
    std::error_code error;
    fs::create_directories(folder, error);
    std::error_code unseen;
    if (error && !fs::is_directory(folder, unseen)) throw IoError("create the folder", folder, error.value());
  }
  bool is_file(const fs::path& path) override {
    struct stat status{};
    if (::stat(path.c_str(), &status) == 0) return S_ISREG(status.st_mode);
    if (errno != ENOENT && errno != ENOTDIR) fail("examine", path);
    return false;
  }
  std::vector<FolderEntry> list(const fs::path& folder) override {
    std::vector<FolderEntry> entries;
    std::error_code error;
    fs::directory_iterator item(folder.empty() ? fs::path(".") : folder, error);
    for (; !error && item != fs::directory_iterator(); item.increment(error)) {
      struct stat status{};
      // An entry may vanish between being listed and examined.
      if (::stat(item->path().c_str(), &status) != 0) continue;
      entries.push_back({.name = item->path().filename().string(),
                         .is_file = S_ISREG(status.st_mode),
                         .modified_ns = std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec});
    }
    if (error) throw IoError("list", folder, error.value());
    return entries;
  }
};

constexpr std::string_view kTemporarySuffix = ".treadle-tmp";

}  // namespace

std::shared_ptr<FileSystem> local_file_system() {
  static const auto files = std::make_shared<LocalFileSystem>();
  return files;
}

fs::path temporary_path(const fs::path& path) {
  return path.parent_path() / ("." + path.filename().string() + std::string(kTemporarySuffix));
}

bool is_temporary_name(std::string_view name) { return name.starts_with('.') && name.ends_with(kTemporarySuffix); }

void write_file_durably(FileSystem& files, const fs::path& path, std::string_view content) {
  commit_file(files, path, true, [&](WritableFile& file) { file.write(std::as_bytes(std::span(content))); });
}

void commit_file(FileSystem& files, const fs::path& path, bool durable, const std::function<void(WritableFile&)>& write) {
  fs::path temporary = temporary_path(path);
  try {
    auto file = files.create(temporary);
    write(*file);
    if (durable) file->sync();
    file->close();
    files.rename(temporary, path);
  } catch (...) {
    // The first error is the one to report; what is left behind is removed at the next start.
    try {
      files.remove(temporary);
    } catch (const IoError& second) {
      log_debug(second.what());
    }
    throw;
  }
  if (durable) files.sync_folder(path.parent_path());
}

std::string read_small_file(FileSystem& files, const fs::path& path, std::uint64_t max_bytes) {
  auto file = files.open(path);
  if (file->size() > max_bytes) throw IoError("read", path, EFBIG);
  std::string content(file->size(), '\0');
  file->read(0, std::as_writable_bytes(std::span(content)));
  return content;
}

}  // namespace treadle
