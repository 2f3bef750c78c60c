#pragma once

#include "config/tree.hpp"

namespace treadle {

enum class Decode { no, yes };

/// A string read as a Python literal, when it is one; any other value as it is. ConfigError when the literal is nothing a config
/// can hold.
Value decode_value(Value value, std::string_view key, const Origin& origin);

/// `value` as it may stand in place of `old`: converted where the type rules allow it, else ConfigError naming both origins.
Value fit_type(Value value, const Entry& old, std::string_view key, const Origin& origin);

/// Merges `from` into the tree of `into`. When it throws, `into` is half changed: give it a copy.
void merge_sections(const Section& from, ConfigState& into, Decode decode);

/// Warns and returns true for a deprecated key; throws for a renamed one.
bool handle_retired_key(const ConfigState& state, const std::string& key, const Origin& origin);

/// A value for messages: its literal, shortened.
std::string show_value(const Value& value);

}  // namespace treadle
