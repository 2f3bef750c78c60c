#pragma once

#include "source_text.hpp"

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

/// The rules of the project's layout, as functions from a source tree to what breaks them. Each is pure: a tree in a temporary
/// folder shows that it bites (bad_tree_test.cpp), the project's own tree must come out clean (project_test.cpp).
namespace treadle::architecture {

using Root = std::filesystem::path;

/// Which rooms each room may include directly, besides itself. Nothing is implied: who includes `engine` and uses a header of
/// `events` names both.
const std::map<std::string, std::set<std::string>>& allowed_includes();

/// The names as a sentence lists them.
std::string joined(const std::set<std::string>& rooms);

/// Files that may be longer than the limit, with the reason.
const std::map<std::string, std::string>& long_files();

/// Public headers and sources of a room include only what `allowed_includes` lists.
std::vector<Violation> forbidden_includes(const Root& root);

/// fmt and spdlog stay out of public headers (LibTorch carries another fmt); spdlog appears in src/base/log.cpp alone.
std::vector<Violation> leaked_libraries(const Root& root);

/// Library rooms (all but `app`) neither end the process nor write to the terminal; src/base/log.cpp does the writing.
std::vector<Violation> forbidden_calls(const Root& root);

/// Every public header begins with `#pragma once`.
std::vector<Violation> headers_without_pragma_once(const Root& root);

/// A header has fewer than 200 lines, a source file fewer than 400, but for `long_files`.
std::vector<Violation> overlong_files(const Root& root);

/// No file names a folder of the machine it was written on.
std::vector<Violation> machine_paths(const Root& root);

/// Every room under include/treadle is in the table and has its paragraph in docs/architecture.md: text of a sentence or more
/// below a heading that names the room in backticks, or a paragraph or list item that begins with the name in backticks.
std::vector<Violation> undescribed_rooms(const Root& root);

/// The table of docs/architecture.md says of every room what `allowed_includes` does.
std::vector<Violation> includes_that_differ(const Root& root);

/// In README.md, CONTRIBUTING.md and docs/*.md every relative link, and every path of the repository in backticks, leads to
/// something.
std::vector<Violation> broken_references(const Root& root);

/// Every block of C++ in README.md and docs/*.md stands in a program of examples/, blanks and empty lines apart.
std::vector<Violation> code_of_no_example(const Root& root);

/// What looks like a config key there (SOLVER.BASE_LR) is one of configs/defaults.yaml.
std::vector<Violation> unknown_config_keys(const Root& root);

}  // namespace treadle::architecture
