#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace treadle {

enum class LogLevel { debug, info, warning, error };

/// Where log lines go. Without a call of `configure_log`: info and above to stdout.
struct LogOptions {
  std::string name = "treadle";             ///< stands in every line
  std::filesystem::path file;               ///< appended to; empty for none. Flushed after every line.
  bool console = true;                      ///< stdout; coloured when it is a terminal and NO_COLOR is not set
  LogLevel level = LogLevel::info;          ///< the least level that is written anywhere
  LogLevel console_level = LogLevel::info;  ///< the least level that the console shows
};

/// Replaces the destinations of all log lines of this process. Throws IoError when the file cannot be opened.
void configure_log(const LogOptions& options);

/// Writes one line `[month/day hour:minute:second name]: message`; warnings and errors say so. Any thread.
void log(LogLevel level, std::string_view message);
void log_debug(std::string_view message);
void log_info(std::string_view message);
void log_warning(std::string_view message);
void log_error(std::string_view message);

/// Shows `line` as the last line of the terminal, below the log lines, replacing the one before; an empty one removes it.
/// Does nothing when stdout is no terminal or the console is off. Any thread.
void set_status_line(std::string_view line);
/// True when `set_status_line` shows something.
bool has_status_line() noexcept;
/// True when the console is on and is a terminal.
bool log_is_terminal() noexcept;

/// Also writes warnings and errors to `descriptor`, each led by `prefix`, whatever `configure_log` says; -1 ends that. For a
/// process that shares a terminal with others. The descriptor stays the caller's.
void echo_warnings(int descriptor, std::string prefix);
/// True when warnings go to a descriptor that is not stdout: stdout then is this process's alone.
bool stdout_is_apart() noexcept;

/// Takes every log line of the process from construction to destruction in place of the usual destinations: for tests, and for
/// programs with a log of their own. The newest living capture receives; the handlers are called by one thread at a time, so one
/// must not wait for a thread that logs. What a handler logs itself goes past its own capture to the one before, or to the usual
/// destinations; it may begin and end captures, its own too.
class LogCapture {
 public:
  using Handler = std::function<void(LogLevel, std::string_view)>;
  explicit LogCapture(Handler handler);
  ~LogCapture();
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;

 private:
  struct Receiver {
    Handler handler;
    bool busy = false;
  };
  std::shared_ptr<Receiver> receiver_;
  LogCapture* previous_;
  friend void log(LogLevel, std::string_view);
};

}  // namespace treadle
