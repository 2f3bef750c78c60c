#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace treadle {

/// How `draw_curve` draws.
struct CurveOptions {
  int width = 80;          ///< characters of a line at most, labels included; at least 20
  int height = 12;         ///< lines of the curve itself, at least 2
  bool unicode = true;     ///< braille dots, 2 x 4 in a character, and line drawing in UTF-8; otherwise ASCII
  std::int64_t first = 0;  ///< the whole number that the first value belongs to, and
  std::int64_t last = 0;   ///< the last one
  std::string x_label{};   ///< a line below the numbers of the horizontal axis, unless empty
  std::string y_label{};   ///< a line above those of the vertical one, unless empty
};
/// Throws ConfigError that names the field ("CurveOptions.width") and its legal range.
void validate(const CurveOptions& options);

/// The curve through `values`, evenly spaced from `first` to `last`, as lines of text: a vertical axis from 0 to the greatest
/// value (down to the least one, if that is negative), the curve, a horizontal axis, both with round numbers. The curve takes the
/// whole width; several values in one column are all met, so no peak or step is lost. A value that is not finite leaves a gap.
/// Nothing but text comes out: no colours, no blanks at the end of a line. A pure function; any thread.
std::vector<std::string> draw_curve(const std::vector<double>& values, const CurveOptions& options);

}  // namespace treadle
