#include <treadle/base/log.hpp>
#include <treadle/base/text.hpp>
#include <treadle/events/event_storage.hpp>
#include <treadle/events/live_line.hpp>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>

#include "events/writer_options.hpp"

namespace treadle {
namespace {

constexpr std::string_view kSeparator = " | ";

int terminal_width() {
  winsize size{};
  if (isatty(STDOUT_FILENO) != 1) return 0;
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1 : 79;
}

std::size_t columns(std::string_view utf8) {
  std::size_t n = 0;
  for (const char c : utf8) n += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return n;
}

/// The parts in the order in which they are given up, the most wanted first.
std::vector<std::string> parts(const EventStorage& storage, const LiveLineOptions& options) {
  std::vector<std::string> result;
  const auto median = [&](const HistoryBuffer& history) { return history.median(history.count_within(options.window)); };
  const std::int64_t shown = storage.iter() + 1;
  result.push_back(options.max_iter ? fmt::format("iter {}/{}", std::min(shown, *options.max_iter), *options.max_iter)
                                    : fmt::format("iter {}", shown));
  const HistoryBuffer* time = storage.find_history("time");
  const double step = time ? median(*time) : std::nan("");
  if (options.max_iter && std::isfinite(step)) {
    result.push_back("eta " + format_duration(step * static_cast<double>(std::max<std::int64_t>(0, *options.max_iter - shown))));
  }
  if (const HistoryBuffer* total = storage.find_history("total_loss"))
    result.push_back(fmt::format("total_loss {:.4g}", median(*total)));
  if (const HistoryBuffer* lr = storage.find_history("lr")) result.push_back(fmt::format("lr {:.3g}", lr->latest()));
  if (step > 0 && options.images_per_batch > 0) {
    result.push_back(fmt::format("{:.0f} images/s", static_cast<double>(options.images_per_batch) / step));
  }
  if (const HistoryBuffer* wait = storage.find_history("data_time"); wait && step > 0) {
    result.push_back(fmt::format("data wait {:.0f}%", 100 * median(*wait) / step));
  }
  for (const auto& [name, history] : storage.histories()) {
    if (name != "total_loss" && name.find("loss") != std::string::npos)
      result.push_back(fmt::format("{} {:.4g}", name, median(*history)));
  }
  return result;
}

}  // namespace

void validate(const LiveLineOptions& options) {
  check_window(options.window, "LiveLineOptions.window");
  if (options.images_per_batch < 0) {
    throw ConfigError(
        fmt::format("LiveLineOptions.images_per_batch must not be negative, but it is {}", options.images_per_batch),
        "LiveLineOptions.images_per_batch");
  }
}

LiveLine::LiveLine(LiveLineOptions options) : options_(std::move(options)) {
  validate(options_);
  if (!options_.width) options_.width = terminal_width;
  if (!options_.show) options_.show = set_status_line;
}

void LiveLine::write(EventStorage& storage) {
  const int width = options_.width();
  if (width < 1) return;
  std::string line;
  for (const std::string& part : parts(storage, options_)) {
    const std::size_t separator = line.empty() ? 0 : kSeparator.size();
    if (columns(line) + separator + columns(part) > static_cast<std::size_t>(width)) break;
    if (separator > 0) line += kSeparator;
    line += part;
  }
  options_.show(line);
  shown_ = true;
}

void LiveLine::close() {
  if (shown_) options_.show("");
  shown_ = false;
}

}  // namespace treadle
