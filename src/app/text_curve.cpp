#include <app/text_curve.hpp>
#include <treadle/base/errors.hpp>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <map>

namespace treadle {
namespace {

/// What rounding may add to a quotient of two numbers.
constexpr double kTolerance = 1e-9;

/// What the axes are made of.
struct Glyphs {
  const char* bar;
  const char* left_tick;
  const char* corner;
  const char* dash;
  const char* lower_tick;
};
constexpr Glyphs kUnicode{"│", "┤", "└", "─", "┬"};
constexpr Glyphs kAscii{"|", "+", "+", "-", "+"};

/// Dots on a grid of characters: 2 x 4 in a character of braille, or one.
class Canvas {
 public:
  Canvas(int columns, int rows, bool unicode)
      : unicode_(unicode),
        columns_(columns),
        rows_(rows),
        cells_(static_cast<std::size_t>(columns) * static_cast<std::size_t>(rows)) {}

  int width() const { return columns_ * across(); }
  int height() const { return rows_ * down(); }

  void line(int x, int y, int to_x, int to_y) {
    const int length = std::max({std::abs(to_x - x), std::abs(to_y - y), 1});
    for (int i = 0; i <= length; ++i) {
      const double part = static_cast<double>(i) / length;
      set(x + static_cast<int>(std::lround(part * (to_x - x))), y + static_cast<int>(std::lround(part * (to_y - y))));
    }
  }

  std::string row(int index) const {
    std::string text;
    for (int column = 0; column < columns_; ++column) {
      const unsigned dots = cells_[cell(column, index)];
      if (dots == 0) {
        text += ' ';
      } else if (unicode_) {
        // U+2800 + dots in UTF-8.
        text += {'\xE2', static_cast<char>(0xA0 | dots >> 6), static_cast<char>(0x80 | (dots & 0x3F))};
      } else {
        text += '*';
      }
    }
    return text;
  }

 private:
  int across() const { return unicode_ ? 2 : 1; }
  int down() const { return unicode_ ? 4 : 1; }
  std::size_t cell(int column, int row) const {
    return static_cast<std::size_t>(row) * static_cast<std::size_t>(columns_) + static_cast<std::size_t>(column);
  }

  void set(int x, int y) {
    // The bits of the Unicode block "Braille Patterns", by row and column of the dot.
    static constexpr std::array<std::array<unsigned char, 2>, 4> bits = {
        {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}}};
    unsigned char& dots = cells_[cell(x / across(), y / down())];
    dots = static_cast<unsigned char>(dots | bits[static_cast<std::size_t>(y % down())][static_cast<std::size_t>(x % across())]);
  }

  bool unicode_;
  int columns_;
  int rows_;
  std::vector<unsigned char> cells_;
};

struct Range {
  double low = 0;
  double high = 0;

