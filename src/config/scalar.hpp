#pragma once

#include <treadle/base/value.hpp>

#include <string>
#include <string_view>

namespace treadle {

/// What YAML 1.1, as PyYAML reads it, takes a plain scalar for.
enum class ScalarKind { string, null, boolean, integer, real, timestamp, merge, value };

ScalarKind resolve_scalar(std::string_view text) noexcept;

/// The value of `text` as that kind. Throws Error when it has none, or one beyond 64 bits; kinds from `timestamp` on have none.
Value construct_scalar(ScalarKind kind, std::string_view text);

/// The double nearest to a decimal number (`12.5`, `.5`, `1e-3`; no sign, no underscores): infinite or zero beyond the range.
double parse_decimal(std::string_view digits);

/// The shortest text that reads back as `number`, in Python's layout (`1e-05`, `1.0`, `inf`).
std::string python_float_repr(double number);

}  // namespace treadle
