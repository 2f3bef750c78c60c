#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/engine/trainer_base.hpp>
#include <treadle/hooks/periodic_checkpointer.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <exception>

namespace treadle::hooks {
namespace {

std::string periodic_name(const std::string& prefix, std::int64_t iteration) {
  return fmt::format("{}_{:07d}", prefix, iteration);
}

/// The iteration in a name such as `model_0000999`, or -1.
std::int64_t iteration_of(const std::string& name, const std::string& prefix) {
  if (!name.starts_with(prefix + "_")) return -1;
  const std::string digits = name.substr(prefix.size() + 1);
  if (digits.size() < 7 || digits.size() > 18 || digits.find_first_not_of("0123456789") != std::string::npos) return -1;
  return std::stoll(digits);
}

}  // namespace

void validate(const PeriodicCheckpointerOptions& options) {
  const auto require = [](bool holds, const char* field, const char* range) {
    if (!holds) {
      throw ConfigError(fmt::format("PeriodicCheckpointerOptions.{} must be {}", field, range),
                        std::string("PeriodicCheckpointerOptions.") + field);
    }
  };
  require(options.period >= 1, "period", "at least 1");
  require(!options.max_to_keep || *options.max_to_keep >= 1, "max_to_keep", "at least 1, or without a value");
  require(!options.file_prefix.empty(), "file_prefix", "a name");
}

PeriodicCheckpointer::PeriodicCheckpointer(Checkpointer& checkpointer, PeriodicCheckpointerOptions options)
    : checkpointer_(checkpointer), options_(std::move(options)) {
  validate(options_);
}

void PeriodicCheckpointer::before_train(TrainerBase& trainer) {
  saved_iteration_ = trainer.start_iter() - 1;
  begun_name_.clear();
  recent_.clear();
  seen_ = checkpointer_.saved().size();
  if (!options_.max_to_keep || trainer.start_iter() == 0) return;
  for (const auto& file : checkpointer_.get_all_checkpoint_files()) {
    const std::int64_t iteration = iteration_of(file.stem().string(), options_.file_prefix);
    if (iteration >= 0 && iteration < trainer.start_iter()) recent_.push_back(file.stem().string());
  }
  // By number: names of eight digits would sort before those of seven.
  std::sort(recent_.begin(), recent_.end(), [&](const std::string& a, const std::string& b) {
    return iteration_of(a, options_.file_prefix) < iteration_of(b, options_.file_prefix);
  });
}

void PeriodicCheckpointer::after_step(TrainerBase& trainer) {
  const std::int64_t iteration = trainer.iter();
  if (options_.async) {
    checkpointer_.poll();
    note_saved();
  }
  const bool is_last = iteration + 1 >= trainer.max_iter();
  const bool is_due = (iteration + 1) % options_.period == 0;
  if (!is_last && !is_due) return;
  const std::string final_name = options_.file_prefix + "_final";
  // The final one comes first: a run that is killed between the two has no step left in which it could be made.
  if (is_last) save(final_name, iteration, false);
  if (!is_due) return;
  const bool has_final = is_last && !checkpointer_.saved().empty() && checkpointer_.saved().back() == final_name;
  save(periodic_name(options_.file_prefix, iteration), iteration, options_.async && !is_last);
  if (has_final && checkpointer_.saved().back() != final_name) checkpointer_.tag_last_checkpoint(final_name + ".pth");
}

void PeriodicCheckpointer::after_train(TrainerBase& trainer) {
  // What is under way may be of this iteration, and may fail.
  std::exception_ptr failure;
  try {
    checkpointer_.wait();
  } catch (const CommError&) {
    throw;
  } catch (...) {
    failure = std::current_exception();
  }
  note_saved();
  const std::int64_t last = trainer.iter() - 1;
  const bool unsaved = trainer.outcome() == Outcome::stopped && last != saved_iteration_;
  if (unsaved) save(periodic_name(options_.file_prefix, last), last, false);
  if (failure) std::rethrow_exception(failure);
}

void PeriodicCheckpointer::save(const std::string& name, std::int64_t iteration, bool async) {
  const Dict extras{{"iteration", iteration}};
  begun_name_ = name;
  begun_iteration_ = iteration;
  saved_iteration_ = -1;  // a run that went back may have saved this iteration before
  if (!async) {
    checkpointer_.save(name, extras);
  } else if (!checkpointer_.save_async(name, extras)) {
    begun_name_.clear();
  }
  note_saved();
}

// Only what is durable counts: a save that failed must not push out one that is good.
void PeriodicCheckpointer::note_saved() {
  for (; seen_ < checkpointer_.saved().size(); ++seen_) {
    const std::string& name = checkpointer_.saved()[seen_];
    if (name == begun_name_) saved_iteration_ = begun_iteration_;
    if (!options_.max_to_keep || iteration_of(name, options_.file_prefix) < 0) continue;
    std::erase(recent_, name);
    recent_.push_back(name);
  }
  forget_oldest();
}

void PeriodicCheckpointer::forget_oldest() {
  if (!options_.max_to_keep || std::ssize(recent_) <= *options_.max_to_keep) return;
  std::erase_if(recent_, [&](const std::string& name) { return checkpointer_.is_pinned(name); });
  for (; std::ssize(recent_) > *options_.max_to_keep; recent_.erase(recent_.begin())) {
    try {
      checkpointer_.forget(recent_.front());
    } catch (const IoError& error) {
      log_warning(fmt::format("an old checkpoint stays: {}", error.what()));
    }
  }
}

}  // namespace treadle::hooks
