#include <app/usage.hpp>
#include <treadle/base/text.hpp>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <regex>

namespace treadle {
namespace {

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) names.push_back(command->get_name());
  return names;
}

std::vector<std::string> option_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

/// SOLVER.BASE_LR, SEED.
bool looks_like_key(std::string_view word) {
  return !word.empty() && std::none_of(word.begin(), word.end(), [](unsigned char c) { return std::islower(c) || c == '-'; });
}

std::string no_command(const CLI::App& app, const std::vector<std::string>& words) {
  if (words.size() < 2) return fmt::format("a command is missing: {}", fmt::join(command_names(app), ", "));
  const std::string& word = words[1];
  if (word.starts_with("-")) {
    return fmt::format("a command comes first: {} {} {} …", words[0].substr(words[0].rfind('/') + 1), command_names(app).front(),
                       word);
  }
  return fmt::format("there is no command \"{}\"{}", word, did_you_mean(word, command_names(app)));
}

std::string unexpected(const CLI::App& command, const std::string& word) {
  if (!word.starts_with("-")) return fmt::format("\"{}\" is one word too many", word);
  const std::string name = word.substr(std::min(word.find_first_not_of('-'), word.size()));
  if (looks_like_key(name)) return fmt::format("{} is no option; a setting has no dashes: {} VALUE", word, name);
  const std::vector<std::string> known = option_names(command);
  if (std::find(known.begin(), known.end(), word.substr(0, word.find('='))) != known.end())
    return fmt::format("{} belongs behind the command: treadle {} {} …", word, command.get_name(), word);
  return fmt::format("there is no option {}{}", word, did_you_mean(word, known));
}

/// `--rows`, out of the library's texts, which begin with it or have it behind a colon.
const CLI::Option* named_option(const CLI::App& command, const std::string& text) {
  for (const std::string& name : option_names(command)) {
    const std::size_t at = text.find(name);
    if (at == std::string::npos || (at + name.size() < text.size() && std::isalnum(text[at + name.size()]))) continue;
    if (const CLI::Option* option = command.get_option_no_throw(name)) return option;
  }
  return nullptr;
}

std::string missing_value(const CLI::Option& option) {
  const int least = option.get_items_expected_min();
  const std::string type = option.get_type_name();
  return fmt::format("{} needs {}{}", option.get_name(), least > 1 ? fmt::format("{} values", least) : std::string("a value"),
                     type.empty() || type == "TEXT" ? "" : ": " + type);
}

/// "--rows: Value 0 not in range 1 to 100", with numbers as people write them; empty for another text.
std::string out_of_range(const std::string& text) {
  static const std::regex pattern(R"(^(--[a-z-]+): Value (.+) not in range (\S+) to (\S+)$)");
  std::smatch match;
  if (!std::regex_match(text, match, pattern)) return "";
  const auto number = [&](int index) { return fmt::format("{}", std::strtod(match[index].str().c_str(), nullptr)); };
  return fmt::format("{} is {}; a number from {} to {} is needed", match[1].str(), match[2].str(), number(3), number(4));
}

}  // namespace

std::string usage_problem(const CLI::App& app, const CLI::ParseError& error, const std::vector<std::string>& words) {
  const auto parsed = app.get_subcommands();
  if (parsed.empty()) return no_command(app, words) + "; see treadle --help";
  const CLI::App& command = *parsed.front();
  const std::string text = error.what();
  const std::string behind_colon = text.substr(std::min(text.find(": ") + 2, text.size()));
  std::string problem = text;
  const CLI::Option* option = named_option(command, text);
  if (const std::string range = out_of_range(text); !range.empty()) problem = range;
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
    problem = unexpected(command, behind_colon.substr(0, behind_colon.find(' ')));
  } else if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr) {
    problem = fmt::format("{} is missing", text.substr(0, text.find(" is required")));
  } else if (dynamic_cast<const CLI::ConversionError*>(&error) != nullptr && text.find(" = ") != std::string::npos) {
    problem = fmt::format("{} is \"{}\"; a number is needed", behind_colon.substr(0, behind_colon.find(" = ")),
                          text.substr(text.find(" = ") + 3));
  } else if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr && option != nullptr &&
             static_cast<int>(option->count()) < std::max(1, option->get_items_expected_min())) {
    problem = missing_value(*option);
  }
  return fmt::format("{}; see treadle {} --help", problem, command.get_name());
}

}  // namespace treadle
