#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/checkpoint/file_system.hpp>
#include <treadle/engine/trainer_base.hpp>
#include <treadle/hooks/periodic_checkpointer.hpp>

#include <fmt/format.h>

#include <algorithm>

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
    if (!holds) throw ConfigError(fmt::format("PeriodicCheckpointerOptions.{} must be {}", field, range), field);
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
  recent_.clear();
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
  if ((iteration + 1) % options_.period == 0) {
    const std::string name = periodic_name(options_.file_prefix, iteration);
    save(trainer, name, iteration);
    forget_oldest(trainer, name);
  }
  if (iteration + 1 >= trainer.max_iter()) save(trainer, options_.file_prefix + "_final", iteration);
}

void PeriodicCheckpointer::after_train(TrainerBase& trainer) {
  const std::int64_t last = trainer.iter() - 1;
  if (trainer.outcome() != Outcome::stopped || last == saved_iteration_) return;
  const std::string name = periodic_name(options_.file_prefix, last);
  save(trainer, name, last);
  forget_oldest(trainer, name);
}

void PeriodicCheckpointer::save(TrainerBase&, const std::string& name, std::int64_t iteration) {
  checkpointer_.save(name, {{"iteration", iteration}});
  saved_iteration_ = iteration;
}

void PeriodicCheckpointer::forget_oldest(TrainerBase& trainer, const std::string& newest) {
  if (!options_.max_to_keep) return;
  std::erase(recent_, newest);
  recent_.push_back(newest);
  while (static_cast<std::int64_t>(recent_.size()) > *options_.max_to_keep) {
    const auto file = checkpointer_.save_dir() / (recent_.front() + ".pth");
    recent_.erase(recent_.begin());
    if (!trainer.group().is_main_process()) continue;
    try {
      if (checkpointer_.file_system()->is_file(file)) checkpointer_.file_system()->remove(file);
    } catch (const IoError& error) {
      log_warning(fmt::format("an old checkpoint stays: {}", error.what()));
    }
  }
}

}  // namespace treadle::hooks
