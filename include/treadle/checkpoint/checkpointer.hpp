#pragma once

#include <treadle/base/stateful.hpp>
#include <treadle/base/value.hpp>

#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace torch::nn {
class Module;
}

namespace treadle {

class FileSystem;
struct FolderEntry;
class Group;

struct CheckpointerOptions {
  /// False: `save` does nothing on any rank, and a resume leaves the folder as it is.
  bool save_to_disk = true;
  /// The processes that train together; null for one process.
  std::shared_ptr<Group> group = nullptr;
  /// Names of parameters and buffers that are neither saved nor reported as missing.
  std::vector<std::string> non_persistent = {};
  /// Brings the model's state, as a file holds it, into this version's names and form before it is compared; empty: nothing.
  std::function<Dict(Dict state)> upgrade = nullptr;
  /// Where checkpoints lie; null for the local file system.
  std::shared_ptr<FileSystem> file_system = nullptr;
  /// True: a save that fails is reported by `log_error` and training goes on. False: it throws on every rank.
  bool ignore_save_errors = false;
  /// What `save_async` does while the one before is still being written: wait for it, or skip with a warning.
  enum class Busy { wait, skip } when_busy = Busy::wait;
};

/// A tensor of the checkpoint whose shape is not that of the model's.
struct IncorrectShape {
  std::string key;
  std::vector<std::int64_t> in_checkpoint;
  std::vector<std::int64_t> in_model;
};

/// What did not fit between a checkpoint and a model. Keys of incorrect shape count as missing too.
struct IncompatibleKeys {
  std::vector<std::string> missing_keys;
  std::vector<std::string> unexpected_keys;
  std::vector<IncorrectShape> incorrect_shapes;
};

/// What of a checkpoint goes into the model: name → tensor, each of the model's own shape.
struct ModelLoad {
  Dict state;
  IncompatibleKeys incompatible;
};

/// Saves and loads a model together with everything else that has a state, in fvcore's layout:
/// {"model": …, name of a checkpointable: its state, …, and the extras of `save`}.
///
///     Checkpointer checkpointer(*model, "output", {.group = group});
///     checkpointer.add_checkpointable("trainer", trainer);
///     Dict rest = checkpointer.resume_or_load(weights, resume);
///     checkpointer.save("model_0000099", {{"iteration", 99}});
///
/// Loop thread only. All ranks call `save`, `save_async`, `wait`, `load` and `resume_or_load` together: states of checkpointables
/// may be collectives, the main process writes, and all ranks agree on success. Model and checkpointables are borrowed.
class Checkpointer {
 public:
  /// Creates `save_dir` when it is first saved to, and makes its name durable then, and those of the folders above it. An empty
  /// one: nothing is saved, nothing is found.
  explicit Checkpointer(torch::nn::Module& model, std::filesystem::path save_dir = {}, CheckpointerOptions options = {});
  /// Waits for a save under way.
  virtual ~Checkpointer();
  Checkpointer(const Checkpointer&) = delete;
  Checkpointer& operator=(const Checkpointer&) = delete;

  /// From now on the state of `object` is saved and loaded under `name`, in the order of the calls. Throws Error when the name is
  /// taken or is "model".
  void add_checkpointable(const std::string& name, Stateful& object);
  bool has_checkpointable(const std::string& name) const;

  /// Writes `save_dir/<name>.pth`, then points `last_checkpoint` at it. Returns when both are durable. Extras replace
  /// checkpointables of the same name. Throws on all ranks when the main process fails; the checkpoints before are then as they
  /// were.
  void save(const std::string& name, const Dict& extras = {});

  enum class Parts { all, model };
  /// The same for a copy that is not to be resumed from: `last_checkpoint` stays as it is. With `Parts::model` the file holds the
  /// model and the extras alone.
  void save_aside(const std::string& name, const Dict& extras = {}, Parts parts = Parts::all);

  /// Copies the state into host memory (kept and reused by the next call) and returns; a thread does the rest. One save at a time
  /// is under way. A failure throws from the next `save`, `save_async` or `wait`, on all ranks. Returns whether it has begun, on
  /// all ranks the same: false when it was skipped (`Busy::skip`), or nothing is saved at all.
  bool save_async(const std::string& name, const Dict& extras = {});
  /// Returns when no save is under way.
  void wait();
  /// Throws the error of a `save_async` that has failed by now, on the main process; waits for nothing. Cheap enough for every
  /// step, so that an error surfaces at the next one.
  void poll();
  /// The names of the checkpoints that this object saved and that all ranks know to be durable, the newest last.
  const std::vector<std::string>& saved() const noexcept { return saved_; }

