#include "config/python_expression.hpp"
#include "config/python_strings.hpp"
#include "config/scalar.hpp"

#include <algorithm>
#include <array>
#include <charconv>

namespace treadle {
namespace {

using Kind = PythonExpression::Kind;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}
bool is_name_part(char c) { return is_name_start(c) || is_digit(c); }

constexpr std::array<std::string_view, 32> keywords{
    "and",      "as",     "assert",  "async", "await", "break",  "class", "continue", "def",  "del",  "elif",
    "else",     "except", "finally", "for",   "from",  "global", "if",    "import",   "in",   "is",   "lambda",
    "nonlocal", "not",    "or",      "pass",  "raise", "return", "try",   "while",    "with", "yield"};

int digit_value(char c) {
  if (is_digit(c)) return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'z' ? lower - 'a' + 10 : 99;
}

/// Python reads `\r\n` and `\r` as the end of a line, also inside strings.
std::string with_plain_newlines(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\r') {
      result += text[i];
    } else if (i + 1 == text.size() || text[i + 1] != '\n') {
      result += '\n';
    }
  }
  return result;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : rest_(text) {}

  PythonExpression parse() {
    const auto blank = [](char c) { return c == ' ' || c == '\t'; };
    while (!rest_.empty() && blank(rest_.front())) rest_.remove_prefix(1);
    skip_blank_lines();
    PythonExpression result = expression_list();
    skip_space();
    brackets_ = 1;  // what may follow the expression is blank lines and comments
    skip_space();
    if (!rest_.empty()) throw NotPython();
    return result;
  }

 private:
  // Python's own limit on nested brackets; it bounds the recursion here as well
  static constexpr int max_nesting = 200;

  struct Deeper {
    explicit Deeper(int& depth) : depth_(depth) {
      if (++depth_ > 4 * max_nesting) throw NotPython();
    }
    ~Deeper() { --depth_; }
    int& depth_;
  };

  void skip_blank_lines() {
    while (true) {
      const std::size_t end = rest_.find('\n');
      const std::string_view line = rest_.substr(0, end);
      const std::size_t first = line.find_first_not_of(" \t\f\r");
      const bool blank = first == std::string_view::npos || line[first] == '#';
      if (end == std::string_view::npos || !blank) return;
      rest_.remove_prefix(end + 1);
      if (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\t')) {
        const std::size_t text = rest_.find_first_not_of(" \t\f\r");
        if (text != std::string_view::npos && rest_[text] != '\n' && rest_[text] != '#') throw NotPython();  // indented code
      }
    }
  }

  void skip_space() {
    while (!rest_.empty()) {
      const char c = rest_.front();
      if (c == ' ' || c == '\t' || c == '\f' || (brackets_ > 0 && (c == '\n' || c == '\r'))) {
        rest_.remove_prefix(1);
      } else if (rest_.starts_with("\\\n") && rest_.size() > 2) {
        rest_.remove_prefix(2);
      } else if (c == '#') {
        rest_.remove_prefix(std::min(rest_.find('\n'), rest_.size()));
      } else {
        return;
      }
    }
  }

  bool at(std::string_view token) {
    skip_space();
    return rest_.starts_with(token);
  }
  bool take(std::string_view token) {
    if (!at(token)) return false;
    rest_.remove_prefix(token.size());
    return true;
  }
  void expect(std::string_view token) {
    if (!take(token)) throw NotPython();
  }
  bool take_keyword(std::string_view word) {
    if (!at(word) || (rest_.size() > word.size() && is_name_part(rest_[word.size()]))) return false;
    rest_.remove_prefix(word.size());
    return true;
  }
  void open() {
    if (++brackets_ > max_nesting) throw NotPython();
  }
  void close(std::string_view bracket) {
    expect(bracket);
    --brackets_;
  }

  static PythonExpression node(Kind kind, std::string text = {}, std::vector<PythonExpression> children = {}) {
    PythonExpression result;
    result.kind = kind;
    result.text = std::move(text);
    result.children = std::move(children);
    return result;
  }

  static PythonExpression constant(Value value) {
    PythonExpression result;
    result.value = std::move(value);
    return result;
  }

  bool at_end_of_list() {
    skip_space();
    return rest_.empty() || std::string_view(")]}\n\r").find(rest_.front()) != std::string_view::npos;
  }

  /// An expression, or a tuple without brackets.
  PythonExpression expression_list() {
    PythonExpression first = expression();
    if (!at(",")) return first;
    PythonExpression tuple = node(Kind::tuple);
    tuple.children.push_back(std::move(first));
    while (take(",")) {
      if (at_end_of_list()) break;
      tuple.children.push_back(expression());
    }
    return tuple;
  }

  PythonExpression expression() {
    const Deeper deeper(depth_);
    return binary_chain({"+", "-"}, &Parser::product);
  }
  PythonExpression product() { return binary_chain({"//", "/", "*", "%"}, &Parser::factor); }

  PythonExpression binary_chain(std::initializer_list<std::string_view> operators, PythonExpression (Parser::*operand)()) {
    PythonExpression left = (this->*operand)();
    int length = 0;
    while (true) {
      const auto found = std::ranges::find_if(operators, [&](std::string_view token) { return at(token); });
      if (found == operators.end()) return left;
      if (++length > max_nesting) throw NotPython();  // every step deepens the tree
      rest_.remove_prefix(found->size());
      PythonExpression right = (this->*operand)();
      std::vector<PythonExpression> operands;
      operands.push_back(std::move(left));
      operands.push_back(std::move(right));
      left = node(Kind::binary, std::string(*found), std::move(operands));
    }
  }

  PythonExpression factor() {
    const Deeper deeper(depth_);
    for (const char* sign : {"+", "-"}) {
      if (!take(sign)) continue;
      std::vector<PythonExpression> operand;
      operand.push_back(factor());
      return node(Kind::unary, sign, std::move(operand));
    }
    PythonExpression base = primary();
    if (!take("**")) return base;
    std::vector<PythonExpression> operands;
    operands.push_back(std::move(base));
    operands.push_back(factor());
    return node(Kind::binary, "**", std::move(operands));
  }

  PythonExpression primary() {
    skip_space();
    if (rest_.empty()) throw NotPython();
    const char c = rest_.front();
    if (c == '(') return parenthesized();
    if (c == '[') return bracketed_list();
    if (c == '{') return braces();
    if (take("...")) return node(Kind::ellipsis);
    if (is_digit(c) || (c == '.' && rest_.size() > 1 && is_digit(rest_[1]))) return number();
    if (starts_python_string(rest_)) return strings();
    if (is_name_start(c)) return name_or_call();
    throw NotPython();
  }

  PythonExpression parenthesized() {
    expect("(");
    open();
    PythonExpression inside = at(")") ? node(Kind::tuple) : expression_list();
    close(")");
    return inside;
  }

  PythonExpression bracketed_list() {
    expect("[");
    open();
    PythonExpression list = node(Kind::list);
    if (!at("]")) {
      list.children.push_back(expression());
      if (take_keyword("for")) {
        list = comprehension(std::move(list.children.front()));
      } else {
        while (take(",") && !at("]")) list.children.push_back(expression());
      }
    }
    close("]");
    return list;
  }

  PythonExpression comprehension(PythonExpression element) {
    const std::string variable = name();
    if (!take_keyword("in")) throw NotPython();
    std::vector<PythonExpression> parts;
    parts.push_back(std::move(element));
    parts.push_back(expression());
    return node(Kind::comprehension, variable, std::move(parts));
  }

  PythonExpression braces() {
    expect("{");
    open();
    PythonExpression result = node(Kind::dict);
    for (bool first = true; !at("}"); first = false) {
      result.children.push_back(expression());
      if (first && !at(":")) result.kind = Kind::set;
      if (result.kind == Kind::dict) {
        expect(":");
        result.children.push_back(expression());
      }
      if (!take(",")) break;
    }
    close("}");
    return result;
  }

  std::string name() {
    skip_space();
    std::size_t length = 0;
    while (length < rest_.size() && (length == 0 ? is_name_start(rest_[0]) : is_name_part(rest_[length]))) ++length;
    if (length == 0) throw NotPython();
    std::string result(rest_.substr(0, length));
    rest_.remove_prefix(length);
    return result;
  }

  PythonExpression name_or_call() {
    const std::string word = name();
    if (word == "None") return constant(nullptr);
    if (word == "True") return constant(true);
    if (word == "False") return constant(false);
    if (std::ranges::find(keywords, word) != keywords.end()) throw NotPython();
    if (!take("(")) return node(Kind::name, word);
    open();
    PythonExpression call = node(Kind::call, word);
    while (!at(")")) {
      call.children.push_back(expression());
      if (!take(",")) break;
    }
    close(")");
    return call;
  }

  /// Digits with single underscores between them; empty when there are none. The underscores are left out.
  std::string digits(int base, bool underscore_may_lead = false) {
    std::string result;
    bool may_be_underscore = underscore_may_lead;
    while (!rest_.empty()) {
      if (rest_.front() == '_') {
        if (!may_be_underscore) throw NotPython();
        may_be_underscore = false;
        rest_.remove_prefix(1);
        if (rest_.empty() || digit_value(rest_.front()) >= base) throw NotPython();
      } else if (digit_value(rest_.front()) < base) {
        result += rest_.front();
        may_be_underscore = true;
        rest_.remove_prefix(1);
      } else {
        break;
      }
    }
    return result;
  }

  PythonExpression integer(const std::string& text, int base) {
    if (text.empty()) throw NotPython();
    PythonExpression result = node(Kind::integer);
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), result.magnitude, base);
    result.too_large = error == std::errc::result_out_of_range;
    return result;
  }

  void expect_end_of_number() {
    if (!rest_.empty() && is_name_part(rest_.front())) throw NotPython();
  }

  PythonExpression number() {
    if (rest_.front() == '0' && rest_.size() > 1) {
      const char letter = static_cast<char>(rest_[1] | 0x20);
      const int base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
      if (base != 0) {
        rest_.remove_prefix(2);
        PythonExpression result = integer(digits(base, true), base);
        expect_end_of_number();
        return result;
      }
    }
    std::string text = digits(10);
    bool is_float = false;
    if (!rest_.empty() && rest_.front() == '.') {
      is_float = true;
      rest_.remove_prefix(1);
      text += '.' + digits(10);
    }
    if (!rest_.empty() && (rest_.front() | 0x20) == 'e') {
      is_float = true;
      text += 'e';
      rest_.remove_prefix(1);
      if (!rest_.empty() && (rest_.front() == '-' || rest_.front() == '+')) {
        if (rest_.front() == '-') text += '-';
        rest_.remove_prefix(1);
      }
      const std::string exponent = digits(10);
      if (exponent.empty()) throw NotPython();
      text += exponent;
    }
    if (!rest_.empty() && (rest_.front() | 0x20) == 'j') {
      rest_.remove_prefix(1);
      expect_end_of_number();
      return node(Kind::imaginary);
    }
    expect_end_of_number();
    if (is_float) return constant(parse_decimal(text));
    const bool leading_zero = text.size() > 1 && text.front() == '0' && text.find_first_not_of('0') != std::string::npos;
    if (leading_zero) throw NotPython();
    return integer(text, 10);
  }

  /// Adjacent literals are one.
  PythonExpression strings() {
    std::string text;
    std::optional<bool> bytes;
    while (starts_python_string(rest_)) {
      const bool is_bytes = take_python_string(rest_, text);
      if (bytes.value_or(is_bytes) != is_bytes) throw NotPython();
      bytes = is_bytes;
      skip_space();
    }
    return *bytes ? constant(Bytes{std::move(text)}) : constant(std::move(text));
  }

  std::string_view rest_;
  int brackets_ = 0;
  int depth_ = 0;
};

}  // namespace

std::optional<PythonExpression> parse_python(std::string_view text) {
  try {
    if (text.find('\r') == std::string_view::npos) return Parser(text).parse();
    return Parser(with_plain_newlines(text)).parse();
  } catch (const NotPython&) {
    return std::nullopt;
  }
}

}  // namespace treadle
