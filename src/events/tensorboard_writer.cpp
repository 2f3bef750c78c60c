#include <treadle/base/value_view.hpp>
#include <treadle/events/tensorboard_writer.hpp>
#include <treadle/image/image.hpp>

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <optional>

#include "events/append_file.hpp"
#include "events/event_record.hpp"
#include "events/scalar_cursor.hpp"
#include "events/writer_options.hpp"

namespace treadle {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kPrefix = "events.out.tfevents.";

double system_seconds() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

std::string host_name() {
  char name[256] = "localhost";
  gethostname(name, sizeof name - 1);
  return name;
}

/// The file's place. Readers take the files of a folder in the order of their names, so that the number in a new one, the time in
/// seconds, must be above those already there.
fs::path new_file(const fs::path& folder, double now) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw IoError("make the folder", folder, error.value());
  auto number = static_cast<std::int64_t>(now);
  for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    std::int64_t other = 0;
    if (!name.starts_with(kPrefix)) continue;
    std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), other);
    number = std::max(number, other + 1);
  }
  if (error) throw IoError("list the folder", folder, error.value());
  return folder / fmt::format("{}{:010}.{}.{}", kPrefix, number, host_name(), getpid());
}

}  // namespace

void validate(const TensorBoardWriterOptions& options) {
  const auto refuse = [](const std::string& field, const std::string& problem) {
    throw ConfigError("TensorBoardWriterOptions." + field + " " + problem, "TensorBoardWriterOptions." + field);
  };
  if (options.folder.empty()) refuse("folder", "is empty; name the folder for the event files");
  check_window(options.window, "TensorBoardWriterOptions.window");
  check_delay(options.max_delay, "TensorBoardWriterOptions.max_delay");
  for (const auto& [name, value] : options.hparams) {
    const auto type = value.type();
    const bool plain =
        type == Value::Type::boolean || type == Value::Type::integer || type == Value::Type::real || type == Value::Type::string;
    if (!plain) refuse("hparams", fmt::format("takes bool, int, float and string, but \"{}\" is {}", name, to_string(type)));
  }
}

struct TensorBoardWriter::Impl {
  explicit Impl(TensorBoardWriterOptions given)
      : options((validate(given), std::move(given))),
        file(new_file(options.folder, now()), options.max_delay),
        cursor(options.window, {}) {
    std::string records = version_record(now());
    if (!options.hparams.empty()) records += hparams_records(now(), options);
    file.append(records);
  }

  double now() const { return options.clock ? options.clock() : system_seconds(); }

  TensorBoardWriterOptions options;
  AppendFile file;
  ScalarCursor cursor;
  std::int64_t last_step = -1;  // the highest in all files of this run
  bool closed = false;
};

TensorBoardWriter::TensorBoardWriter(TensorBoardWriterOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
TensorBoardWriter::~TensorBoardWriter() = default;

void TensorBoardWriter::write(EventStorage& storage) {
  const double now = impl_->now();
  std::string records;
  std::int64_t last_step = impl_->last_step;
  for (const ScalarLine& line : impl_->cursor.pending(storage)) {
    records += scalars_record(now, line.iteration, line.scalars);
    last_step = std::max(last_step, line.iteration);
  }
  for (const ImageEvent& event : storage.images()) {
    records += image_record(now, event, encode_png(Image(event.pixels)));
    last_step = std::max(last_step, event.iteration);
  }
  for (const HistogramEvent& event : storage.histograms()) {
    records += histogram_record(now, event);
    last_step = std::max(last_step, event.iteration);
  }
  if (records.empty()) return;
  impl_->closed = false;
  impl_->file.append(records);
  impl_->cursor.advance(storage);
  impl_->last_step = last_step;
  storage.clear_images();
  storage.clear_histograms();
}

void TensorBoardWriter::close() {
  if (impl_->closed) return;
  impl_->closed = true;
  if (!impl_->options.hparams.empty()) impl_->file.append(hparams_end_record(impl_->now()));
  impl_->file.close();
}

const fs::path& TensorBoardWriter::file() const noexcept { return impl_->file.path(); }

Dict TensorBoardWriter::state_dict() const {
  impl_->file.sync();
  return {{"last_step", impl_->last_step}, {"cursor", impl_->cursor.state_dict()}};
}

void TensorBoardWriter::check_state_dict(const Dict& state) const {
  const ValueView view(state, "TensorBoardWriter");
  view["last_step"].as_int();
  impl_->cursor.check_state_dict(view["cursor"].as_dict());
}

void TensorBoardWriter::load_state_dict(const Dict& state) {
  const std::int64_t last_step = state.at("last_step").as_int();
  // The file comes first: where it takes no order, the cursor goes on to tell what stands in it.
  impl_->file.append(restart_record(impl_->now(), last_step + 1));
  impl_->closed = false;
  impl_->last_step = last_step;
  impl_->cursor.load_state_dict(state.at("cursor").as_dict());
}

}  // namespace treadle
