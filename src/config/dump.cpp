#include "config/python_expression.hpp"
#include "config/scalar.hpp"
#include "config/tree.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

namespace treadle {
namespace {

using Type = Value::Type;
using Lines = std::vector<std::string>;

/// The characters of a UTF-8 text; a byte that is none stands for itself.
std::vector<char32_t> code_points(std::string_view text) {
  std::vector<char32_t> codes;
  for (std::size_t i = 0; i < text.size();) {
    const unsigned char first = static_cast<unsigned char>(text[i]);
    const std::size_t length = first < 0x80 ? 1 : first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC2 ? 2 : 1;
    char32_t code = length == 1 ? first : first & (0xFFu >> (length + 1));
    std::size_t used = 1;
    while (used < length && i + used < text.size() && (static_cast<unsigned char>(text[i + used]) & 0xC0u) == 0x80u) {
      code = code << 6 | (static_cast<unsigned char>(text[i + used]) & 0x3Fu);
      ++used;
    }
    if (used < length) {
      code = first;
      used = 1;
    }
    codes.push_back(code);
    i += used;
  }
  return codes;
}

std::string double_quoted(std::string_view text) {
  struct Escape {
    char32_t code;
    const char* text;
  };
  constexpr std::array<Escape, 15> escapes{{{0, "\\0"},
                                            {7, "\\a"},
                                            {8, "\\b"},
                                            {9, "\\t"},
                                            {10, "\\n"},
                                            {11, "\\v"},
                                            {12, "\\f"},
                                            {13, "\\r"},
                                            {27, "\\e"},
                                            {'"', "\\\""},
                                            {'\\', "\\\\"},
                                            {0x85, "\\N"},
                                            {0xA0, "\\_"},
                                            {0x2028, "\\L"},
                                            {0x2029, "\\P"}}};
  std::string result = "\"";
  for (const char32_t code : code_points(text)) {
    const auto known = std::ranges::find(escapes, code, &Escape::code);
    if (known != escapes.end()) {
      result += known->text;
    } else if (code >= 0x20 && code < 0x7F) {
      result += static_cast<char>(code);
    } else if (code <= 0xFF) {
      result += fmt::format("\\x{:02X}", static_cast<std::uint32_t>(code));
    } else if (code <= 0xFFFF) {
      result += fmt::format("\\u{:04X}", static_cast<std::uint32_t>(code));
    } else {
      result += fmt::format("\\U{:08X}", static_cast<std::uint32_t>(code));
    }
  }
  return result + '"';
}

std::string single_quoted(std::string_view text) {
  std::string result = "'";
  for (const char c : text) {
    if (c == '\'') result += c;
    result += c;
  }
  return result + '\'';
}

/// Whether a printable ASCII text can stand without quotes in block context.
bool may_be_plain(std::string_view text) {
  if (text.starts_with("---") || text.starts_with("...") || text.starts_with(' ') || text.ends_with(' ')) return false;
  const auto space_follows = [&](std::size_t i) { return i + 1 == text.size() || text[i + 1] == ' '; };
  if (std::string_view("#,[]{}&*!|>'\"%@`").find(text.front()) != std::string_view::npos) return false;
  if (std::string_view("?-").find(text.front()) != std::string_view::npos && space_follows(0)) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ':' && space_follows(i)) return false;
    if (text[i] == '#' && i > 0 && text[i - 1] == ' ') return false;
  }
  return true;
}

/// A string that YAML reads back as just that string, always on one line.
std::string yaml_string(std::string_view text) {
  if (text.empty()) return "''";
  if (!std::ranges::all_of(text, [](unsigned char c) { return c >= 0x20 && c < 0x7F; })) return double_quoted(text);
  if (resolve_scalar(text) == ScalarKind::string && may_be_plain(text)) return std::string(text);
  return single_quoted(text);
}

std::string yaml_float(double number) {
  if (std::isnan(number)) return ".nan";
  if (std::isinf(number)) return number < 0 ? "-.inf" : ".inf";
  std::string text = python_float_repr(number);
  // without a point YAML 1.1 takes it for text
  if (text.find('.') == std::string::npos) text.insert(text.find('e'), ".0");
  return text;
}

