#include <app/text_curve.hpp>
#include <treadle/base/errors.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace treadle {
namespace {

using Lines = std::vector<std::string>;

/// The characters of a line of UTF-8.
std::vector<char32_t> characters(const std::string& line) {
  std::vector<char32_t> result;
  for (const char c : line) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte & 0xC0) == 0x80) {
      result.back() = result.back() << 6 | (byte & 0x3F);
    } else {
      result.push_back(byte < 0x80 ? byte : byte & 0x0F);  // one byte or three: no others occur
    }
  }
  return result;
}

/// A drawing taken apart again: its dots, and the numbers of its axes.
struct Picture {
  std::vector<std::vector<bool>> dots;  // [row][column], the top row first
  std::vector<std::string> row_labels;  // per line of the curve, blanks removed
  std::vector<std::size_t> ticks;       // columns, in characters, of the horizontal axis
  std::size_t columns = 0, margin = 0;  // characters of the curve, and those left of it

  Picture(const Lines& lines, const CurveOptions& options) {
    const std::size_t first = options.y_label.empty() ? 0 : 1, height = static_cast<std::size_t>(options.height);
    const std::size_t across = options.unicode ? 2 : 1, down = options.unicode ? 4 : 1;
    const auto axis = characters(lines.at(first + height));
    margin = static_cast<std::size_t>(std::find(axis.begin(), axis.end(), options.unicode ? U'└' : U'+') - axis.begin()) + 1;
    columns = axis.size() - margin;
    for (std::size_t i = margin; i < axis.size(); ++i) {
      if (axis[i] == (options.unicode ? U'┬' : U'+')) ticks.push_back(i - margin);
    }
    dots.assign(height * down, std::vector<bool>(columns * across));
    for (std::size_t row = 0; row < height; ++row) {
      const std::string& line = lines.at(first + row);
      const auto text = characters(line);
      const std::size_t begin = line.find_first_not_of(' ');
      const std::string label = line.substr(0, margin - 1);
      row_labels.push_back(begin < margin - 1 ? label.substr(begin, label.find_last_not_of(' ') + 1 - begin) : "");
      for (std::size_t column = margin; column < text.size(); ++column) mark(text[column], row, column - margin, options.unicode);
    }
  }

  void mark(char32_t character, std::size_t row, std::size_t column, bool unicode) {
    if (character == U' ') return;
    if (!unicode) {
      ASSERT_EQ(character, U'*');
      dots[row][column] = true;
      return;
    }
    ASSERT_TRUE(character > 0x2800 && character <= 0x28FF) << static_cast<unsigned>(character);
    // Unicode numbers the dots of braille 1 to 8; dot n is bit n - 1. Left column: 1, 2, 3, 7; right one: 4, 5, 6, 8.
    constexpr int number[4][2] = {{1, 4}, {2, 5}, {3, 6}, {7, 8}};
    for (std::size_t y = 0; y < 4; ++y) {
      for (std::size_t x = 0; x < 2; ++x) {
        if ((character - 0x2800) >> (number[y][x] - 1) & 1) dots[4 * row + y][2 * column + x] = true;
      }
    }
  }

  std::vector<std::size_t> rows_in_column(std::size_t x) const {
    std::vector<std::size_t> rows;
    for (std::size_t y = 0; y < dots.size(); ++y) {
      if (dots[y][x]) rows.push_back(y);
    }
    return rows;
  }
  std::size_t width() const { return dots[0].size(); }
  std::size_t count() const {
    std::size_t n = 0;
    for (const auto& row : dots) n += static_cast<std::size_t>(std::count(row.begin(), row.end(), true));
    return n;
  }
};

Picture drawn(const std::vector<double>& values, const CurveOptions& options) { return {draw_curve(values, options), options}; }

std::vector<double> straight(double from, double to, int count) {
  std::vector<double> values;
  for (int i = 0; i < count; ++i) values.push_back(from + (to - from) * (static_cast<double>(i) / (count - 1)));
  return values;
}

TEST(TextCurve, ASmallDrawingAsAWhole) {
  const CurveOptions options{.width = 20, .height = 5, .unicode = false, .last = 100, .x_label = "iteration", .y_label = "rate"};
  const Lines expected = {"rate",  "4 +                *", "  |              **",  "2 +     *********",   "  |  ***",
                          "0 +**", "  ++-------+-------+", "   0      50     100", "           iteration"};
  EXPECT_EQ(draw_curve({0, 1, 2, 2, 2, 4}, options), expected);
}

