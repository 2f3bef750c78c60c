#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace treadle {

/// A file being written, from its beginning on. Not for several threads at a time. The destructor closes and reports nothing.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  WritableFile(const WritableFile&) = delete;
  WritableFile& operator=(const WritableFile&) = delete;

  /// Appends all of `bytes`. Throws IoError.
  virtual void write(std::span<const std::byte> bytes) = 0;
  /// Returns when everything written so far is on the device (fsync). Throws IoError.
  virtual void sync() = 0;
  /// Closes the file; nothing may be called afterwards. Throws IoError.
  virtual void close() = 0;

 protected:
  WritableFile() = default;
};

/// A file being read. Any number of threads.
class ReadableFile {
 public:
  virtual ~ReadableFile() = default;
  ReadableFile(const ReadableFile&) = delete;
  ReadableFile& operator=(const ReadableFile&) = delete;

  /// The size in bytes when the file was opened.
  virtual std::uint64_t size() const = 0;
  /// Fills `bytes` with what stands from `offset` on. Throws IoError; a file that ends earlier is an IoError too.
  virtual void read(std::uint64_t offset, std::span<std::byte> bytes) const = 0;

  /// The whole file as memory that is filled when it is touched; writing to it does not change the file. It is valid as long as
  /// the pointer, also when the file object is gone. Null where files cannot be mapped, which is what a store need not change.
  virtual std::shared_ptr<std::byte> map() const { return nullptr; }

 protected:
  ReadableFile() = default;
};

/// One entry of a folder.
struct FolderEntry {
  std::string name;
  bool is_file = false;          ///< a regular file, or a link to one
  std::int64_t modified_ns = 0;  ///< time of the last change, nanoseconds since an epoch of the file system's own
};

/// Where checkpoints live. The local file system below is one; a user can add a store, and the tests add one that fails on
/// purpose. Implementations may be called by any number of threads. Every function throws IoError when the operation fails.
///
/// What the commit protocol relies on, and nothing more: data is lost in a power failure unless `sync` returned; a created,
/// renamed or removed name may be lost unless `sync_folder` of its folder returned; `rename` replaces its target in one step.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  FileSystem(const FileSystem&) = delete;
  FileSystem& operator=(const FileSystem&) = delete;

  /// Creates `path`, or empties it when it exists.
  virtual std::unique_ptr<WritableFile> create(const std::filesystem::path& path) = 0;
  virtual std::unique_ptr<ReadableFile> open(const std::filesystem::path& path) = 0;
  virtual void rename(const std::filesystem::path& from, const std::filesystem::path& to) = 0;
  virtual void remove(const std::filesystem::path& path) = 0;
  /// Also called for the folders above one that was created, up to "/" or ".": for one that is none of this store's, or that it
  /// does not sync, an IoError with ENOENT or ENOTSUP is passed over.
  virtual void sync_folder(const std::filesystem::path& folder) = 0;
  /// Creates `folder` and those above it; nothing when it exists.
  virtual void create_folders(const std::filesystem::path& folder) = 0;
  /// True when there is a regular file `path`.
  virtual bool is_file(const std::filesystem::path& path) = 0;
  /// The entries of `folder`, in no particular order.
  virtual std::vector<FolderEntry> list(const std::filesystem::path& folder) = 0;

 protected:
  FileSystem() = default;
};

/// The file system of this machine.
std::shared_ptr<FileSystem> local_file_system();

/// Replaces the content of `path` by what `write` writes, so that a crash or power failure leaves the old or the new content,
/// never a mixture: a temporary file in the same folder, fsync, rename, fsync of the folder. Returns when the new content is
/// durable; with `durable` false, when it is in place. Throws IoError and what `write` throws; then `path` is as it was, unless
/// the last step failed.
void commit_file(FileSystem& files, const std::filesystem::path& path, bool durable,
                 const std::function<void(WritableFile&)>& write);

/// `commit_file` of a text.
void write_file_durably(FileSystem& files, const std::filesystem::path& path, std::string_view content);

/// The whole content of a small file. Throws IoError, also when the file is larger than `max_bytes`.
std::string read_small_file(FileSystem& files, const std::filesystem::path& path, std::uint64_t max_bytes = 1 << 20);

/// The name of the temporary file that a commit of `path` writes first: hidden, in the same folder.
std::filesystem::path temporary_path(const std::filesystem::path& path);
/// True for names made by `temporary_path`.
bool is_temporary_name(std::string_view name);

}  // namespace treadle