Lines node_lines(const Value& value);

Lines sequence_lines(const auto& items) {
  if (items.empty()) return {"[]"};
  Lines lines;
  for (const Value& item : items) {
    bool first = true;
    for (const std::string& line : node_lines(item)) {
      lines.push_back((first ? "- " : "  ") + line);
      first = false;
    }
  }
  return lines;
}

Lines mapping_lines(const Dict& dict) {
  if (dict.empty()) return {"{}"};
  Lines lines;
  for (const Dict::Entry& entry : dict) {
    const std::string key = entry.key.is_string() ? yaml_string(entry.key.string()) : std::to_string(entry.key.integer());
    const Lines below = node_lines(entry.value);
    const bool scalar = below.size() == 1 && !below.front().starts_with("- ");
    lines.push_back(key + (scalar ? ": " + below.front() : ":"));
    if (scalar) continue;
    for (const std::string& line : below) lines.push_back("  " + line);
  }
  return lines;
}

Lines node_lines(const Value& value) {
  switch (value.type()) {
    case Type::null:
      return {"null"};
    case Type::boolean:
      return {value.as_bool() ? "true" : "false"};
    case Type::integer:
      return {std::to_string(value.as_int())};
    case Type::real:
      return {yaml_float(value.as_double())};
    case Type::string:
      return {yaml_string(value.as_string())};
    case Type::list:
      return sequence_lines(value.as_list());
    case Type::tuple:
      return sequence_lines(value.as_tuple());
    case Type::dict:
      return mapping_lines(value.as_dict());
    case Type::bytes:
    case Type::tensor:
      break;
  }
  return {yaml_string(describe(value))};  // no merge lets these in
}

bool holds_tuple_or_dict(const Value& value) {
  const auto any = [](const auto& items) { return std::any_of(items.begin(), items.end(), holds_tuple_or_dict); };
  return value.is(Type::tuple) || value.is(Type::dict) || (value.is(Type::list) && any(value.as_list()));
}

/// Whether plain YAML would come back as something else.
bool needs_literal(const Entry& leaf) {
  const Value& value = leaf.value;
  if (value.is(Type::string)) return parse_literal(value.as_string()).outcome != Literal::Outcome::not_literal;
  if (value.is(Type::tuple) && leaf.declared == Type::tuple) {
    return std::any_of(value.as_tuple().begin(), value.as_tuple().end(), holds_tuple_or_dict);
  }
  return holds_tuple_or_dict(value);
}

using Comment = std::function<std::string(const std::string& key)>;

void dump_section(const Section& section, const std::string& path, const std::string& indent, const Comment& comment,
                  std::string& text) {
  std::vector<const Entry*> sorted;
  for (const Entry& entry : section.entries) sorted.push_back(&entry);
  std::ranges::sort(sorted, {}, &Entry::key);
  for (const Entry* entry : sorted) {
    text += indent + yaml_string(entry->key) + ':';
    if (entry->is_section) {
      text += entry->section.entries.empty() ? " {}\n" : "\n";
      dump_section(entry->section, join_key(path, entry->key), indent + "  ", comment, text);
      continue;
    }
    const std::optional<std::string> literal = needs_literal(*entry) ? python_repr(entry->value) : std::nullopt;
    const Lines lines = literal ? Lines{yaml_string(*literal)} : node_lines(entry->value);
    const bool on_one_line = lines.size() == 1 && (literal || !lines.front().starts_with("- "));
    if (on_one_line) text += ' ' + lines.front();
    if (comment) text += "  " + comment(join_key(path, entry->key));
    text += '\n';
    if (on_one_line) continue;
    for (const std::string& line : lines) text += indent + line + '\n';
  }
}

}  // namespace

std::string Config::dump(const std::function<std::string(const std::string& key)>& comment) const {
  std::string text;
  dump_section(state_->root, {}, {}, comment, text);
  return text.empty() ? "{}\n" : text;
}

}  // namespace treadle
