#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
class ParseError;
}  // namespace CLI

namespace treadle {

/// What is wrong with the command line `words`, and what to do, in one line.
std::string usage_problem(const CLI::App& app, const CLI::ParseError& error, const std::vector<std::string>& words);

}  // namespace treadle
