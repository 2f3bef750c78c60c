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
  std::string text;
  add_python_json_number(value, text);
  return text;
}

void add_python_json_number(double value, std::string& text) {
  if (!std::isfinite(value)) {
    text += non_finite(value, "NaN", "Infinity");
    return;
  }
  char buffer[32];
  const char* end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string_view all(buffer, static_cast<std::size_t>(end - buffer));
  const std::size_t e = all.find('e');
  int exponent = 0;
  std::from_chars(buffer + e + (all[e + 1] == '+' ? 2 : 1), end, exponent);
  // Python writes exponents from 16 up and below -4; to_chars already gives them two digits and a sign.
  if (exponent >= 16 || exponent < -4) {
    text += all;
    return;
  }
  // The same digits, with the point moved from behind the first of them.
  const std::size_t first = all[0] == '-' ? 1 : 0;
  std::string_view digit = all.substr(first, 1), more = e > first + 1 ? all.substr(first + 2, e - first - 2) : std::string_view();
  text += all.substr(0, first);
  if (exponent < 0) {
    text.append("0.").append(static_cast<std::size_t>(-exponent - 1), '0').append(digit).append(more);
    return;
  }
  const auto places = static_cast<std::size_t>(exponent);
  text += digit;
  text += more.substr(0, places);
  if (more.size() < places) text.append(places - more.size(), '0');
  text += '.';
  if (more.size() > places) {
    text += more.substr(places);
  } else {
    text += '0';
  }
}

std::string python_json_string(std::string_view utf8) {
  std::string text;
  add_python_json_string(utf8, text);
  return text;
}

void add_python_json_string(std::string_view utf8, std::string& text) {
  text += '"';
  for (std::size_t i = 0; i < utf8.size();) {
    const std::uint32_t code = next_code_point(utf8, i);
    switch (code) {
      case '"':
        text += "\\\"";
        break;
      case '\\':
        text += "\\\\";
        break;
      case '\n':
        text += "\\n";
        break;
      case '\r':
        text += "\\r";
        break;
      case '\t':
        text += "\\t";
        break;
      case '\f':
        text += "\\f";
        break;
      case '\b':
        text += "\\b";
        break;
      default:
        if (code >= 0x20 && code < 0x7F) {
          text += static_cast<char>(code);
        } else if (code < 0x10000) {
          text += fmt::format("\\u{:04x}", code);
        } else {
          text += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((code - 0x10000) >> 10), 0xDC00 + ((code - 0x10000) & 0x3FF));
        }
    }
  }
  text += '"';
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
