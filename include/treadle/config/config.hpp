#pragma once

#include <treadle/base/value.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace treadle {

struct ConfigState;

/// Where a value was last set.
struct Origin {
  std::string source;             ///< the path of a YAML file as it was opened, or "default", "command line", "code"
  int line = 0;                   ///< counted from 1; 0 where there are no lines
  std::string to_string() const;  ///< `configs/a.yaml:12`, `default`
  bool operator==(const Origin&) const = default;
};

struct ConfigLoadOptions {
  /// Compute `!!python/object/apply:eval ["…"]` where the text is arithmetic, lists, one-variable comprehensions and the
  /// functions range, int, float, list, tuple, abs, min, max. Nothing else can be reached from such a text. When false, the tag
  /// is refused.
  bool evaluate = true;
};

/// The settings of a run: a tree of sections whose leaves are null, bool, int, float, string, List, Tuple or Dict. A dotted path
/// ("SOLVER.BASE_LR") names a key. Keys keep the order in which they were declared; every leaf knows its Origin.
///
/// The files are Detectron2's: YAML 1.1 scalars as PyYAML resolves them, `_BASE_`, VERSION. As in yacs, a string that comes from
/// a file or from the command line is read once more as a Python literal (`(60000, 80000)`, `1e-4`, `None`), and a new value must
/// have the type of the old one. Exceptions to that: List and Tuple turn into each other; null may replace any leaf but a Dict,
/// and a null leaf takes any type but a Dict; and (unlike yacs) an integer is accepted for a float.
///
/// A call that throws changes nothing. Errors are ConfigErrors of one line (file, line, key, expected, found); IoError for a file
/// that cannot be read; FormatError (file, line, column, offset) for one that is not YAML. A value type; copies are deep and keep
/// the frozen state. Threads may read one Config at the same time; changing it needs exclusion.
class Config {
 public:
  Config();
  Config(const Config&);
  Config(Config&&) noexcept;
  Config& operator=(const Config&);
  Config& operator=(Config&&) noexcept;
  ~Config();

  /// A tree that declares just the keys of this YAML text, its values decoded like a file's; `source` is their origin.
  /// Lines are counted unless `source` is "default". `_BASE_` is not followed.
  static Config parse(std::string_view yaml, const std::string& source = "text");

  /// Takes over the values of a YAML file. `_BASE_: path`, or a list of them, is merged first (relative to the naming file, `~`
  /// expanded; a cycle is an error). A file whose VERSION is older than this tree's has its keys translated; a newer one is
  /// refused; without VERSION it is guessed from the keys, with a warning. Every key must exist here, but for sections that allow
  /// new ones.
  void merge_from_file(const std::filesystem::path& file, const ConfigLoadOptions& options = {});
  /// Takes over `KEY VALUE KEY VALUE …`, in order, with origin "command line". Each key must exist and be no section, and
  /// text be UTF-8.
  void merge_from_list(std::span<const std::string> keys_and_values);
  /// The same for values that are not text; those that are text are decoded all the same.
  void merge_from_list(const List& keys_and_values);
  /// Takes over every leaf of `other` with its origin, by the rules of a file.
  void merge(const Config& other);

  /// Assigns a leaf from code, with the same type rules but no decoding. ConfigError when the key is unknown or names a section.
  void set(std::string_view key, Value value);
  /// Adds a leaf, and the sections on the way, as the default of a program's own key; origin "default".
  /// ConfigError when the key exists, or has an empty part.
  void declare(std::string_view key, Value default_value);
  /// Lets later merges add keys to this section and those below it; the empty key is the whole tree.
  void allow_new_keys(std::string_view section = {}, bool allow = true);

  /// A key that later merges ignore with a warning. As in yacs that is asked of every key in a list of overrides, but of a key in
  /// a file or a Config only when it does not exist here and its section takes no new keys: else it is a key like any other.
  void register_deprecated_key(std::string key);
  /// A key whose use, by the same rule, is an error that names the new one, with `note` behind it.
  void register_renamed_key(std::string old_key, std::string new_key, std::string note = {});

  /// From here on every change throws a ConfigError. There is no way back: change a `clone()`.
  void freeze() noexcept;
  bool frozen() const noexcept;
  /// A deep copy that is not frozen.
  Config clone() const;

  bool contains(std::string_view key) const;  ///< of a leaf or a section
  bool is_section(std::string_view key) const;
  /// The full paths of all leaves below `section`, in order; the empty key is the whole tree.
  std::vector<std::string> keys(std::string_view section = {}) const;
  /// The tree, or a section of it, as nested Dicts.
  Dict to_dict(std::string_view section = {}) const;
  /// The files that merges read so far, in the order they were opened.
  const std::vector<std::string>& files() const noexcept;

  /// What is returned by reference, here and by `files`, is valid until this Config is changed, assigned to or moved from.
  ///
  /// The accessors throw a ConfigError that names the key and those like it when there is none, or names the key, its origin and
  /// the expected and found type when it holds something else.
  const Value& at(std::string_view key) const;
  const Origin& origin(std::string_view key) const;
  bool is_null(std::string_view key) const;
  bool get_bool(std::string_view key) const;
  std::int64_t get_int(std::string_view key) const;
  double get_double(std::string_view key) const;  ///< takes an integer too
  const std::string& get_string(std::string_view key) const;
  std::optional<std::int64_t> get_optional_int(std::string_view key) const;  ///< nothing when null
  std::optional<double> get_optional_double(std::string_view key) const;     ///< nothing when null
  /// List or Tuple; each element by the rule of its getter.
  std::vector<std::int64_t> get_ints(std::string_view key) const;
  std::vector<double> get_doubles(std::string_view key) const;
  std::vector<std::string> get_strings(std::string_view key) const;

  /// Throws a ConfigError: `SOLVER.MAX_ITER is -1 (configs/a.yaml:3): <problem>`. For checks beyond the type.
  [[noreturn]] void fail(std::string_view key, const std::string& problem) const;

  /// YAML 1.1 with sorted keys, in PyYAML's layout, so that Detectron2 reads it too. Merged into the tree this one started from,
  /// it gives the same values: text that would be decoded again is quoted twice, and a Tuple that a list would not restore is
  /// written as a literal. `comment` gives what stands behind the first line of each leaf, with its `#`.
  std::string dump(const std::function<std::string(const std::string& key)>& comment = nullptr) const;

 private:
  friend struct ConfigAccess;
  std::unique_ptr<ConfigState> state_;
};

}  // namespace treadle
