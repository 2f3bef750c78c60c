#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace treadle {

/// A YAML document as written, with aliases replaced by copies of what they stand for.
struct YamlNode {
  enum class Kind { scalar, sequence, mapping };
  Kind kind = Kind::scalar;
  int line = 0;  ///< counted from 1, like `column`
  int column = 0;
  /// "?" for a plain scalar or an untagged collection, "!" for a quoted scalar, else the tag in full ("tag:yaml.org,2002:int",
  /// "!mine").
  std::string tag;
  std::string text;
  std::vector<YamlNode> children;  ///< items, or key, value, key, value, …
  int height = 0;                  ///< of the tree below; bounded
  int size = 1;                    ///< nodes in it; bounded
};

/// The only document of `text`; an empty one is a plain empty scalar. FormatError with file, line, column and offset when it is
/// not YAML, not UTF-8, holds several documents, an alias that contains itself, or more than a config can sensibly have (nesting
/// of 500, a million nodes).
YamlNode parse_yaml(std::string_view text, const std::string& source);

/// Whether a YAML file can hold `text`: UTF-8 without surrogates.
bool is_yaml_text(std::string_view text);

}  // namespace treadle
