#pragma once

#include <treadle/checkpoint/file_system.hpp>

#include <memory>
#include <string>
#include <vector>

namespace treadle {

/// The local file system behind functions that a test replaces.
class ForwardingFileSystem : public FileSystem {
 public:
  std::unique_ptr<WritableFile> create(const std::filesystem::path& path) override { return real_->create(path); }
  std::unique_ptr<ReadableFile> open(const std::filesystem::path& path) override { return real_->open(path); }
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override { real_->rename(from, to); }
  void remove(const std::filesystem::path& path) override { real_->remove(path); }
  void sync_folder(const std::filesystem::path& folder) override { real_->sync_folder(folder); }
  void create_folders(const std::filesystem::path& folder) override { real_->create_folders(folder); }
  bool is_file(const std::filesystem::path& path) override { return real_->is_file(path); }
  std::vector<FolderEntry> list(const std::filesystem::path& folder) override { return real_->list(folder); }

 private:
  std::shared_ptr<FileSystem> real_ = local_file_system();
};

}  // namespace treadle
