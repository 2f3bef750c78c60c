#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>

#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <utility>

namespace treadle {
namespace {

constexpr const char* kPattern = "[%m/%d %H:%M:%S %n]: %v";
constexpr std::string_view kClearLine = "\r\033[2K";

bool console_is_terminal() { return isatty(STDOUT_FILENO) == 1; }

std::size_t terminal_width() {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
}

/// Keeps the first `width` characters of UTF-8 text; a continuation byte takes no column.
std::string fit(std::string_view text, std::size_t width) {
  std::size_t columns = 0, end = 0;
  for (; end < text.size(); ++end) {
    const bool starts_character = (static_cast<unsigned char>(text[end]) & 0xC0) != 0x80;
    if (starts_character && ++columns > width) break;
  }
  return std::string(text.substr(0, end));
}

/// stdout, with at most one line that stays below the log.
class Console {
 public:
  Console() : terminal_(console_is_terminal()), colored_(terminal_ && std::getenv("NO_COLOR") == nullptr) {}

  bool terminal() const noexcept { return terminal_; }
  bool colored() const noexcept { return colored_; }

  void write_line(std::string_view line) {
    std::lock_guard lock(mutex_);
    std::string text;
    if (!status_.empty()) text += kClearLine;
    text.append(line);
    text += '\n';
    put(text + status_);
  }

  void set_status(std::string_view line) {
    std::lock_guard lock(mutex_);
    if (!terminal_ || (line.empty() && status_.empty())) return;
    status_ = fit(line, terminal_width() - 1);
    put(std::string(kClearLine) + status_);
  }

  bool has_status() {
    std::lock_guard lock(mutex_);
    return !status_.empty();
  }

 private:
  static void put(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }

  bool terminal_;
  bool colored_;
  std::mutex mutex_;
  std::string status_;
};

Console& console() {
  static Console instance;
  return instance;
}

class ConsoleSink final : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t formatted;
    formatter_->format(message, formatted);
    std::string_view line(formatted.data(), formatted.size());
    while (!line.empty() && line.back() == '\n') line.remove_suffix(1);
    console().write_line(console().colored() ? color(line, message.level) : std::string(line));
  }
  void flush_() override {}

 private:
  static std::string color(std::string_view line, spdlog::level::level_enum level) {
    constexpr std::string_view green = "\033[32m", yellow = "\033[33m", red = "\033[31m", plain = "\033[0m";
    const std::size_t head = line.find("]: ");
    if (head == std::string_view::npos) return std::string(line);
    std::string text(level >= spdlog::level::err ? red : level == spdlog::level::warn ? yellow : green);
    text.append(line.substr(0, head + 2)).append(plain).append(line.substr(head + 2));
    return text;
  }
};

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

std::shared_ptr<spdlog::logger> make_logger(const LogOptions& options) {
  std::vector<spdlog::sink_ptr> sinks;
  if (options.console) {
    sinks.push_back(std::make_shared<ConsoleSink>());
    sinks.back()->set_level(to_spdlog(options.console_level));
  }
  if (!options.file.empty()) {
    try {
      sinks.push_back(std::make_shared<spdlog::sinks::basic_file_sink_mt>(options.file.string()));
    } catch (const spdlog::spdlog_ex&) {
      throw IoError("open the log file", options.file, errno);
    }
  }
  auto logger = std::make_shared<spdlog::logger>(options.name, sinks.begin(), sinks.end());
  logger->set_pattern(kPattern);
  logger->set_level(to_spdlog(options.level));
  logger->flush_on(spdlog::level::trace);
  return logger;
}

struct LogState {
  std::recursive_mutex mutex;  // a handler that it guards may log
  std::shared_ptr<spdlog::logger> logger = make_logger({});
  bool console = true;
  LogCapture* capture = nullptr;
  int echo = -1;
  std::string echo_prefix;
};

LogState& state() {
  static LogState instance;
  return instance;
}

/// In one piece, so that lines of several processes do not mix.
void write_echo(int descriptor, const std::string& line) {
  for (std::size_t done = 0; done < line.size();) {
    const ssize_t size = ::write(descriptor, line.data() + done, line.size() - done);
    if (size < 0 && errno != EINTR) return;
    if (size > 0) done += static_cast<std::size_t>(size);
  }
}

class Busy {
 public:
  explicit Busy(bool& flag) : flag_(flag) { flag_ = true; }
  ~Busy() { flag_ = false; }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;

 private:
  bool& flag_;
};

}  // namespace

void configure_log(const LogOptions& options) {
  auto logger = make_logger(options);
  std::lock_guard lock(state().mutex);
  state().logger = std::move(logger);
  state().console = options.console;
}

void log(LogLevel level, std::string_view message) {
  std::lock_guard lock(state().mutex);
  LogCapture* capture = state().capture;
  while (capture != nullptr && capture->receiver_->busy) capture = capture->previous_;
  if (capture != nullptr) {
    // Held here too: the handler may end its own capture.
    const std::shared_ptr<LogCapture::Receiver> receiver = capture->receiver_;
    const Busy busy(receiver->busy);
    receiver->handler(level, message);
    return;
  }
  const std::string_view prefix = level == LogLevel::warning ? "WARNING: " : level == LogLevel::error ? "ERROR: " : "";
  state().logger->log(to_spdlog(level), "{}{}", prefix, message);
  if (state().echo < 0 || level < LogLevel::warning) return;
  std::string line = state().echo_prefix;
  line.append(prefix).append(message).append("\n");
  write_echo(state().echo, line);
}

void log_debug(std::string_view message) { log(LogLevel::debug, message); }
void log_info(std::string_view message) { log(LogLevel::info, message); }
void log_warning(std::string_view message) { log(LogLevel::warning, message); }
void log_error(std::string_view message) { log(LogLevel::error, message); }

void echo_warnings(int descriptor, std::string prefix) {
  std::lock_guard lock(state().mutex);
  state().echo = descriptor;
  state().echo_prefix = std::move(prefix);
}

bool stdout_is_apart() noexcept {
  std::lock_guard lock(state().mutex);
  return state().echo >= 0 && state().echo != STDOUT_FILENO;
}

void set_status_line(std::string_view line) {
  {
    std::lock_guard lock(state().mutex);
    if (!state().console) return;
  }
  console().set_status(line);
}

bool has_status_line() noexcept { return console().has_status(); }

bool log_is_terminal() noexcept {
  std::lock_guard lock(state().mutex);
  return state().console && console().terminal();
}

LogCapture::LogCapture(Handler handler) : receiver_(std::make_shared<Receiver>(std::move(handler))) {
  std::lock_guard lock(state().mutex);
  previous_ = state().capture;
  state().capture = this;
}

LogCapture::~LogCapture() {
  std::lock_guard lock(state().mutex);
  LogCapture** link = &state().capture;
  while (*link != this) link = &(*link)->previous_;
  *link = previous_;
}

}  // namespace treadle
