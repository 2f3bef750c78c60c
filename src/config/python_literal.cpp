#include "config/python_expression.hpp"
#include "config/scalar.hpp"

#include <fmt/format.h>

#include <cmath>

namespace treadle {
namespace {

using Kind = PythonExpression::Kind;

/// Thrown inside this file only.
struct NotLiteral {};

class Converter {
 public:
  /// Throws NotLiteral wherever the expression is more than a literal; what is a literal but no config value is noted in
  /// `refused`.
  Value convert(const PythonExpression& node) {
    switch (node.kind) {
      case Kind::constant:
        return node.value.is(Value::Type::bytes) ? refuse("bytes") : node.value;
      case Kind::integer:
      case Kind::imaginary:
      case Kind::unary:
        return signed_number(node);
      case Kind::ellipsis:
        return refuse("an ellipsis");
      case Kind::list:
        return convert_sequence<List>(node);
      case Kind::tuple:
        return convert_sequence<Tuple>(node);
      case Kind::dict:
        return convert_dict(node);
      case Kind::set:
        for (const PythonExpression& child : node.children) convert(child);
        return refuse("a set");
      case Kind::binary:
        if ((node.text != "+" && node.text != "-") || node.children[1].kind != Kind::imaginary) break;
        signed_number(node.children[0]);
        return refuse("a complex number");
      case Kind::call:
        if (node.text != "set" || !node.children.empty()) break;
        return refuse("a set");
      case Kind::name:
      case Kind::comprehension:
        break;
    }
    throw NotLiteral();
  }

  std::string refused;  ///< the first such thing; empty when there is none

 private:
  Value refuse(const char* what) {
    if (refused.empty()) refused = what;
    return nullptr;
  }

  Value integer_value(const PythonExpression& number, bool negative) {
    constexpr std::uint64_t limit = std::uint64_t{1} << 63;
    if (number.too_large || number.magnitude > limit || (number.magnitude == limit && !negative)) {
      return refuse("an integer beyond 64 bits");
    }
    return static_cast<std::int64_t>(negative ? ~number.magnitude + 1 : number.magnitude);
  }

  /// A number behind at most one sign.
  Value signed_number(const PythonExpression& node) {
    const PythonExpression& number = node.kind == Kind::unary ? node.children.front() : node;
    const bool negative = node.kind == Kind::unary && node.text == "-";
    if (number.kind == Kind::imaginary) return refuse("a complex number");
    if (number.kind == Kind::integer) return integer_value(number, negative);
    if (number.kind != Kind::constant || !number.value.is(Value::Type::real)) throw NotLiteral();
    return negative ? -number.value.as_double() : number.value.as_double();
  }

  template <class SequenceType>
  Value convert_sequence(const PythonExpression& node) {
    SequenceType result;
    result.reserve(node.children.size());
    for (const PythonExpression& child : node.children) result.push_back(convert(child));
    return result;
  }

  Value convert_dict(const PythonExpression& node) {
    Dict result;
    for (std::size_t i = 0; i < node.children.size(); i += 2) {
      const Value key = convert(node.children[i]);
      Value value = convert(node.children[i + 1]);
      if (key.is(Value::Type::string)) {
        result.set(key.as_string(), std::move(value));
      } else if (key.is(Value::Type::integer)) {
        result.set(key.as_int(), std::move(value));
      } else {
        refuse("a dict with a key that is neither text nor an integer");
      }
    }
    return result;
  }
};

std::string repr_text(const std::string& text) {
  const char quote = text.find('\'') != std::string::npos && text.find('"') == std::string::npos ? '"' : '\'';
  std::string result(1, quote);
  for (const char c : text) {
    if (c == quote || c == '\\') {
      result += '\\';
      result += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      result += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      result += c;
    }
  }
  return result + quote;
}

/// False when some part has no literal.
bool append_repr(const Value& value, std::string& text);

template <class SequenceType>
bool append_sequence(const SequenceType& items, std::string& text) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) text += ", ";
    if (!append_repr(items[i], text)) return false;
  }
  return true;
}

bool append_repr(const Value& value, std::string& text) {
  switch (value.type()) {
    case Value::Type::null:
      text += "None";
      return true;
    case Value::Type::boolean:
      text += value.as_bool() ? "True" : "False";
      return true;
    case Value::Type::integer:
      text += std::to_string(value.as_int());
      return true;
    case Value::Type::real:
      if (std::isnan(value.as_double())) return false;
      text += std::isinf(value.as_double()) ? (value.as_double() < 0 ? "-1e999" : "1e999") : python_float_repr(value.as_double());
      return true;
    case Value::Type::string:
      text += repr_text(value.as_string());
      return true;
    case Value::Type::list: {
      text += '[';
      const bool complete = append_sequence(value.as_list(), text);
      text += ']';
      return complete;
    }
    case Value::Type::tuple: {
      text += '(';
      const bool complete = append_sequence(value.as_tuple(), text);
      text += value.as_tuple().size() == 1 ? ",)" : ")";
      return complete;
    }
    case Value::Type::dict: {
      text += '{';
      bool first = true;
      for (const Dict::Entry& entry : value.as_dict()) {
        if (!first) text += ", ";
        first = false;
        text += entry.key.is_string() ? repr_text(entry.key.string()) : std::to_string(entry.key.integer());
        text += ": ";
        if (!append_repr(entry.value, text)) return false;
      }
      text += '}';
      return true;
    }
    case Value::Type::bytes:
    case Value::Type::tensor:
      return false;
  }
  return false;
}

}  // namespace

Literal parse_literal(std::string_view text) {
  const std::optional<PythonExpression> expression = parse_python(text);
  if (!expression) return {};
  try {
    Converter converter;
    Value value = converter.convert(*expression);
    if (!converter.refused.empty()) return {Literal::Outcome::refused, {}, converter.refused};
    return {Literal::Outcome::value, std::move(value), {}};
  } catch (const NotLiteral&) {
    return {};
  }
}

std::optional<std::string> python_repr(const Value& value) {
  std::string text;
  if (!append_repr(value, text)) return std::nullopt;
  return text;
}

}  // namespace treadle
