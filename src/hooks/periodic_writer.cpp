#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/engine/trainer_base.hpp>
#include <treadle/hooks/periodic_writer.hpp>

#include <fmt/format.h>

namespace treadle::hooks {

PeriodicWriter::PeriodicWriter(std::vector<NamedWriter> writers, std::int64_t period) : period_(period) {
  if (period < 1) throw ConfigError(fmt::format("PeriodicWriter: period is {}; at least 1 is needed", period));
  for (auto& [name, writer] : writers) writers_.emplace_back(name, std::make_unique<GuardedWriter>(std::move(writer), name));
}

void PeriodicWriter::after_step(TrainerBase& trainer) {
  const bool last = trainer.iter() + 1 == trainer.max_iter();
  if ((trainer.iter() + 1) % period_ == 0 || last) write(trainer);
}

void PeriodicWriter::after_train(TrainerBase& trainer) {
  if (!trainer.group().is_main_process()) return;
  for (auto& [name, writer] : writers_) {
    writer->retry();
    writer->write(trainer.storage());
    writer->close();
  }
}

void PeriodicWriter::write(TrainerBase& trainer) {
  if (!trainer.group().is_main_process()) return;
  for (auto& [name, writer] : writers_) writer->write(trainer.storage());
}

Dict PeriodicWriter::state_dict() const {
  Dict state;
  for (const auto& [name, writer] : writers_) {
    Dict own = writer->state_dict();
    if (!own.empty()) state.set(name, std::move(own));
  }
  return state;
}

void PeriodicWriter::check_state_dict(const Dict& state) const {
  for (const auto& [name, writer] : writers_) {
    if (const Value* own = state.find(name)) writer->check_state_dict(own->as_dict());
  }
}

void PeriodicWriter::load_state_dict(const Dict& state) {
  for (const auto& [name, writer] : writers_) {
    if (const Value* own = state.find(name)) writer->load_state_dict(own->as_dict());
  }
}

}  // namespace treadle::hooks
