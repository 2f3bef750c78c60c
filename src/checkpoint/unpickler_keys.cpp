// Keys of dicts that a Dict cannot have.
#include "checkpoint/unpickler.hpp"

#include <fmt/format.h>

#include <bit>
#include <cmath>

namespace treadle {

namespace {

// Tuples within tuples may stand for more than any file holds.
constexpr std::size_t kLongestKey = 1000;
constexpr int kDeepestKey = 32;

/// As Python's repr: a float never looks like an integer.
std::string repr(double number) {
  if (std::isnan(number)) return "nan";
  std::string text = fmt::format("{}", number);
  return text.find_first_not_of("-0123456789") == std::string::npos ? text + ".0" : text;
}

std::string repr(const std::string& text) {
  const bool has_single = text.find('\'') != std::string::npos, has_double = text.find('"') != std::string::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  std::string quoted(1, quote);
  for (char c : text) {
    if (c == quote || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + quote;
}

}  // namespace

/// What Python's repr makes of a key that is neither text nor an integer.
std::string Unpickler::key_text(NodeId key, int depth) {
  const Node& item = node(key);
  switch (item.kind) {
    case NodeKind::none:
      return "None";
    case NodeKind::boolean:
      return item.wide != 0 ? "True" : "False";
    case NodeKind::integer:
      return std::to_string(static_cast<std::int64_t>(item.wide));
    case NodeKind::real:
      return repr(std::bit_cast<double>(item.wide));
    case NodeKind::text:
      return repr(text(key, "a key"));
    case NodeKind::tuple: {
      expect(depth < kDeepestKey && graph_.count(key) <= kLongestKey, "a key of a dict is too long");
      std::string all = "(";
      for (NodeId part : graph_.items(key)) {
        all += (all.size() > 1 ? ", " : "") + key_text(part, depth + 1);
        expect(all.size() <= kLongestKey, "a key of a dict is too long");
      }
      return all + (graph_.count(key) == 1 ? ",)" : ")");
    }
    default:
      fail("a key of a dict must be text, a number, None or a tuple of those");
  }
}

}  // namespace treadle
