#pragma once

#include <treadle/base/log.hpp>

#include <string>
#include <string_view>

namespace treadle {

/// Whether text on stdout may be coloured: it is a terminal, and NO_COLOR is not set.
bool stdout_has_colour();

/// Sends warnings and errors of the log to stderr and drops the rest: for commands whose stdout is an answer to be read by a
/// program.
class LogToStderr {
 public:
  LogToStderr();

 private:
  LogCapture capture_;
};

/// Writes all of `text` to stdout. Throws IoError.
void print(std::string_view text);
/// The same for a line.
void print_line(const std::string& line);

/// Text of a file as it can be shown: control characters are written as `\x1b`.
std::string printable(const std::string& text);

}  // namespace treadle
