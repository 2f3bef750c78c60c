#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/checkpoint/file_system.hpp>
#include <treadle/comm/group.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <compare>

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

/// A file to fall back to. What makes it better than another comes first; the greatest is the best.
struct Candidate {
  bool is_whole = false;         ///< holds every checkpointable: with one of the model alone a run would begin at iteration 0
  std::int64_t begun = 0;        ///< when its run began: a folder may hold files of an earlier one; 0 when it does not say
  std::int64_t iteration = -1;   ///< the one it was saved after; -1 when it does not say
  std::int64_t modified_ns = 0;  ///< in this place, since a copied folder keeps the iterations alone
  fs::path path = {};
  auto operator<=>(const Candidate&) const = default;
};

/// The whole number under `key`, or `otherwise`.
std::int64_t number_or(const Dict& dict, const char* key, std::int64_t otherwise) {
  const Value* number = dict.find(key);
  return number && number->is(Value::Type::integer) ? number->as_int() : otherwise;
}

/// Fills in what the checkpoint says without its tensors; nothing when it cannot be read.
void describe_content(Candidate& candidate, const std::vector<NamedStateful>& parts, const std::shared_ptr<FileSystem>& files) {
  try {
    const Value value = load_checkpoint_file(candidate.path, {.read_tensors = false, .file_system = files});
    const Dict& content = value.as_dict();
    candidate.is_whole = std::ranges::all_of(parts, [&](const NamedStateful& part) { return content.contains(part.name); });
    candidate.iteration = number_or(content, "iteration", -1);
    const Value* record = content.find("treadle");
    if (record && record->is(Value::Type::dict)) candidate.begun = number_or(record->as_dict(), "begun", 0);
  } catch (const Error&) {
    return;  // what is wrong is said when it is tried
  }
}

std::vector<Candidate> best_first(const fs::path& folder, const std::vector<NamedStateful>& parts,
                                  const std::shared_ptr<FileSystem>& files) {
  std::vector<Candidate> found;
  for (const FolderEntry& entry : files->list(folder)) {
    if (!entry.is_file || !entry.name.ends_with(".pth")) continue;
    found.push_back({.modified_ns = entry.modified_ns, .path = folder / entry.name});
    describe_content(found.back(), parts, files);
  }
  std::sort(found.rbegin(), found.rend());
  return found;
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
  if (save_dir_.empty()) return {};
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

bool Checkpointer::is_pinned(const std::string& name) const noexcept {
  try {
    return options_.file_system->is_file(file_of(name).string() + kPinned);
  } catch (const std::exception&) {
    return false;
  }
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
  for (const Candidate& candidate : best_first(save_dir_, checkpointables_, options_.file_system)) {
    const fs::path& path = candidate.path;
    if (path == last || !is_good(path)) continue;
    log_warning(fmt::format("Resuming from {} instead", path.string()));
    tag_last_checkpoint(path.filename().string());
    return path.string();
  }
  throw FormatError(fmt::format("no checkpoint in \"{}\" can be read; to start anew, use an empty folder or do not resume",
                                save_dir_.string()));
}

/// Reads the file, and keeps what it holds for the load that follows. A damaged one is set aside, unless this object only
/// reads.
bool Checkpointer::is_good(const fs::path& path) {
  try {
    verified_ = load_file(path.string());
    verified_path_ = path.string();
    return true;
  } catch (const IoError& problem) {
    log_warning(problem.what());
    return false;
  } catch (const FormatError& problem) {
    if (!saves()) {
      log_warning(fmt::format("Damaged checkpoint: {}", problem.what()));
      return false;
    }
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
