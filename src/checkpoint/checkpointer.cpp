#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/text.hpp>
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/checkpoint/file_system.hpp>
#include <treadle/comm/group.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/exception_text.hpp"
#include "checkpoint/async_writer.hpp"
#include "checkpoint/key_report.hpp"
#include "checkpoint/model_loading.hpp"

namespace treadle {

namespace fs = std::filesystem;

namespace {

/// Makes the name of `folder` and those of the folders above it durable: who made them need not have, and a file is lost with any
/// of them. A folder that this process may not open, that stands where folders are not synced, or that a store does not know, is
/// passed over: what is in it was there before.
void make_name_durable(FileSystem& files, const fs::path& folder) {
  for (fs::path place = folder; place.has_relative_path();) {
    place = place.parent_path();
    const fs::path above = place.empty() ? "." : place;
    try {
      files.sync_folder(above);
    } catch (const IoError& error) {
      const int number = error.error_number();
      constexpr std::array passed_over{EACCES, EINVAL, ENOENT, ENOSYS, ENOTDIR, ENOTSUP, EPERM, EROFS};
      if (std::ranges::find(passed_over, number) == passed_over.end()) throw;
      log_debug(error.what());
    }
  }
}

}  // namespace

Checkpointer::Checkpointer(torch::nn::Module& model, fs::path save_dir, CheckpointerOptions options)
    : model_(&model), save_dir_(std::move(save_dir)), options_(std::move(options)), async_(std::make_unique<AsyncWriter>()) {
  if (!options_.group) options_.group = make_single_process_group();
  if (!options_.file_system) options_.file_system = local_file_system();
}

Checkpointer::~Checkpointer() {
  if (auto error = async_->wait())
    log_error(fmt::format("The checkpoint {} was not saved: {}", async_path_.string(), exception_text(error)));
}

void Checkpointer::add_checkpointable(const std::string& name, Stateful& object) {
  if (name == "model" || has_checkpointable(name))
    throw Error(fmt::format("the name \"{}\" is already used in the checkpointer", name));
  checkpointables_.push_back({name, &object});
}

bool Checkpointer::has_checkpointable(const std::string& name) const {
  return std::any_of(checkpointables_.begin(), checkpointables_.end(),
                     [&](const NamedStateful& part) { return part.name == name; });
}

bool Checkpointer::saves() const { return options_.save_to_disk && !save_dir_.empty(); }

fs::path Checkpointer::file_of(const std::string& name) const {
  if (name.empty() || fs::path(name).filename() != name) throw Error(fmt::format("\"{}\" is no name for a checkpoint", name));
  return save_dir_ / (name + ".pth");
}

Dict Checkpointer::collect(const Dict& extras, Parts parts) const {
  Dict state{{"model", module_state_dict(*model_, options_.non_persistent)}};
  if (parts == Parts::all) {
    for (const NamedStateful& part : checkpointables_) state.set(part.name, part.object->state_dict());
  }
  for (const auto& extra : extras) state.set(extra.key, extra.value);
  return state;
}

void Checkpointer::save(const std::string& name, const Dict& extras) { save_now(name, extras, Parts::all, /*tag=*/true); }

void Checkpointer::save_aside(const std::string& name, const Dict& extras, Parts parts) {
  save_now(name, extras, parts, /*tag=*/false);
}

void Checkpointer::save_now(const std::string& name, const Dict& extras, Parts parts, bool tag) {
  if (!saves()) return;
  fs::path path = file_of(name);
  wait();
  Value state = collect(extras, parts);
  std::exception_ptr error;
  if (group().is_main_process()) {
    log_info(fmt::format("Saving checkpoint to {}", path.string()));
    try {
      write(path, state, tag);
    } catch (...) {
      error = std::current_exception();
    }
  }
  finish_save(error, path);
}

bool Checkpointer::save_async(const std::string& name, const Dict& extras) {
  if (!saves()) return false;
  fs::path path = file_of(name);
  if (options_.when_busy == CheckpointerOptions::Busy::skip) {
    if (group().broadcast(async_->busy()).as_bool()) {
      if (group().is_main_process())
        log_warning(fmt::format("{} is skipped: {} is still being written", path.string(), async_path_.string()));
      return false;
    }
  }
  wait();
  Value state = collect(extras);
  async_path_ = path;
  if (!group().is_main_process()) return true;
  log_info(fmt::format("Saving checkpoint to {}", path.string()));
  async_->start(state, [this, path](const Value& copy) { write(path, copy); });
  return true;
}

void Checkpointer::wait() {
  if (async_path_.empty()) return;
  const fs::path path = std::exchange(async_path_, {});
  finish_save(async_->wait(), path);
}

// The other ranks hear of it from the group, which an exception of one rank breaks.
void Checkpointer::poll() {
  if (async_path_.empty() || async_->busy()) return;
  if (group().get_world_size() == 1) return wait();
  const std::exception_ptr error = async_->error();
  if (error && !options_.ignore_save_errors) std::rethrow_exception(error);
}

void Checkpointer::write(const fs::path& path, const Value& state, bool tag) {
  options_.file_system->create_folders(save_dir_);
  if (!folder_is_durable_) make_name_durable(*options_.file_system, save_dir_);
  folder_is_durable_ = true;
  save_checkpoint_file(path, state, {.file_system = options_.file_system});
  if (tag) write_file_durably(*options_.file_system, save_dir_ / "last_checkpoint", path.filename().string());
}

void Checkpointer::finish_save(const std::exception_ptr& error, const fs::path& path) {
  try {
    agree(error, fmt::format("save {}", path.string()));
    saved_.push_back(path.stem().string());
  } catch (const CommError&) {
    if (error) log_error(fmt::format("The checkpoint {} was not saved: {}", path.string(), exception_text(error)));
    throw;
  } catch (const std::exception& failure) {
    if (!options_.ignore_save_errors) throw;
    if (group().is_main_process())
      log_error(fmt::format("The checkpoint {} was not saved, and training goes on: {}", path.string(), failure.what()));
  }
}

// Every rank learns whether one failed, so that none goes on alone. A rank throws its own error, or else that of the first that
// failed.
void Checkpointer::agree(const std::exception_ptr& error, const std::string& operation) const {
  if (group().get_world_size() == 1) {
    if (error) std::rethrow_exception(error);
    return;
  }
  std::string message;
  try {
    if (error) std::rethrow_exception(error);
  } catch (const std::exception& failure) {
    message = failure.what();
    if (message.empty()) message = "an error without a message";
  }
  List messages = group().all_gather(message);
  if (error) std::rethrow_exception(error);
  for (std::size_t rank = 0; rank < messages.size(); ++rank) {
    const std::string& of_rank = messages[rank].as_string();
    if (!of_rank.empty()) throw Error(fmt::format("could not {}: rank {}: {}", operation, rank, of_rank));
  }
}

Dict Checkpointer::load(const std::string& path, const std::optional<std::vector<std::string>>& checkpointables) {
  if (path.empty()) {
    log_info("No checkpoint found. Initializing model from scratch");
    return {};
  }
  std::vector<std::string> names;
  if (checkpointables) {
    names = *checkpointables;
  } else {
    for (const NamedStateful& part : checkpointables_) names.push_back(part.name);
  }
  for (const std::string& name : names) {
    if (!has_checkpointable(name)) throw Error(fmt::format("there is no checkpointable \"{}\" to load", name));
  }
  wait();
  log_info(fmt::format("[Checkpointer] Loading from {} ...", path));
  return apply(read_on_all_ranks(path), path, names);
}

Dict Checkpointer::read_on_all_ranks(const std::string& path) {
  auto read = [&]() -> Dict {
    if (path != verified_path_) return load_file(path);
    verified_path_.clear();
    return std::exchange(verified_, {});
  };
  if (group().get_world_size() == 1) return read();

  bool has = false;
  std::exception_ptr error;
  try {
    has = options_.file_system->is_file(path);
  } catch (const IoError&) {
    error = std::current_exception();
  }
  List has_file = group().all_gather(has);
  if (!group().is_main_process()) error = nullptr;  // what it does not see is sent to it
  if (!has_file[0].as_bool()) agree(error, fmt::format("load {}", path));
  if (!has_file[0].as_bool()) throw IoError("open", path, ENOENT, "the main process does not see it");
  bool all = std::all_of(has_file.begin(), has_file.end(), [](const Value& value) { return value.as_bool(); });
  Dict checkpoint;
  if (all || group().is_main_process()) {
    error = nullptr;
    try {
      checkpoint = read();
    } catch (...) {
      error = std::current_exception();
    }
  }
  agree(error, fmt::format("load {}", path));
  if (all) return checkpoint;
  if (group().is_main_process()) log_warning(fmt::format("Not all ranks can read {}; the main process sends it to them", path));
  return group().broadcast(checkpoint).as_dict();
}

// Nothing is changed on any rank before all ranks know that everything fits.
Dict Checkpointer::apply(Dict checkpoint, const std::string& path, const std::vector<std::string>& names) {
  std::vector<NamedStateful> parts;
  for (const NamedStateful& part : checkpointables_) {
    bool wanted = std::find(names.begin(), names.end(), part.name) != names.end();
    if (wanted && checkpoint.contains(part.name)) parts.push_back(part);
  }
  ModelLoad model;
  std::exception_ptr error;
  try {
    model = load_model(checkpoint);
    for (const NamedStateful& part : parts) {
      try {
        part.object->check_state_dict(checkpoint.at(part.name).as_dict());
      } catch (const FormatError& problem) {
        throw FormatError(
            fmt::format("{} in \"{}\": {}{}", part.name, path, problem.what(), other_model_note(model.incompatible)));
      }
    }
  } catch (...) {
    error = std::current_exception();
  }
  agree(error, fmt::format("load {}", path));
  log_incompatible_keys(model.incompatible);
  copy_into_module(*model_, model.state);
  for (const NamedStateful& part : parts) {
    log_info(fmt::format("Loading {} from {} ...", part.name, path));
    part.object->load_state_dict(checkpoint.at(part.name).as_dict());
    checkpoint.erase(part.name);
  }
  return checkpoint;
}

Dict Checkpointer::load_file(const std::string& path) {
  Value value = load_checkpoint_file(path, {.file_system = options_.file_system});
  if (!value.is(Value::Type::dict)) throw FormatError("a checkpoint should hold a dict", path);
  return std::move(value.as_dict());
}

ModelLoad Checkpointer::load_model(Dict& checkpoint) {
  const Value* found = checkpoint.find("model");
  if (!found) throw FormatError("the checkpoint has no \"model\"; its keys are " + quoted_list(key_names(checkpoint)));
  if (!found->is(Value::Type::dict))
    throw FormatError(fmt::format("\"model\" of the checkpoint is a {}, no Dict", to_string(found->type())));
  Dict state = std::move(checkpoint.at("model").as_dict());
  checkpoint.erase("model");
  check_tensors(state);
  strip_prefix(state, "module.");  // of a model that was saved inside DataParallel or DistributedDataParallel
  if (options_.upgrade) state = options_.upgrade(std::move(state));
  return match_model(*model_, std::move(state), options_.non_persistent);
}

void Checkpointer::log_incompatible_keys(const IncompatibleKeys& incompatible) {
  if (!group().is_main_process()) return;
  for (const IncorrectShape& mismatch : incompatible.incorrect_shapes) log_warning(incorrect_shape_message(mismatch));
  auto missing = drop_reused_keys(incompatible.missing_keys, module_state_dict(*model_));
  if (!missing.empty()) log_warning(missing_keys_message(missing));
  if (!incompatible.unexpected_keys.empty()) log_warning(unexpected_keys_message(incompatible.unexpected_keys));
}

}  // namespace treadle
