#pragma once

#include <string>
#include <string_view>

namespace treadle {

/// A number as Python's `json.dumps` writes it: `repr` of the float (the shortest decimal that reads back the same; 1e-05,
/// 1e+16, 1.0), or NaN, Infinity, -Infinity.
std::string python_json_number(double value);
/// The same, behind `text`.
void add_python_json_number(double value, std::string& text);

/// A quoted string as Python's `json.dumps` writes it: ASCII, everything else as \uXXXX (pairs above U+FFFF). Bytes that are no
/// UTF-8 become U+FFFD.
std::string python_json_string(std::string_view utf8);
void add_python_json_string(std::string_view utf8, std::string& text);

/// `format(value, ".{digits}g")` and `format(value, ".{digits}f")` of Python.
std::string python_general(double value, int digits);
std::string python_fixed(double value, int digits);

/// `str(datetime.timedelta(seconds=int(seconds)))`, negative ones included ("-1 day, 23:59:38"). `seconds` must be finite.
std::string python_timedelta(double seconds);

}  // namespace treadle
