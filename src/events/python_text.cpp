#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstdint>

#include "events/python_text.hpp"

namespace treadle {
namespace {

constexpr std::uint32_t kReplacement = 0xFFFD;

/// The code point at `text[i]`, which it moves past; kReplacement, past one byte, where the bytes are no UTF-8.
std::uint32_t next_code_point(std::string_view text, std::size_t& i) {
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  const std::uint32_t lead = byte(i++);
  if (lead < 0x80) return lead;
  const std::size_t more = lead >= 0xF0 && lead < 0xF5   ? 3
                           : lead >= 0xE0 && lead < 0xF0 ? 2
                           : lead >= 0xC2 && lead < 0xE0 ? 1
                                                         : 0;
  if (more == 0 || i + more > text.size()) return kReplacement;
  std::uint32_t code = lead & (0x3FU >> more);
  for (std::size_t k = 0; k < more; ++k) {
    if ((byte(i + k) & 0xC0) != 0x80) return kReplacement;
    code = code << 6 | (byte(i + k) & 0x3FU);
  }
  const bool overlong = (more == 2 && code < 0x800) || (more == 3 && code < 0x10000);
  if (overlong || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return kReplacement;
  i += more;
  return code;
}

std::string non_finite(double value, std::string_view nan, std::string_view infinity) {
  if (std::isnan(value)) return std::string(nan);
  return (value < 0 ? "-" : "") + std::string(infinity);
}

}  // namespace

std::string python_json_number(double value) {
  if (!std::isfinite(value)) return non_finite(value, "NaN", "Infinity");
  char buffer[32];
  const char* end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  const std::size_t e = text.find('e');
  int exponent = 0;
  const char* digits = buffer + e + (text[e + 1] == '+' ? 2 : 1);
  std::from_chars(digits, end, exponent);
  // Python writes exponents from 16 up and below -4; to_chars already gives them two digits and a sign.
  if (exponent >= 16 || exponent < -4) return std::string(text);
  // The same digits, with the point moved from behind the first of them.
  std::string fixed(text.substr(0, e));
  const std::size_t first = text[0] == '-' ? 1 : 0;
  if (fixed.size() > first + 1) fixed.erase(first + 1, 1);
  if (exponent < 0) {
    fixed.insert(first, static_cast<std::size_t>(-exponent), '0');
    exponent = 0;
  }
  const std::size_t point = first + static_cast<std::size_t>(exponent) + 1;
  if (fixed.size() <= point) fixed.append(point + 1 - fixed.size(), '0');
  return fixed.insert(point, 1, '.');
}

std::string python_json_string(std::string_view utf8) {
  std::string result = "\"";
  for (std::size_t i = 0; i < utf8.size();) {
    const std::uint32_t code = next_code_point(utf8, i);
    switch (code) {
      case '"':
        result += "\\\"";
        break;
      case '\\':
        result += "\\\\";
        break;
      case '\n':
        result += "\\n";
        break;
      case '\r':
        result += "\\r";
        break;
      case '\t':
        result += "\\t";
        break;
      case '\f':
        result += "\\f";
        break;
      case '\b':
        result += "\\b";
        break;
      default:
        if (code >= 0x20 && code < 0x7F) {
          result += static_cast<char>(code);
        } else if (code < 0x10000) {
          result += fmt::format("\\u{:04x}", code);
        } else {
          result += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((code - 0x10000) >> 10), 0xDC00 + ((code - 0x10000) & 0x3FF));
        }
    }
  }
  return result + "\"";
}

std::string python_general(double value, int digits) {
  return std::isfinite(value) ? fmt::format("{:.{}g}", value, digits) : non_finite(value, "nan", "inf");
}

std::string python_fixed(double value, int digits) {
  return std::isfinite(value) ? fmt::format("{:.{}f}", value, digits) : non_finite(value, "nan", "inf");
}

std::string python_timedelta(double seconds) {
  constexpr double kDay = 86400;
  const double whole = std::trunc(seconds);
  const double days = std::floor(whole / kDay);
  const auto rest = static_cast<int>(whole - days * kDay);
  const std::string clock = fmt::format("{}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
  return days == 0 ? clock : fmt::format("{:.0f} day{}, {}", days, std::abs(days) == 1 ? "" : "s", clock);
}

}  // namespace treadle
