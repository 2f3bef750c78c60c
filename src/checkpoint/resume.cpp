#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/checkpoint/file_system.hpp>
#include <treadle/comm/group.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <tuple>

#include "checkpoint/async_writer.hpp"

namespace treadle {

namespace fs = std::filesystem;

namespace {

constexpr const char* kLast = "last_checkpoint";
constexpr const char* kDamaged = ".damaged";
constexpr const char* kPinned = ".pinned";

std::string stripped(const std::string& text) {
  std::size_t from = text.find_first_not_of(" \t\r\n");
  return from == std::string::npos ? "" : text.substr(from, text.find_last_not_of(" \t\r\n") - from + 1);
}

/// The iteration a checkpoint was taken at, read without its tensors; -1 when it does not say.
std::int64_t iteration_of(const fs::path& path, const std::shared_ptr<FileSystem>& files) {
  try {
    Value value = load_checkpoint_file(path, {.read_tensors = false, .file_system = files});
    const Value* iteration = value.is(Value::Type::dict) ? value.as_dict().find("iteration") : nullptr;
    return iteration && iteration->is(Value::Type::integer) ? iteration->as_int() : -1;
  } catch (const Error&) {
    return -1;
  }
}

}  // namespace

Dict Checkpointer::resume_or_load(const std::string& path, bool resume) {
  wait();
  if (!resume) return load(path, std::vector<std::string>{});
  std::string chosen;
  std::exception_ptr error;
  if (group().is_main_process()) {
    try {
      clean_leftovers();
      if (has_checkpoint()) chosen = newest_good_file();
    } catch (...) {
      error = std::current_exception();
    }
  }
  agree(error, "find a checkpoint to resume from");
  chosen = group().broadcast(chosen).as_string();
  if (chosen.empty()) return load(path, std::vector<std::string>{});
  return load(chosen);
}

bool Checkpointer::has_checkpoint() const { return !save_dir_.empty() && options_.file_system->is_file(save_dir_ / kLast); }

fs::path Checkpointer::get_checkpoint_file() const {
  if (!has_checkpoint()) return {};
  try {
    return save_dir_ / stripped(read_small_file(*options_.file_system, save_dir_ / kLast));
  } catch (const IoError&) {
    return {};
  }
}

std::vector<FolderEntry> Checkpointer::list_or_nothing() const {
  try {
    return options_.file_system->list(save_dir_);
  } catch (const IoError& error) {
    if (error.error_number() != ENOENT) throw;
    return {};  // nothing was saved yet
  }
}

std::vector<fs::path> Checkpointer::get_all_checkpoint_files() const {
  std::vector<fs::path> found;
  for (const FolderEntry& entry : list_or_nothing()) {
    if (entry.is_file && entry.name.ends_with(".pth")) found.push_back(save_dir_ / entry.name);
  }
  std::sort(found.begin(), found.end());
  return found;
}

void Checkpointer::tag_last_checkpoint(const std::string& basename) {
  if (!group().is_main_process() || !saves()) return;
  write_file_durably(*options_.file_system, save_dir_ / kLast, basename);
}

bool Checkpointer::forget(const std::string& name) {
  const fs::path path = file_of(name);
  if (!group().is_main_process() || !saves()) return false;
  FileSystem& files = *options_.file_system;
  const bool newest = (!saved_.empty() && name == saved_.back()) || path == async_path_ || path == get_checkpoint_file();
  if (newest || files.is_file(path.string() + kPinned) || !files.is_file(path)) return false;
  files.remove(path);
  return true;
}

void Checkpointer::pin(const std::string& name) {
  const fs::path path = file_of(name);
  if (!group().is_main_process() || !saves()) return;
  write_file_durably(*options_.file_system, path.string() + kPinned, "");
}

void Checkpointer::clean_leftovers() const {
  if (!saves()) return;
  for (const FolderEntry& entry : list_or_nothing()) {
    if (!is_temporary_name(entry.name)) continue;
    try {
      options_.file_system->remove(save_dir_ / entry.name);
      log_info(fmt::format("Removed {}, which an interrupted save left behind", entry.name));
    } catch (const IoError& problem) {
      log_warning(problem.what());
    }
  }
}

std::string Checkpointer::newest_good_file() {
  fs::path last = get_checkpoint_file();
  if (last.has_filename() && is_good(last)) return last.string();
  log_warning(fmt::format("The last checkpoint \"{}\" cannot be used; looking for the newest good one", last.string()));
  for (const fs::path& path : candidates()) {
    if (path == last || !is_good(path)) continue;
    log_warning(fmt::format("Resuming from {} instead", path.string()));
    tag_last_checkpoint(path.filename().string());
    return path.string();
  }
  throw FormatError(fmt::format("no checkpoint in \"{}\" can be read; to start anew, use an empty folder or do not resume",
                                save_dir_.string()));
}

/// The newest first: by iteration, then by time.
std::vector<fs::path> Checkpointer::candidates() const {
  std::vector<std::tuple<std::int64_t, std::int64_t, fs::path>> found;
  for (const FolderEntry& entry : options_.file_system->list(save_dir_)) {
    if (!entry.is_file || !entry.name.ends_with(".pth")) continue;
    found.emplace_back(iteration_of(save_dir_ / entry.name, options_.file_system), entry.modified_ns, save_dir_ / entry.name);
  }
  std::sort(found.rbegin(), found.rend());
  std::vector<fs::path> paths;
  for (auto& entry : found) paths.push_back(std::move(std::get<2>(entry)));
  return paths;
}

/// Reads the file, and keeps what it holds for the load that follows. A damaged one is set aside.
bool Checkpointer::is_good(const fs::path& path) {
  try {
    verified_ = load_file(path.string());
    verified_path_ = path.string();
    return true;
  } catch (const IoError& problem) {
    log_warning(problem.what());
    return false;
  } catch (const FormatError& problem) {
    fs::path aside = path.string() + kDamaged;
    log_warning(fmt::format("Damaged checkpoint: {}; it is kept as {}", problem.what(), aside.string()));
    try {
      options_.file_system->rename(path, aside);
    } catch (const IoError& failure) {
      log_warning(failure.what());
    }
    return false;
  }
}

}  // namespace treadle