TEST(TextCurve, EveryValueHasItsDot) {
  std::mt19937 random(5);
  std::uniform_real_distribution<double> value(0, 7.3);
  for (const bool unicode : {true, false}) {
    for (const std::size_t count : {1u, 2u, 7u, 60u, 1000u}) {
      std::vector<double> values(count);
      for (double& v : values) v = value(random);
      const CurveOptions options{.width = 61, .height = 9, .unicode = unicode, .last = static_cast<std::int64_t>(count) - 1};
      const Picture picture = drawn(values, options);
      const double top = std::stod(picture.row_labels.front()), height = static_cast<double>(picture.dots.size());
      EXPECT_GE(top, *std::max_element(values.begin(), values.end()));
      ASSERT_EQ(picture.row_labels.back(), "0");
      for (std::size_t i = 0; i < count; ++i) {
        const double x = count == 1 ? 0 : static_cast<double>(i * (picture.width() - 1)) / static_cast<double>(count - 1);
        const double y = (1 - values[i] / top) * (height - 1);
        EXPECT_TRUE(picture.dots[static_cast<std::size_t>(std::lround(y))][static_cast<std::size_t>(std::lround(x))])
            << count << " values, number " << i;
      }
    }
  }
}

TEST(TextCurve, AFlatLineIsOneRowOverTheWholeWidth) {
  for (const double level : {0.0, 1e-9, 0.02, 1.0, 3e5}) {
    const Picture picture = drawn(std::vector<double>(40, level), {.width = 50, .last = 39});
    for (std::size_t x = 0; x < picture.width(); ++x) EXPECT_EQ(picture.rows_in_column(x), picture.rows_in_column(0)) << level;
    EXPECT_EQ(picture.count(), picture.width());
    EXPECT_EQ(picture.dots.back()[0], level == 0) << "only 0 lies on the axis";
  }
}

TEST(TextCurve, ARisingLineRisesFromTheCornerToTheTop) {
  for (const int count : {2, 30, 5000}) {
    const Picture picture = drawn(straight(0, 0.5, count), {.width = 70, .last = count - 1});
    EXPECT_TRUE(picture.dots.back().front());
    EXPECT_TRUE(picture.dots.front().back());
    std::size_t before = picture.dots.size() - 1;
    for (std::size_t x = 0; x < picture.width(); ++x) {
      const auto rows = picture.rows_in_column(x);
      ASSERT_TRUE(rows.size() == 1 || rows.size() == 2) << "wider than it is high: one dot a column, two where it climbs";
      EXPECT_LE(rows.back(), before);
      EXPECT_GE(rows.front() + 1, before) << "a hole";
      before = rows.front();
    }
  }
}

TEST(TextCurve, AStepIsAStrokeWithoutAHole) {
  std::vector<double> values(1000, 10.0);
  std::fill(values.begin() + 500, values.end(), 1.0);
  const Picture picture = drawn(values, {.width = 60, .last = 999});
  std::size_t before = 0;
  for (std::size_t x = 0; x < picture.width(); ++x) {
    const auto rows = picture.rows_in_column(x);
    ASSERT_FALSE(rows.empty());
    EXPECT_EQ(rows.back() - rows.front() + 1, rows.size()) << "a hole in column " << x;
    EXPECT_LE(rows.front(), before + 1);
    before = rows.back();
  }
}

TEST(TextCurve, APeakBetweenTheColumnsIsSeen) {
  std::vector<double> values(10000, 0.0);
  values[4321] = 1;
  const Picture picture = drawn(values, {.width = 40, .last = 9999});
  EXPECT_EQ(std::count(picture.dots.front().begin(), picture.dots.front().end(), true), 1);
}

TEST(TextCurve, OneValueIsOneDot) {
  const Picture picture = drawn({0.3}, {.width = 30});
  EXPECT_EQ(picture.count(), 1u);
  EXPECT_EQ(picture.ticks, (std::vector<std::size_t>{0}));
  EXPECT_EQ(draw_curve({0.3}, {.width = 30}).back(), "     0");
}

TEST(TextCurve, WhatIsNotFiniteLeavesAGap) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinite = std::numeric_limits<double>::infinity();
  std::vector<double> values(100, 2.0);
  for (std::size_t i = 40; i < 60; ++i) values[i] = i % 2 ? nan : i % 4 ? infinite : -infinite;
  const CurveOptions options{.width = 60, .last = 99};
  const Picture picture = drawn(values, options);
  const double scale = static_cast<double>(picture.width() - 1) / 99;
  for (std::size_t x = 0; x < picture.width(); ++x) {
    const bool in_gap = static_cast<double>(x) > 39.5 * scale && static_cast<double>(x) < 59.5 * scale;
    EXPECT_EQ(picture.rows_in_column(x).empty(), in_gap) << x;
  }
  for (const std::vector<double>& nothing : {std::vector<double>{}, std::vector<double>(5, nan), std::vector<double>{infinite}}) {
    const Lines lines = draw_curve(nothing, {.width = 40});
    EXPECT_EQ(Picture(lines, {.width = 40}).count(), 0u);
    for (const std::string& line : lines) EXPECT_EQ(line.find_first_of("nf"), std::string::npos) << line;
  }
}

