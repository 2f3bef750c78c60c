#include "config/python_expression.hpp"

#include <treadle/base/errors.hpp>

#include <fmt/format.h>

#include <cmath>
#include <map>

namespace treadle {
namespace {

using Kind = PythonExpression::Kind;

class Evaluator {
 public:
  Value evaluate(const PythonExpression& node) {
    if (++steps_ > max_steps) throw Error("the expression takes too long");
    switch (node.kind) {
      case Kind::constant:
        return node.value;
      case Kind::integer:
        if (node.too_large || node.magnitude > static_cast<std::uint64_t>(INT64_MAX)) throw_too_large();
        return static_cast<std::int64_t>(node.magnitude);
      case Kind::name:
        return variable(node.text);
      case Kind::unary:
        return negated(evaluate(node.children[0]), node.text == "-");
      case Kind::binary:
        return arithmetic(node.text, evaluate(node.children[0]), evaluate(node.children[1]));
      case Kind::list:
        return items<List>(node.children);
      case Kind::tuple:
        return items<Tuple>(node.children);
      case Kind::call:
        return call(node.text, items<List>(node.children));
      case Kind::comprehension:
        return comprehension(node);
      case Kind::imaginary:
      case Kind::ellipsis:
      case Kind::set:
      case Kind::dict:
        break;
    }
    throw Error("the expression is more than numbers and lists");
  }

 private:
  static constexpr int max_steps = 100'000;

  [[noreturn]] static void throw_too_large() { throw Error("an integer of the expression does not fit into 64 bits"); }

  Value variable(const std::string& name) const {
    const auto found = variables_.find(name);
    if (found == variables_.end()) throw Error(fmt::format("the expression uses \"{}\", which is not arithmetic", name));
    return found->second;
  }

  template <class SequenceType>
  SequenceType items(const std::vector<PythonExpression>& nodes) {
    SequenceType result;
    for (const PythonExpression& node : nodes) result.push_back(evaluate(node));
    return result;
  }

  static Value negated(const Value& operand, bool negative) {
    if (!negative) return arithmetic("+", std::int64_t{0}, operand);
    if (operand.is(Value::Type::real)) return -operand.as_double();
    return arithmetic("-", std::int64_t{0}, operand);
  }

  static Value arithmetic(std::string_view op, const Value& left, const Value& right) {
    for (const Value* operand : {&left, &right}) {
      if (!operand->is(Value::Type::integer) && !operand->is(Value::Type::real)) {
        throw Error(fmt::format("the expression computes with a {}", to_string(operand->type())));
      }
    }
    if (left.is(Value::Type::integer) && right.is(Value::Type::integer))
      return integer_arithmetic(op, left.as_int(), right.as_int());
    return real_arithmetic(op, left.as_double(), right.as_double());
  }

  static Value integer_arithmetic(std::string_view op, std::int64_t a, std::int64_t b) {
    std::int64_t result = 0;
    bool overflow = false;
    if (op == "+") {
      overflow = __builtin_add_overflow(a, b, &result);
    } else if (op == "-") {
      overflow = __builtin_sub_overflow(a, b, &result);
    } else if (op == "*") {
      overflow = __builtin_mul_overflow(a, b, &result);
    } else if (op == "/" || (op == "**" && b < 0)) {
      return real_arithmetic(op, static_cast<double>(a), static_cast<double>(b));
    } else if (op == "**") {
      return power(a, b);
    } else {
      if (b == 0) throw Error("the expression divides by zero");
      if (b == -1) {
        overflow = op == "//" && __builtin_sub_overflow(std::int64_t{0}, a, &result);
      } else {
        const std::int64_t remainder = a % b != 0 && (a < 0) != (b < 0) ? a % b + b : a % b;
        result = op == "%" ? remainder : (a - remainder) / b;
      }
    }
    if (overflow) throw_too_large();
    return result;
  }

  static Value power(std::int64_t base, std::int64_t exponent) {
    std::int64_t result = 1;
    while (true) {
      if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) throw_too_large();
      exponent >>= 1;
      if (exponent == 0) return result;
      if (__builtin_mul_overflow(base, base, &base)) throw_too_large();
    }
  }

