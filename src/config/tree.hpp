#pragma once

#include <treadle/config/config.hpp>

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace treadle {

struct Entry;

struct Section {
  std::vector<Entry> entries;
  bool new_allowed = false;

  Entry* find(std::string_view key);
  const Entry* find(std::string_view key) const;
  /// The entry under `key`, made at the end when there is none.
  Entry& at_or_new(std::string_view key);
};

/// A leaf, or a section: then `value` and `declared` mean nothing.
struct Entry {
  std::string key;
  Origin origin;
  Value value;
  Value::Type declared = Value::Type::null;  ///< the type of the leaf's default; a dump needs it to restore a Tuple
  bool is_section = false;
  Section section;
};

struct RenamedKey {
  std::string new_key;
  std::string note;
};

struct ConfigState {
  Section root;
  bool frozen = false;
  std::set<std::string, std::less<>> deprecated;
  std::map<std::string, RenamedKey, std::less<>> renamed;
  std::vector<std::string> files;
};

/// Lets the files of this room work on the tree of a Config.
struct ConfigAccess {
  static ConfigState& state(Config& config) { return *config.state_; }
  static const ConfigState& state(const Config& config) { return *config.state_; }
};

inline constexpr const char* default_source = "default";
inline constexpr const char* command_line_source = "command line";
inline constexpr const char* code_source = "code";

/// The parts of a dotted path; an empty path has none.
std::vector<std::string_view> split_key(std::string_view key);
std::string join_key(std::string_view section, std::string_view key);

/// The entry at a dotted path below `root`, or nullptr.
Entry* find_entry(Section& root, std::string_view key);
const Entry* find_entry(const Section& root, std::string_view key);

/// The full paths of everything below `section`, leaves and sections.
std::vector<std::string> all_keys(const Section& section, bool with_sections);

/// ` (did you mean "A" or "B"?)` for a key that `root` lacks: a sibling with a similar name, the same last part elsewhere, a
/// similar path.
std::string suggest_keys(const Section& root, std::string_view unknown);

/// The ConfigError for a key that `root` lacks.
[[noreturn]] void throw_unknown_key(const Section& root, std::string_view key, const Origin& origin);

/// Throws when the tree is frozen.
void require_mutable(const ConfigState& state, std::string_view operation);

}  // namespace treadle
