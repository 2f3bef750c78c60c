#include "config/scalar.hpp"

#include <treadle/base/errors.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

namespace treadle {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// A cursor over a scalar: each `take` consumes what it matches.
struct Scan {
  std::string_view rest;

  bool done() const { return rest.empty(); }
  bool take(char c) {
    return take_if([c](char found) { return found == c; });
  }
  bool take_sign() {
    return take_if([](char c) { return c == '-' || c == '+'; });
  }
  template <class Predicate>
  bool take_if(Predicate matches) {
    if (rest.empty() || !matches(rest.front())) return false;
    rest.remove_prefix(1);
    return true;
  }
  template <class Predicate>
  std::size_t take_while(Predicate matches, std::size_t at_most = std::string_view::npos) {
    std::size_t count = 0;
    while (count < at_most && take_if(matches)) ++count;
    return count;
  }
  bool take_word(std::string_view word) {
    if (!rest.starts_with(word)) return false;
    rest.remove_prefix(word.size());
    return true;
  }
  /// `(:[0-5]?[0-9])+`
  bool take_sexagesimal() {
    bool any = false;
    while (!rest.empty() && rest.front() == ':') {
      Scan ahead{rest.substr(1)};
      const std::size_t digits = ahead.take_while(is_digit, 2);
      if (digits == 0 || (digits == 2 && rest[1] > '5')) return any;
      rest = ahead.rest;
      any = true;
    }
    return any;
  }
};

bool is_digit_or_underscore(char c) { return is_digit(c) || c == '_'; }

template <std::size_t N>
bool is_one_of(std::string_view text, const std::array<std::string_view, N>& words) {
  return std::ranges::find(words, text) != words.end();
}

constexpr std::array<std::string_view, 9> true_words{"yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"};
constexpr std::array<std::string_view, 9> false_words{"no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"};
constexpr std::array<std::string_view, 5> null_words{"", "~", "null", "Null", "NULL"};

bool is_float(std::string_view text) {
  Scan scan{text};
  const bool sign = scan.take_sign();
  if (scan.rest == ".inf" || scan.rest == ".Inf" || scan.rest == ".INF") return true;
  if (!sign && (text == ".nan" || text == ".NaN" || text == ".NAN")) return true;
  if (scan.take_if(is_digit)) {
    scan.take_while(is_digit_or_underscore);
    if (scan.take_sexagesimal()) {
      if (!scan.take('.')) return false;
      scan.take_while(is_digit_or_underscore);
      return scan.done();
    }
    if (!scan.take('.')) return false;
    scan.take_while(is_digit_or_underscore);
  } else {
    // YAML 1.1 knows no sign before a bare fraction
    if (sign || !scan.take('.') || !scan.take_if(is_digit)) return false;
    scan.take_while(is_digit_or_underscore);
  }
  if (scan.take_if([](char c) { return c == 'e' || c == 'E'; })) {
    if (!scan.take_sign() || scan.take_while(is_digit) == 0) return false;
  }
  return scan.done();
}

bool is_int(std::string_view text) {
  Scan scan{text};
  scan.take_sign();
  if (scan.take('0')) {
    if (scan.take('b')) return scan.take_while([](char c) { return c == '0' || c == '1' || c == '_'; }) > 0 && scan.done();
    if (scan.take('x')) {
      const auto hex = [](char c) { return is_digit_or_underscore(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); };
      return scan.take_while(hex) > 0 && scan.done();
    }
    scan.take_while([](char c) { return (c >= '0' && c <= '7') || c == '_'; });
    return scan.done();
  }
  if (!scan.take_if(is_digit)) return false;
  scan.take_while(is_digit_or_underscore);
  scan.take_sexagesimal();
  return scan.done();
}

bool is_timestamp(std::string_view text) {
  Scan scan{text};
  if (scan.take_while(is_digit, 4) != 4 || !scan.take('-')) return false;
  const std::size_t month = scan.take_while(is_digit, 2);
  if (month == 0 || !scan.take('-')) return false;
  const std::size_t day = scan.take_while(is_digit, 2);
  if (day == 0) return false;
  if (scan.done()) return month == 2 && day == 2;
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  if (!scan.take('T') && !scan.take('t') && scan.take_while(blank) == 0) return false;
  if (scan.take_while(is_digit, 2) == 0 || !scan.take(':') || scan.take_while(is_digit, 2) != 2 || !scan.take(':') ||
      scan.take_while(is_digit, 2) != 2) {
    return false;
  }
  if (scan.take('.')) scan.take_while(is_digit);
  if (scan.done()) return true;
  scan.take_while(blank);
  if (scan.take('Z')) return scan.done();
  if (!scan.take_sign() || scan.take_while(is_digit, 2) == 0) return false;
  return scan.done() || (scan.take(':') && scan.take_while(is_digit, 2) == 2 && scan.done());
}

[[noreturn]] void throw_too_large(std::string_view text) {
  throw Error(fmt::format("the integer {} does not fit into 64 bits", text));
}

std::uint64_t parse_magnitude(std::string_view digits, int base, std::string_view whole) {
  std::uint64_t magnitude = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), magnitude, base);
  if (error == std::errc::result_out_of_range) throw_too_large(whole);
  if (error != std::errc() || end != digits.data() + digits.size()) throw Error(fmt::format("\"{}\" has no digits", whole));
  return magnitude;
}

