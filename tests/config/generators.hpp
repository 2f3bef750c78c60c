#pragma once

#include <treadle/base/value.hpp>

#include <rapidcheck.h>

#include <cmath>
#include <string>

namespace treadle {

/// Printable text of every width of UTF-8, and text that looks like something else.
inline rc::Gen<std::string> any_text() {
  const auto piece = rc::gen::element<std::string>(
      "a", "Z", "0", "1", "9", " ", "  ", "'", "\"", "\\", "#", ":", ": ", "-", "- ", "?", ",", ".", "_", "e", "x", "(", ")", "[",
      "]", "{", "}", "&", "*", "!", "|", ">", "%", "@", "`", "=", "<<", "~", "\n", "\t", "\r", "é", "\xC2\xA0", "\xC2\x85",
      "\u2028", "\u65E5", "\U0001F600", "None", "True", "null", "yes", "1e3", "1:30", "017");
  return rc::gen::map(rc::gen::container<std::vector<std::string>>(piece), [](const std::vector<std::string>& pieces) {
    std::string text;
    for (const std::string& part : pieces) text += part;
    return text;
  });
}

inline rc::Gen<double> any_double() {
  return rc::gen::map(rc::gen::arbitrary<std::uint64_t>(), [](std::uint64_t bits) {
    const double number = std::bit_cast<double>(bits);
    return std::isnan(number) ? 0.5 : number;
  });
}

inline rc::Gen<Value> any_scalar() {
  return rc::gen::oneOf(rc::gen::just(Value()), rc::gen::map(rc::gen::arbitrary<bool>(), [](bool b) { return Value(b); }),
                        rc::gen::map(rc::gen::arbitrary<std::int64_t>(), [](std::int64_t i) { return Value(i); }),
                        rc::gen::map(any_double(), [](double d) { return Value(d); }),
                        rc::gen::map(any_text(), [](std::string text) { return Value(std::move(text)); }));
}

/// A leaf of a config: scalars, Lists and Tuples of `depth` levels.
inline rc::Gen<Value> any_leaf(int depth) {
  if (depth == 0) return any_scalar();
  const auto items =
      rc::gen::resize(4, rc::gen::container<std::vector<Value>>(rc::gen::lazy([depth] { return any_leaf(depth - 1); })));
  const auto list = rc::gen::map(items, [](const std::vector<Value>& values) {
    List result;
    for (const Value& value : values) result.push_back(value);
    return Value(std::move(result));
  });
  const auto tuple = rc::gen::map(items, [](const std::vector<Value>& values) {
    Tuple result;
    for (const Value& value : values) result.push_back(value);
    return Value(std::move(result));
  });
  const auto dict = rc::gen::map(items, [](const std::vector<Value>& values) {
    Dict result;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (i % 2 == 0) {
        result.set(static_cast<std::int64_t>(i), values[i]);
      } else {
        result.set("key " + std::to_string(i), values[i]);
      }
    }
    return Value(std::move(result));
  });
  return rc::gen::oneOf(any_scalar(), list, tuple, dict);
}

}  // namespace treadle
