#pragma once

#include <treadle/base/errors.hpp>
#include <treadle/checkpoint/file_system.hpp>

#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace treadle {

/// A disk in memory that forgets: what was not made durable before `lose_power` is lost or torn. Every call of the interface
/// counts as one; a chosen one can fail, or be the last that happens. Folders need not be made; one that was made is lost, with
/// all in it, until the folder above it is synced. For one thread.
class FaultFileSystem final : public FileSystem {
 public:
  /// Stands for the power failure: thrown by the call after which nothing happens any more.
  struct PowerLoss {};

  enum class Torn { lost, half, whole };

  /// The call of this number, counted from 0 and from here, is done, and then the power is gone.
  void lose_power_after(int call) { heal(), last_call_ = call; }
  /// The call of this number fails with `error`.
  void fail_at(int call, int error) { heal(), failing_call_ = call, error_ = error; }
  /// No more faults; counting starts anew.
  void heal() { last_call_ = failing_call_ = -1, calls_ = 0, dead_ = false; }
  int calls() const noexcept { return calls_; }

  /// The state of the disk after a power failure. Content that was not synced is lost, cut in half, or whole; names that were not
  /// made durable by syncing the folder are as before it, or, with `names_stay`, as they were last.
  void lose_power(Torn torn, bool names_stay) {
    for (auto& [folder, durable] : made_) durable = durable || names_stay;
    if (!names_stay) names_ = durable_names_;
    std::erase_if(names_, [&](const auto& entry) { return is_in_lost_folder(entry.first); });
    std::erase_if(made_, [](const auto& entry) { return !entry.second; });
    for (auto& [name, node] : names_) {
      if (node->synced) continue;
      if (torn == Torn::lost) node->content.clear();
      if (torn == Torn::half) node->content.resize(node->content.size() / 2);
    }
    durable_names_ = names_;
    heal();
  }

  /// Changes one byte of a file.
  void flip(const std::filesystem::path& path, std::size_t at) { names_.at(path.string())->content.at(at) ^= 0x10; }
  std::string& content(const std::filesystem::path& path) { return names_.at(path.string())->content; }
  void add(const std::filesystem::path& path, std::string content) {
    auto node = std::make_shared<Node>();
    node->content = std::move(content);
    node->synced = true;
    names_[path.string()] = durable_names_[path.string()] = node;
  }

  std::unique_ptr<WritableFile> create(const std::filesystem::path& path) override {
    Call call(*this, "create", path);
    // A file that is there is emptied, under its durable name too.
    auto& node = names_[path.string()];
    if (!node) node = std::make_shared<Node>();
    *node = Node{.content = {}, .synced = false, .modified = ++clock_};
    call.done();
    return std::make_unique<Writer>(Handle{*this, path, node});
  }
  std::unique_ptr<ReadableFile> open(const std::filesystem::path& path) override {
    Call call(*this, "open", path);
    auto found = names_.find(path.string());
    if (found == names_.end()) throw IoError("open", path, ENOENT);
    call.done();
    return std::make_unique<Reader>(Handle{*this, path, found->second});
  }
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override {
    Call call(*this, "rename", from);
    auto found = names_.find(from.string());
    if (found == names_.end()) throw IoError("rename", from, ENOENT);
    names_[to.string()] = found->second;
    names_.erase(from.string());
    call.done();
  }
  void remove(const std::filesystem::path& path) override {
    Call call(*this, "remove", path);
    if (names_.erase(path.string()) == 0) throw IoError("remove", path, ENOENT);
    call.done();
  }
  void sync_folder(const std::filesystem::path& folder) override {
    Call call(*this, "sync", folder);
    const std::filesystem::path here = folder == "." ? "" : folder;
    const auto is_inside = [&](const std::filesystem::path& path) { return path.parent_path() == here; };
    std::erase_if(durable_names_, [&](const auto& entry) { return is_inside(entry.first); });
    for (const auto& entry : names_) {
      if (is_inside(entry.first)) durable_names_.insert(entry);
    }
    for (auto& [path, durable] : made_) durable = durable || is_inside(path);
    call.done();
  }
  void create_folders(const std::filesystem::path& folder) override {
    Call call(*this, "create", folder);
    for (std::filesystem::path path = folder; path.has_relative_path(); path = path.parent_path()) made_.try_emplace(path, false);
    call.done();
  }
  bool is_file(const std::filesystem::path& path) override {
    Call call(*this, "examine", path);
    call.done();
    return names_.contains(path.string());
  }
  std::vector<FolderEntry> list(const std::filesystem::path& folder) override {
    Call call(*this, "list", folder);
    std::vector<FolderEntry> entries;
    for (const auto& [name, node] : names_) {
      std::filesystem::path path = name;
      if (path.parent_path() == folder) entries.push_back({path.filename().string(), true, node->modified});
    }
    call.done();
    return entries;
  }

 private:
  struct Node {
    std::string content;
    bool synced = false;
    std::int64_t modified = 0;
  };

  bool is_in_lost_folder(const std::filesystem::path& path) const {
    for (std::filesystem::path folder = path.parent_path(); folder.has_relative_path(); folder = folder.parent_path()) {
      const auto made = made_.find(folder);
      if (made != made_.end() && !made->second) return true;
    }
    return false;
  }

  /// One call: fails at once when it is its turn, and ends everything when it was the last.
  class Call {
   public:
    Call(FaultFileSystem& files, const char* operation, const std::filesystem::path& path)
        : files_(files), number_(files.calls_++) {
      if (files.dead_) throw PowerLoss{};
      if (files.failing_call_ == number_) throw IoError(operation, path, files.error_);
    }
    void done() {
      if (files_.last_call_ != number_) return;
      files_.dead_ = true;
      throw PowerLoss{};
    }

   private:
    FaultFileSystem& files_;
    int number_;
  };

  struct Handle {
    FaultFileSystem& files_;
    std::filesystem::path path_;
    std::shared_ptr<Node> node_;
  };

  class Writer final : public WritableFile, private Handle {
   public:
    explicit Writer(Handle handle) : Handle(std::move(handle)) {}
    void write(std::span<const std::byte> bytes) override {
      Call call(files_, "write", path_);
      node_->content.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      node_->synced = false;
      call.done();
    }
    void sync() override {
      Call call(files_, "sync", path_);
      node_->synced = true;
      call.done();
    }
    void close() override { Call(files_, "close", path_).done(); }
  };

  class Reader final : public ReadableFile, private Handle {
   public:
    explicit Reader(Handle handle) : Handle(std::move(handle)) {}
    std::uint64_t size() const override { return node_->content.size(); }
    void read(std::uint64_t offset, std::span<std::byte> bytes) const override {
      Call call(files_, "read", path_);
      if (offset + bytes.size() > node_->content.size()) throw IoError("read", path_, ENODATA);
      if (!bytes.empty()) std::memcpy(bytes.data(), node_->content.data() + offset, bytes.size());
      call.done();
    }
  };

  std::map<std::string, std::shared_ptr<Node>> names_;
  std::map<std::string, std::shared_ptr<Node>> durable_names_;
  std::map<std::filesystem::path, bool> made_;  // folders, and whether their names are durable
  int last_call_ = -1, failing_call_ = -1;
  int error_ = EIO;
  int calls_ = 0;
  bool dead_ = false;
  std::int64_t clock_ = 0;
};

}  // namespace treadle
