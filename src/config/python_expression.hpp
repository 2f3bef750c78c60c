#pragma once

#include <treadle/base/value.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace treadle {

/// A Python expression, as far as configs use them: literals, arithmetic, calls of a name, comprehensions over one variable.
struct PythonExpression {
  enum class Kind {
    constant,  // value
    integer,   // magnitude, or too_large
    imaginary,
    ellipsis,
    name,    // text
    unary,   // text + -; one child
    binary,  // text + - * / // % **; two children
    list,    // children
    tuple,
    set,
    dict,           // key, value, key, value, …
    call,           // text is the function's name; children its arguments
    comprehension,  // text is the variable's name; children: element, iterable
  };
  Kind kind = Kind::constant;
  Value value;
  std::uint64_t magnitude = 0;
  bool too_large = false;
  std::string text;
  std::vector<PythonExpression> children;
};

/// Nothing when `text` is no Python expression or uses more of the language than the above.
std::optional<PythonExpression> parse_python(std::string_view text);

/// How `ast.literal_eval` reads a text.
struct Literal {
  enum class Outcome {
    value,
    not_literal,  ///< the text stands for itself
    refused,      ///< a literal that no config can hold: `what` names it
  };
  Outcome outcome = Outcome::not_literal;
  Value value;
  std::string what;
};

Literal parse_literal(std::string_view text);

/// The literal that reads back as `value`. Nothing when there is none (NaN has no literal).
std::optional<std::string> python_repr(const Value& value);

/// Computes an expression of numbers and lists (see ConfigLoadOptions::evaluate). Throws Error when it is more than that, or
/// takes too long.
Value evaluate_python(std::string_view text);

}  // namespace treadle