  /// Removes `save_dir/<name>.pth` and returns true, on the main process. The one to resume from, the newest one, one that is
  /// being written, and pinned ones stay. Throws IoError.
  bool forget(const std::string& name);
  /// Keeps the checkpoint `name` from `forget`, in later runs too, by a file `<name>.pth.pinned` beside it.
  void pin(const std::string& name);
  /// Whether that file is there; false when it cannot be seen.
  bool is_pinned(const std::string& name) const noexcept;

  /// Loads the model and the named checkpointables (all by default) from `path`, and returns what else the file holds. An empty
  /// path loads nothing. Everything is checked first, so that an error leaves model and checkpointables as they were. Keys that
  /// are missing, unexpected or of another shape are reported in the log and passed over, as fvcore does; a checkpointable that
  /// the file lacks is passed over too. Throws FormatError, IoError, and Error for a name that was not added; when one rank
  /// fails, the others throw an Error that says which and why.
  virtual Dict load(const std::string& path, const std::optional<std::vector<std::string>>& checkpointables = std::nullopt);

  /// With `resume` and a checkpoint in `save_dir`: loads the last one with all checkpointables. When it is damaged, says so,
  /// renames it to `<name>.damaged`, and takes the newest good one; throws FormatError when there is none. Otherwise loads the
  /// model alone from `path`. Temporary files that a crash left behind are removed.
  ///
  /// The newest is that of the run that began last, as its record says ("begun" under "treadle"), of its files that of the latest
  /// iteration, and of equal ones the file written last. Files that lack a checkpointable, such as averaged weights, come last.
  Dict resume_or_load(const std::string& path, bool resume = true);

  /// True when there is a checkpoint to resume from.
  bool has_checkpoint() const;
  /// The file that `last_checkpoint` names; empty when there is none.
  std::filesystem::path get_checkpoint_file() const;
  /// Every `.pth` file in the folder, sorted by name.
  std::vector<std::filesystem::path> get_all_checkpoint_files() const;
  /// Makes `basename` (with `.pth`) the one to resume from. On the main process; does nothing elsewhere.
  void tag_last_checkpoint(const std::string& basename);

  const std::filesystem::path& save_dir() const noexcept { return save_dir_; }
  const std::shared_ptr<FileSystem>& file_system() const noexcept { return options_.file_system; }
  torch::nn::Module& model() noexcept { return *model_; }

 protected:
  /// Reads a file into {"model": name → tensor, …}. Every rank that sees the file calls it.
  virtual Dict load_file(const std::string& path);
  /// Takes "model" out of `checkpoint` and decides what of it goes into the model, which stays as it is. Throws FormatError.
  virtual ModelLoad load_model(Dict& checkpoint);
  /// Reports what did not fit.
  virtual void log_incompatible_keys(const IncompatibleKeys& incompatible);

  const CheckpointerOptions& options() const noexcept { return options_; }
  Group& group() const noexcept { return *options_.group; }

 private:
  class AsyncWriter;
  bool saves() const;
  std::filesystem::path file_of(const std::string& name) const;
  Dict collect(const Dict& extras, Parts parts = Parts::all) const;
  void save_now(const std::string& name, const Dict& extras, Parts parts, bool tag);
  void write(const std::filesystem::path& path, const Value& state, bool tag = true);
  void finish_save(const std::exception_ptr& error, const std::filesystem::path& path);
  void agree(const std::exception_ptr& error, const std::string& operation) const;
  Dict read_on_all_ranks(const std::string& path);
  Dict apply(Dict checkpoint, const std::string& path, const std::vector<std::string>& names);
  std::string newest_good_file();
  bool is_good(const std::filesystem::path& path);
  void clean_leftovers() const;
  std::vector<FolderEntry> list_or_nothing() const;

  torch::nn::Module* model_;
  std::filesystem::path save_dir_;
  CheckpointerOptions options_;
  std::vector<NamedStateful> checkpointables_;
  std::unique_ptr<AsyncWriter> async_;
  std::filesystem::path async_path_;  // of the save under way, or of one whose outcome the ranks do not know yet
  std::vector<std::string> saved_;
  bool folder_is_durable_ = false;  // the names of save_dir and of the folders above it; for who writes
  std::string verified_path_;       // the file that resume_or_load has read already, and what it holds
  Dict verified_;
};

}  // namespace treadle
