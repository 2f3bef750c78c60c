#include "config/merge.hpp"

#include "config/python_expression.hpp"
#include "config/scalar.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>

#include <fmt/format.h>

namespace treadle {
namespace {

using Type = Value::Type;

Value to_list(const Tuple& tuple) {
  List list;
  list.reserve(tuple.size());
  for (const Value& item : tuple) list.push_back(item);
  return list;
}

Value to_tuple(const List& list) {
  Tuple tuple;
  tuple.reserve(list.size());
  for (const Value& item : list) tuple.push_back(item);
  return tuple;
}

std::string advice(const Value& found, Type expected) {
  if (expected == Type::string) {
    const std::optional<std::string> text = python_repr(found);
    if (text && text->find_first_of("'\"") == std::string::npos) return fmt::format("; to keep it text, write \"'{}'\"", *text);
  }
  if (expected == Type::boolean && found.is(Type::string)) {
    const ScalarKind kind = resolve_scalar(found.as_string());
    if (kind == ScalarKind::boolean) return "; write True or False";
  }
  return {};
}

[[noreturn]] void throw_mismatch(const Value& found, const Entry& old, std::string_view key, const Origin& origin) {
  if (old.is_section && found.is(Type::null)) {
    throw ConfigError(fmt::format("{}: {} is a section ({}), found null: are its keys indented?", origin.to_string(), key,
                                  old.origin.to_string()),
                      std::string(key));
  }
  const std::string expected = old.is_section ? fmt::format("is a section ({})", old.origin.to_string())
                                              : fmt::format("expects {}, as {} ({})", to_string(old.value.type()),
                                                            show_value(old.value), old.origin.to_string());
  throw ConfigError(
      fmt::format("{}: {} {}; found {} {}{}", origin.to_string(), key, expected, to_string(found.type()), show_value(found),
                  old.is_section ? fmt::format("; name one of its keys, as {}.KEY", key) : advice(found, old.value.type())),
      std::string(key));
}

/// What a config leaf may be; a Dict only where it is new.
bool is_plain(Type type) {
  return type == Type::null || type == Type::boolean || type == Type::integer || type == Type::real || type == Type::string ||
         type == Type::list || type == Type::tuple;
}

class Merger {
 public:
  Merger(ConfigState& state, Decode decode) : state_(state), decode_(decode) {}

  void merge(const Section& from, Section& into, const std::string& path) {
    for (const Entry& entry : from.entries) {
      const std::string key = join_key(path, entry.key);
      if (Entry* target = into.find(entry.key)) {
        replace(entry, *target, key);
      } else if (into.new_allowed) {
        into.entries.push_back(new_entry(entry, key));
      } else if (!handle_retired_key(state_, key, entry.origin)) {
        throw_unknown_key(state_.root, key, entry.origin);
      }
    }
  }

 private:
  void replace(const Entry& entry, Entry& target, const std::string& key) {
    if (entry.is_section && target.is_section) {
      merge(entry.section, target.section, key);
    } else if (entry.is_section) {
      throw ConfigError(fmt::format("{}: {} is a value, {} ({}), not a section with keys of its own", entry.origin.to_string(),
                                    key, show_value(target.value), target.origin.to_string()),
                        key);
    } else {
      target.value = fit_type(decoded(entry, key), target, key, entry.origin);
      target.origin = entry.origin;
    }
  }

  Entry new_entry(const Entry& entry, const std::string& key) {
    Entry result{entry.key, entry.origin, {}, Type::null, entry.is_section, {}};
    result.section.new_allowed = true;
    if (!entry.is_section) result.value = decoded(entry, key);
    for (const Entry& child : entry.section.entries) result.section.entries.push_back(new_entry(child, join_key(key, child.key)));
    return result;
  }

  Value decoded(const Entry& entry, const std::string& key) const {
    return decode_ == Decode::yes ? decode_value(entry.value, key, entry.origin) : entry.value;
  }

  ConfigState& state_;
  Decode decode_;
};

}  // namespace

std::string show_value(const Value& value) {
  std::string text = python_repr(value).value_or(describe(value));
  constexpr std::size_t longest = 60;
  if (text.size() > longest) {
    std::size_t end = longest;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0u) == 0x80u) --end;  // not within a character
    text.replace(end, std::string::npos, "…");
  }
  return text;
}

Value decode_value(Value value, std::string_view key, const Origin& origin) {
  if (!value.is(Type::string)) return value;
  Literal literal = parse_literal(value.as_string());
  switch (literal.outcome) {
    case Literal::Outcome::value:
      return std::move(literal.value);
    case Literal::Outcome::not_literal:
      return value;
    case Literal::Outcome::refused:
      break;
  }
  throw ConfigError(
      fmt::format("{}: {}: {} is {}, which no config value can be", origin.to_string(), key, show_value(value), literal.what),
      std::string(key));
}

Value fit_type(Value value, const Entry& old, std::string_view key, const Origin& origin) {
  if (old.is_section) throw_mismatch(value, old, key, origin);
  const Type from = value.type();
  const Type to = old.value.type();
  if (from == to) return value;
  if (is_plain(from) && is_plain(to) && (from == Type::null || to == Type::null)) return value;
  if (from == Type::tuple && to == Type::list) return to_list(value.as_tuple());
  if (from == Type::list && to == Type::tuple) return to_tuple(value.as_list());
  if (from == Type::integer && to == Type::real) return value.as_double();
  throw_mismatch(value, old, key, origin);
}

void merge_sections(const Section& from, ConfigState& into, Decode decode) { Merger(into, decode).merge(from, into.root, {}); }

bool handle_retired_key(const ConfigState& state, const std::string& key, const Origin& origin) {
  if (state.deprecated.contains(key)) {
    log_warning(fmt::format("{}: config key {} is deprecated and ignored", origin.to_string(), key));
    return true;
  }
  const auto renamed = state.renamed.find(key);
  if (renamed == state.renamed.end()) return false;
  const auto& [new_key, note] = renamed->second;
  throw ConfigError(
      fmt::format("{}: config key {} is now {}{}{}", origin.to_string(), key, new_key, note.empty() ? "" : "; ", note), key);
}

}  // namespace treadle