TEST(TextCurve, NumbersOfAnyOrderAreDrawn) {
  for (const double top : {5e-324, 1e-310, 1e-300, 3.7e-8, 0.1 + 0.2, 1e15, 1e300, std::numeric_limits<double>::max()}) {
    const Picture picture = drawn(straight(0, top, 50), {.width = 50, .last = 49});
    EXPECT_TRUE(picture.dots.back().front()) << top;
    EXPECT_LT(picture.rows_in_column(picture.width() - 1).front(), picture.dots.size() / 2) << top;
    EXPECT_GE(picture.count(), picture.width()) << top;
  }
  constexpr double greatest = std::numeric_limits<double>::max();
  for (const std::string& line : draw_curve({-greatest, greatest}, {.width = 40, .last = 1})) {
    EXPECT_EQ(line.find_first_of("nf"), std::string::npos) << line;
  }
}

TEST(TextCurve, NegativeValuesLieBelowZero) {
  const Picture picture = drawn(straight(-3.3, 4, 9), {.width = 40, .height = 9, .unicode = false, .last = 8});
  EXPECT_EQ(picture.row_labels, (std::vector<std::string>{"4", "", "2", "", "0", "", "-2", "", "-4"}));
  EXPECT_TRUE(picture.dots[7].front()) << "-3.3 is nearest to the row of -3";
  EXPECT_TRUE(picture.dots.front().back());
}

TEST(TextCurve, NumbersThatFindNoRoomAreLeftOut) {
  EXPECT_EQ(draw_curve({1, 1}, {.width = 20, .last = 200000000}).back(), "     0  100000000");
  EXPECT_EQ(draw_curve({1, 1}, {.width = 20, .last = 20}).back(), "     0     10     20");
}

TEST(TextCurve, WidthAndHeightAreKept) {
  for (const bool unicode : {true, false}) {
    for (int width = 20; width <= 240; ++width) {
      const int height = 2 + width % 30;
      const CurveOptions options{.width = width,
                                 .height = height,
                                 .unicode = unicode,
                                 .last = 269999,
                                 .x_label = "iteration",
                                 .y_label = "learning rate"};
      const Lines lines = draw_curve(straight(0.00025, 0.1, 77), options);
      ASSERT_EQ(lines.size(), static_cast<std::size_t>(height) + 4);
      for (const std::string& line : lines) {
        EXPECT_LE(characters(line).size(), static_cast<std::size_t>(width)) << line;
        EXPECT_FALSE(line.ends_with(' ')) << line;
        EXPECT_EQ(line.find('\033'), std::string::npos);
      }
      EXPECT_EQ(characters(lines[lines.size() - 3]).size(), static_cast<std::size_t>(width)) << "the axis takes it all";
    }
  }
}

TEST(TextCurve, AsciiHoldsNothingElse) {
  const CurveOptions ascii{.width = 60, .unicode = false, .last = 20};
  for (const std::string& line : draw_curve(straight(1, 0, 21), ascii)) {
    for (const char c : line) EXPECT_TRUE(c >= ' ' && c <= '~') << line;
  }
  EXPECT_GT(drawn(straight(1, 0, 21), {.width = 60, .last = 20}).count(), drawn(straight(1, 0, 21), ascii).count());
}

TEST(TextCurve, NumbersStandWhereTheyBelong) {
  const CurveOptions options{.width = 78, .height = 12, .first = 100, .last = 2579};
  const Lines lines = draw_curve(straight(0.0999407, 0, 100), options);
  const Picture picture(lines, options);
  EXPECT_EQ(picture.row_labels.front(), "0.1");
  EXPECT_EQ(picture.row_labels.back(), "0");
  for (std::size_t row = 0; row < 12; ++row) {
    if (picture.row_labels[row].empty()) continue;
    const double y = (1 - std::stod(picture.row_labels[row]) / 0.1) * 47;
    EXPECT_EQ(row, static_cast<std::size_t>(std::lround(y)) / 4) << picture.row_labels[row];
  }
  std::vector<std::size_t> ticks;
  for (const int number : {500, 1000, 1500, 2000, 2500}) {
    ticks.push_back(static_cast<std::size_t>(std::lround((number - 100) / 2479.0 * static_cast<double>(picture.columns - 1))));
    const std::size_t found = lines.back().find(std::to_string(number)), digits = std::to_string(number).size();
    ASSERT_NE(found, std::string::npos);
    EXPECT_TRUE(found <= picture.margin + ticks.back() && picture.margin + ticks.back() < found + digits) << number;
  }
  EXPECT_EQ(picture.ticks, ticks);
}

TEST(TextCurve, OptionsOutOfRangeAreNamed) {
  const auto key = [](const CurveOptions& options) -> std::string {
    try {
      draw_curve({1}, options);
    } catch (const ConfigError& error) {
      return error.key();
    }
    return "";
  };
  EXPECT_EQ(key({.width = 20}), "");
  EXPECT_EQ(key({.width = 19}), "CurveOptions.width");
  EXPECT_EQ(key({.height = 1}), "CurveOptions.height");
  EXPECT_EQ(key({.first = 3, .last = 2}), "CurveOptions.last");
}

}  // namespace
}  // namespace treadle
