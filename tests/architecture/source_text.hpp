#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

/// Reading of source files for the architecture rules: text only, no compiler.
namespace treadle::architecture {

/// A rule that a file breaks. `line` counts from 1; 0 stands for the whole file.
struct Violation {
  std::filesystem::path file;  ///< relative to the root of the tree
  int line = 0;
  std::string message;
};

/// `file:line: message`, as compilers write it.
std::string to_string(const Violation& violation);

/// The whole file, or an empty string when it cannot be read.
std::string read_file(const std::filesystem::path& file);

/// The files below `root / folder` whose extension is one of `extensions`, relative to `root`, sorted; none when the folder is
/// missing.
std::vector<std::filesystem::path> files_below(const std::filesystem::path& root, std::string_view folder,
                                               const std::vector<std::string>& extensions);

enum class Strings { keep, blank };

/// The C++ text with comments (and, if wanted, the insides of string and character literals) replaced by spaces; lines stay.
std::string without_comments(std::string_view source, Strings strings);

std::vector<std::string> split_lines(std::string_view text);

}  // namespace treadle::architecture