std::uint64_t parse_sexagesimal(std::string_view digits, std::string_view whole) {
  std::uint64_t total = 0;
  while (true) {
    const std::size_t colon = digits.find(':');
    const std::uint64_t part = parse_magnitude(digits.substr(0, colon), 10, whole);
    if (__builtin_mul_overflow(total, std::uint64_t{60}, &total) || __builtin_add_overflow(total, part, &total))
      throw_too_large(whole);
    if (colon == std::string_view::npos) return total;
    digits.remove_prefix(colon + 1);
  }
}

/// Sign and digits apart, underscores gone.
struct Signed {
  bool negative;
  std::string digits;
};

Signed split_sign(std::string_view text) {
  Scan scan{text};
  const bool negative = text.starts_with('-');
  scan.take_sign();
  std::string digits(scan.rest);
  std::erase(digits, '_');
  return {negative, digits};
}

Value construct_int(std::string_view text) {
  const auto [negative, digits] = split_sign(text);
  std::uint64_t magnitude;
  if (digits.starts_with("0b")) {
    magnitude = parse_magnitude(std::string_view(digits).substr(2), 2, text);
  } else if (digits.starts_with("0x")) {
    magnitude = parse_magnitude(std::string_view(digits).substr(2), 16, text);
  } else if (digits.size() > 1 && digits.front() == '0') {
    magnitude = parse_magnitude(digits, 8, text);
  } else {
    magnitude = parse_sexagesimal(digits, text);
  }
  constexpr std::uint64_t limit = std::uint64_t{1} << 63;
  if (magnitude > limit || (magnitude == limit && !negative)) throw_too_large(text);
  return static_cast<std::int64_t>(negative ? ~magnitude + 1 : magnitude);
}

Value construct_float(std::string_view text) {
  auto [negative, digits] = split_sign(text);
  double number;
  if (digits.size() == 4 && digits[0] == '.' && !is_digit(digits[1])) {
    number = std::tolower(digits[1]) == 'i' ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  } else if (digits.find(':') != std::string::npos) {
    // PyYAML adds the parts from the last to the first; the order decides the last bit
    number = 0.0;
    double base = 1.0;
    std::string_view rest = digits;
    while (true) {
      const std::size_t colon = rest.rfind(':');
      number += parse_decimal(colon == std::string_view::npos ? rest : rest.substr(colon + 1)) * base;
      if (colon == std::string_view::npos) break;
      rest = rest.substr(0, colon);
      base *= 60.0;
    }
  } else {
    number = parse_decimal(digits);
  }
  return negative ? -number : number;
}

}  // namespace

ScalarKind resolve_scalar(std::string_view text) noexcept {
  if (is_one_of(text, null_words)) return ScalarKind::null;
  if (is_one_of(text, true_words) || is_one_of(text, false_words)) return ScalarKind::boolean;
  if (is_float(text)) return ScalarKind::real;
  if (is_int(text)) return ScalarKind::integer;
  if (is_timestamp(text)) return ScalarKind::timestamp;
  if (text == "<<") return ScalarKind::merge;
  if (text == "=") return ScalarKind::value;
  return ScalarKind::string;
}

Value construct_scalar(ScalarKind kind, std::string_view text) {
  switch (kind) {
    case ScalarKind::string:
      return text;
    case ScalarKind::null:
      return nullptr;
    case ScalarKind::boolean: {
      std::string word(text);
      std::ranges::transform(word, word.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      if (is_one_of(word, true_words)) return true;
      if (is_one_of(word, false_words)) return false;
      throw Error(fmt::format("\"{}\" is no bool", text));
    }
    case ScalarKind::integer:
      if (!is_int(text)) throw Error(fmt::format("\"{}\" is no integer", text));
      return construct_int(text);
    case ScalarKind::real:
      if (is_int(text)) return construct_int(text).as_double();
      if (!is_float(text)) throw Error(fmt::format("\"{}\" is no number", text));
      return construct_float(text);
    case ScalarKind::timestamp:
      throw Error(fmt::format("{} reads as a date in YAML; put it into quotes", text));
    case ScalarKind::merge:
    case ScalarKind::value:
      break;
  }
  throw Error(fmt::format("\"{}\" has a meaning of its own in YAML; put it into quotes", text));
}

double parse_decimal(std::string_view digits) {
  double number = 0;
  const char* const end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, number);
  if (error == std::errc() && stop == end) return number;
  if (error == std::errc::result_out_of_range) {
    // from_chars leaves the number unset; the wider type tells overflow from underflow
    long double wide = 0;
    if (std::from_chars(digits.data(), end, wide).ec == std::errc()) return static_cast<double>(wide);
    return digits.find("e-") != std::string_view::npos || digits.find("E-") != std::string_view::npos
               ? 0.0
               : std::numeric_limits<double>::infinity();
  }
  throw Error(fmt::format("\"{}\" is no number", digits));
}

std::string python_float_repr(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number < 0 ? "-inf" : "inf";
  std::array<char, 64> buffer;
  const auto scientific = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number, std::chars_format::scientific);
  const std::string_view shortest(buffer.data(), scientific.ptr);
  const std::size_t e = shortest.find('e');
  const int exponent = std::stoi(std::string(shortest.substr(e + 1)));
  if (exponent < -4 || exponent >= 16) return std::string(shortest);
  const auto fixed = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number, std::chars_format::fixed);
  std::string text(buffer.data(), fixed.ptr);
  if (text.find('.') == std::string::npos) text += ".0";
  return text;
}

}  // namespace treadle