  /// 0 at `low`, 1 at `high`; 0 where the two are one.
  double part(double value) const {
    const double part = (value - low) / (high - low);
    return part > 0 ? std::min(part, 1.0) : 0.0;
  }
};

/// The nearest of `count` places, 0 to count - 1, to a part of the whole.
int place(double part, int count) { return static_cast<int>(std::lround(part * (count - 1))); }

/// 1, 2 or 5 times a power of ten, `least` at least, of which `count` or fewer cover the range; 0 where there is no such number.
double round_step(const Range& range, int count, double least = 0) {
  const double wanted = std::max((range.high - range.low) / count, least);
  if (!std::isnormal(wanted)) return 0;
  const double power = std::pow(10, std::floor(std::log10(wanted)));
  for (double factor : {1, 2, 5}) {
    if (wanted <= factor * power * (1 + kTolerance)) return factor * power;
  }
  return 10 * power;
}

/// The multiples of `step` in the range; its lower end alone when `step` is 0.
std::vector<double> multiples(const Range& range, double step) {
  if (step == 0) return {range.low};
  const double first = std::ceil(range.low / step - kTolerance);
  const auto more = static_cast<int>(std::floor(range.high / step + kTolerance) - first);
  std::vector<double> numbers;
  // The sum turns a -0, which would be labelled so, into 0.
  for (int k = 0; k <= more; ++k) numbers.push_back((first + k) * step);
  return numbers;
}

/// How many steps the vertical axis has at most.
int vertical_steps(const CurveOptions& options) { return std::clamp(options.height / 2, 1, 5); }

/// From 0, or the round number below the least value, to the one above the greatest.
Range vertical_range(const std::vector<double>& values, const CurveOptions& options) {
  Range range;
  for (double value : values) {
    if (!std::isfinite(value)) continue;
    range.low = std::min(range.low, value);
    range.high = std::max(range.high, value);
  }
  const double step = round_step(range, vertical_steps(options));
  if (step == 0) return range;
  const Range rounded{std::floor(range.low / step + kTolerance) * step, std::ceil(range.high / step - kTolerance) * step};
  return std::isfinite(rounded.high - rounded.low) ? rounded : range;
}

/// The labels of the vertical axis by row.
std::map<int, std::string> row_labels(const Range& range, const CurveOptions& options, const Canvas& canvas) {
  std::map<int, std::string> labels;
  for (double number : multiples(range, round_step(range, vertical_steps(options)))) {
    labels[place(1 - range.part(number), canvas.height()) * options.height / canvas.height()] = fmt::format("{:g}", number);
  }
  return labels;
}

/// The horizontal axis and, below it, its numbers: `columns` wide.
std::array<std::string, 2> horizontal_axis(const CurveOptions& options, int columns, const Glyphs& glyphs) {
  const Range range{static_cast<double>(options.first), static_cast<double>(options.last)};
  const auto digits = static_cast<int>(std::to_string(options.last).size());
  const auto wide = static_cast<std::size_t>(columns);
  std::vector<const char*> axis(wide, glyphs.dash);
  std::string numbers;
  for (double number : multiples(range, round_step(range, std::clamp(columns / (digits + 3), 2, 10), 1))) {
    const std::string label = fmt::format("{:.0f}", number);
    const auto column = static_cast<std::size_t>(place(range.part(number), columns));
    axis[column] = glyphs.lower_tick;
    const std::size_t start = std::min(column - std::min(column, label.size() / 2), wide - std::min(wide, label.size()));
    if (start + label.size() > wide || (!numbers.empty() && start <= numbers.size())) continue;
    numbers.resize(start, ' ');
    numbers += label;
  }
  return {fmt::format("{}", fmt::join(axis, "")), numbers};
}

void draw_values(Canvas& canvas, const std::vector<double>& values, const Range& range) {
  const double spaces = static_cast<double>(std::max<std::size_t>(values.size(), 2) - 1);
  int last_x = 0, last_y = 0;
  bool connected = false;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      connected = false;
      continue;
    }
    const int x = place(static_cast<double>(i) / spaces, canvas.width());
    const int y = place(1 - range.part(values[i]), canvas.height());
    if (!connected) last_x = x, last_y = y;
    canvas.line(last_x, last_y, x, y);
    last_x = x, last_y = y;
    connected = true;
  }
}

}  // namespace

void validate(const CurveOptions& options) {
  const auto require = [](bool legal, const char* field, const char* range, std::int64_t found) {
    const std::string key = std::string("CurveOptions.") + field;
    if (!legal) throw ConfigError(fmt::format("{} must be {}; it is {}", key, range, found), key);
  };
  require(options.width >= 20, "width", "at least 20", options.width);
  require(options.height >= 2, "height", "at least 2", options.height);
  require(options.last >= options.first, "last", "at least first", options.last);
}

std::vector<std::string> draw_curve(const std::vector<double>& values, const CurveOptions& options) {
  validate(options);
  const Glyphs& glyphs = options.unicode ? kUnicode : kAscii;
  const Range range = vertical_range(values, options);
  // The height of the dots does not depend on the width of the labels, which is wanted first.
  const auto labels = row_labels(range, options, Canvas(1, options.height, options.unicode));
  std::size_t margin = 0;
  for (const auto& [row, label] : labels) margin = std::max(margin, label.size());
  const int columns = options.width - static_cast<int>(margin) - 2;
  Canvas canvas(columns, options.height, options.unicode);
  draw_values(canvas, values, range);

  std::vector<std::string> lines;
  if (!options.y_label.empty()) lines.push_back(options.y_label);
  for (int row = 0; row < options.height; ++row) {
    const auto label = labels.find(row);
    const bool tick = label != labels.end();
    lines.push_back(
        fmt::format("{:>{}} {}{}", tick ? label->second : "", margin, tick ? glyphs.left_tick : glyphs.bar, canvas.row(row)));
  }
  const auto [axis, numbers] = horizontal_axis(options, columns, glyphs);
  lines.push_back(fmt::format("{:{}} {}{}", "", margin, glyphs.corner, axis));
  lines.push_back(fmt::format("{:{}}{}", "", margin + 2, numbers));
  if (!options.x_label.empty()) lines.push_back(fmt::format("{:>{}}", options.x_label, options.width));
  for (std::string& line : lines) line.erase(line.find_last_not_of(' ') + 1);
  return lines;
}

}  // namespace treadle