  static Value real_arithmetic(std::string_view op, double a, double b) {
    if (op == "+") return a + b;
    if (op == "-") return a - b;
    if (op == "*") return a * b;
    if (op == "**") {
      if (a == 0 && b < 0) throw Error("the expression raises zero to a negative power");
      if (a < 0 && std::floor(b) != b) throw Error("the expression has a complex result");
      return std::pow(a, b);
    }
    if (b == 0) throw Error("the expression divides by zero");
    if (op == "/") return a / b;
    double remainder = std::fmod(a, b);
    if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
    if (op == "%") return remainder;
    return std::floor((a - remainder) / b + 0.5);
  }

  Value comprehension(const PythonExpression& node) {
    const List values = to_list(evaluate(node.children[1]));
    const auto outer = variables_.find(node.text) == variables_.end() ? std::nullopt : std::optional(variables_[node.text]);
    List result;
    for (const Value& value : values) {
      variables_[node.text] = value;
      result.push_back(evaluate(node.children[0]));
    }
    if (outer) {
      variables_[node.text] = *outer;
    } else {
      variables_.erase(node.text);
    }
    return result;
  }

  static List to_list(const Value& value) {
    if (value.is(Value::Type::list)) return value.as_list();
    if (!value.is(Value::Type::tuple)) throw Error(fmt::format("the expression iterates over a {}", to_string(value.type())));
    List list;
    for (const Value& item : value.as_tuple()) list.push_back(item);
    return list;
  }

  Value call(const std::string& function, const List& arguments) {
    if (function == "range" && !arguments.empty() && arguments.size() <= 3) return range(arguments);
    if ((function == "min" || function == "max") && !arguments.empty()) {
      return extreme(function == "max", arguments.size() == 1 ? to_list(arguments[0]) : arguments);
    }
    if (arguments.size() == 1) {
      const Value& argument = arguments[0];
      if (function == "int") return truncated(argument);
      if (function == "float") return argument.as_double();
      if (function == "abs") return argument.as_double() < 0 ? negated(argument, true) : argument;
      if (function == "list") return to_list(argument);
      if (function == "tuple") return to_tuple(argument);
    }
    throw Error(fmt::format("the expression calls \"{}\", which is not arithmetic", function));
  }

  Value range(const List& arguments) {
    const std::int64_t begin = arguments.size() == 1 ? 0 : arguments[0].as_int();
    const std::int64_t end = arguments.size() == 1 ? arguments[0].as_int() : arguments[1].as_int();
    const std::int64_t step = arguments.size() == 3 ? arguments[2].as_int() : 1;
    if (step == 0) throw Error("the expression has a range of step 0");
    List result;
    std::int64_t i = begin;
    while (step > 0 ? i < end : i > end) {
      if (++steps_ > max_steps) throw Error("the expression takes too long");
      result.push_back(i);
      if (__builtin_add_overflow(i, step, &i)) break;
    }
    return result;
  }

  static Value extreme(bool greatest, const List& values) {
    if (values.empty()) throw Error("the expression asks for the extreme of nothing");
    const Value* best = &values[0];
    for (const Value& value : values) {
      if (greatest ? value.as_double() > best->as_double() : value.as_double() < best->as_double()) best = &value;
    }
    return *best;
  }

  static Value truncated(const Value& value) {
    if (value.is(Value::Type::integer)) return value;
    const double whole = std::trunc(value.as_double());
    if (!(std::abs(whole) < 0x1p63)) throw_too_large();
    return static_cast<std::int64_t>(whole);
  }

  static Value to_tuple(const Value& value) {
    Tuple result;
    for (const Value& item : to_list(value)) result.push_back(item);
    return result;
  }

  std::map<std::string, Value> variables_;
  int steps_ = 0;
};

}  // namespace

Value evaluate_python(std::string_view text) {
  const std::optional<PythonExpression> expression = parse_python(text);
  if (!expression) throw Error("the expression is more than numbers and lists");
  return Evaluator().evaluate(*expression);
}

}  // namespace treadle
