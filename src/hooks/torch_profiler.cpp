#include "hooks/operation_table.hpp"

#include <treadle/base/device.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/engine/trainer_base.hpp>
#include <treadle/hooks/torch_profiler.hpp>

#include <fmt/format.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <chrono>
#include <set>
#include <system_error>

namespace treadle::hooks {
namespace {

namespace fs = std::filesystem;
namespace kineto = torch::autograd::profiler;
using torch::profiler::impl::ActivityType;

std::set<ActivityType> activities(bool accelerator) {
  std::set<ActivityType> kinds = {ActivityType::CPU};
  if (!accelerator || accelerator_count() == 0) return kinds;
  switch (default_device().type()) {
    case c10::DeviceType::CUDA:
      kinds.insert(ActivityType::CUDA);
      break;
    case c10::DeviceType::XPU:
      kinds.insert(ActivityType::XPU);
      break;
    case c10::DeviceType::PrivateUse1:
      kinds.insert(ActivityType::PrivateUse1);
      break;
    default:
      break;
  }
  return kinds;
}

torch::profiler::impl::ProfilerConfig config(const TorchProfilerOptions& options) {
  return torch::profiler::impl::ProfilerConfig(torch::profiler::impl::ProfilerState::KINETO, options.record_shapes,
                                               options.profile_memory, /*with_stack=*/false,
                                               options.with_flops && options.record_shapes);
}

std::vector<OperationEvent> read_events(const kineto::ProfilerResult& result) {
  std::vector<OperationEvent> events;
  events.reserve(result.events().size());
  for (const kineto::KinetoEvent& event : result.events()) {
    if (event.isHiddenEvent()) continue;
    const std::string name = event.name();
    events.push_back({.name = name,
                      .thread = event.startThreadId(),
                      .start_ns = static_cast<std::int64_t>(event.startNs()),
                      .end_ns = static_cast<std::int64_t>(event.endNs()),
                      .on_device = event.deviceType() != c10::DeviceType::CPU,
                      .is_memory = name == "[memory]",
                      .bytes = event.nBytes()});
  }
  return events;
}

}  // namespace

void validate(const TorchProfilerOptions& options) {
  const auto require = [](std::int64_t value, std::int64_t least, const std::string& field) {
    if (value < least) {
      throw ConfigError(fmt::format("TorchProfilerOptions.{} is {}; at least {} is needed", field, value, least),
                        "TorchProfilerOptions." + field);
    }
  };
  require(options.wait, 0, "wait");
  require(options.warmup, 0, "warmup");
  require(options.active, 1, "active");
  require(options.repeat, 0, "repeat");
  require(options.table_rows, 0, "table_rows");
  if (options.output_dir.empty())
    throw ConfigError("TorchProfilerOptions.output_dir must be a folder", "TorchProfilerOptions.output_dir");
}

TorchProfiler::TorchProfiler(TorchProfilerOptions options) : options_(std::move(options)) { validate(options_); }

TorchProfiler::~TorchProfiler() { discard(); }

void TorchProfiler::before_train(TrainerBase&) {
  std::error_code error;
  fs::create_directories(options_.output_dir, error);
  if (error) throw IoError("create", options_.output_dir, error.value());
  place_ = cycles_ = 0;
}

void TorchProfiler::before_step(TrainerBase& trainer) {
  if (options_.enable && !options_.enable(trainer)) {
    finish(trainer);
    place_ = 0;
    return;
  }
  if (options_.repeat > 0 && cycles_ == options_.repeat) return;
  if (place_ == options_.wait && options_.warmup > 0) prepare();
  if (place_ == options_.wait + options_.warmup) record();
  ++place_;
}

void TorchProfiler::after_step(TrainerBase& trainer) {
  if (state_ != State::recording) return;
  last_ = trainer.iter();
  if (place_ < options_.wait + options_.warmup + options_.active) return;
  finish(trainer);
  ++cycles_;
  place_ = 0;
}

void TorchProfiler::after_train(TrainerBase& trainer) { finish(trainer); }

void TorchProfiler::prepare() {
  if (torch::profiler::impl::profilerEnabled()) {
    throw Error("TorchProfiler: another recording is under way, and LibTorch has one profiler; give the hooks other steps");
  }
  kineto::prepareProfiler(config(options_), activities(options_.accelerator));
  state_ = State::warming_up;
}

void TorchProfiler::record() {
  if (state_ == State::idle) prepare();
  kineto::enableProfiler(config(options_), activities(options_.accelerator));
  state_ = State::recording;
}

void TorchProfiler::finish(const TrainerBase& trainer) {
  if (state_ != State::recording) return discard();
  state_ = State::idle;
  const auto result = kineto::disableProfiler();
  const fs::path file = trace_file(trainer);
  std::error_code error;
  fs::create_directories(file.parent_path(), error);
  if (!error) result->save(file.string());
  if (error || !fs::is_regular_file(file, error)) {
    log_warning(fmt::format("TorchProfiler: the trace {} could not be written", file.string()));
  } else {
    log_info(fmt::format("TorchProfiler: the trace of the steps up to iteration {} is {}", last_, file.string()));
  }
  if (options_.table_rows == 0) return;
  log_info("The costliest operations of these steps:\n" +
           operation_table(operation_costs(read_events(*result)), static_cast<std::size_t>(options_.table_rows)));
}

void TorchProfiler::discard() noexcept {
  if (state_ == State::idle) return;
  // A profiler that was prepared can only be left by way of a recording.
  try {
    if (state_ == State::warming_up) kineto::enableProfiler(config(options_), activities(options_.accelerator));
    kineto::disableProfiler();
  } catch (const std::exception& error) {
    log_warning(fmt::format("TorchProfiler: {}", error.what()));
  }
  state_ = State::idle;
}

fs::path TorchProfiler::trace_file(const TrainerBase& trainer) const {
  const int rank = trainer.group().get_rank();
  if (options_.tensorboard) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
    return options_.output_dir / "log" / fmt::format("profiler-tensorboard-iter{}", last_) /
           fmt::format("worker{}.{}.pt.trace.json", rank, ms);
  }
  return options_.output_dir / fmt::format("profiler-trace-iter{}{}.json", last_, rank == 0 ? "" : fmt::format("-rank{}", rank));
}

}  // namespace treadle::hooks
