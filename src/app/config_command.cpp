#include <app/config_command.hpp>
#include <app/terminal.hpp>
#include <app/value_json.hpp>
#include <config/python_expression.hpp>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace treadle {
namespace {

using Json = nlohmann::ordered_json;

struct Colours {
  const char *faint = "", *removed = "", *added = "", *off = "";
};

Colours colours() { return stdout_has_colour() ? Colours{"\033[2m", "\033[31m", "\033[32m", "\033[0m"} : Colours{}; }

Json json_of_origin(const Origin& origin) { return {{"source", origin.source}, {"line", origin.line}}; }

int print_json(const Config& config, bool with_origins) {
  Json answer = {{"config", json_of_value(config.to_dict())}};
  if (with_origins) {
    Json& origins = answer["origins"] = Json::object();
    for (const std::string& key : config.keys()) origins[key] = json_of_origin(config.origin(key));
  }
  print(json_text(answer));
  return 0;
}

int print_tree(const Config& config, bool with_origins) {
  if (!with_origins) {
    print(config.dump());
    return 0;
  }
  const Colours colour = colours();
  print(config.dump(
      [&](const std::string& key) { return fmt::format("{}# {}{}", colour.faint, config.origin(key).to_string(), colour.off); }));
  return 0;
}

/// A key that one side lacks, or that the sides give different values.
struct Difference {
  std::string key;
  const Config* left;  // null when the key is missing there
  const Config* right;
};

std::vector<Difference> differences(const Config& left, const Config& right) {
  std::vector<Difference> found;
  for (const std::string& key : left.keys()) {
    if (!right.contains(key) || right.is_section(key)) {
      found.push_back({key, &left, nullptr});
    } else if (!identical(left.at(key), right.at(key))) {
      found.push_back({key, &left, &right});
    }
  }
  for (const std::string& key : right.keys()) {
    if (!left.contains(key) || left.is_section(key)) found.push_back({key, nullptr, &right});
  }
  std::ranges::sort(found, {}, &Difference::key);
  return found;
}

std::string value_text(const Value& value) { return python_repr(value).value_or(describe(value)); }

Json json_of_side(const Config* config, const std::string& key) {
  if (config == nullptr) return nullptr;
  Json side = {{"value", json_of_value(config->at(key))}};
  side.update(json_of_origin(config->origin(key)));
  return side;
}

Config config_of(const ConfigCommandArguments& arguments, const std::string& file) {
  return read_config({.config_file = file, .overrides = arguments.overrides});
}

int diff(const ConfigCommandArguments& arguments) {
  const Config left = config_of(arguments, arguments.diff[0]), right = config_of(arguments, arguments.diff[1]);
  const std::vector<Difference> found = differences(left, right);
  if (arguments.json) {
    Json answer = {{"a", arguments.diff[0]}, {"b", arguments.diff[1]}, {"differences", Json::object()}};
    for (const Difference& each : found) {
      answer["differences"][each.key] = {{"a", json_of_side(each.left, each.key)}, {"b", json_of_side(each.right, each.key)}};
    }
    print(json_text(answer));
    return found.empty() ? 0 : 1;
  }
  const Colours colour = colours();
  const auto line = [&](const char* sign, const char* paint, const Config* config, const std::string& key) {
    if (config == nullptr) return std::string();
    return fmt::format("{}{} {}{}  {}# {}{}\n", paint, sign, value_text(config->at(key)), colour.off, colour.faint,
                       config->origin(key).to_string(), colour.off);
  };
  std::string text;
  for (const Difference& each : found) {
    text += each.key + "\n" + line("-", colour.removed, each.left, each.key) + line("+", colour.added, each.right, each.key);
  }
  print(found.empty() ? "the two configs are equal\n" : text);
  return found.empty() ? 0 : 1;
}

}  // namespace

CLI::App* add_config_command(CLI::App& app, ConfigCommandArguments& arguments) {
  CLI::App* command =
      app.add_subcommand("config", "Print the settings that a config file and overrides give, or compare two files.");
  add_config_arguments(*command, arguments);
  command->add_flag("--origin", arguments.origin, "behind every value the file and line that set it");
  command->add_flag(
      "--json", arguments.json,
      R"(one JSON object: {"config": tree}, with --origin "origins": {key: {source, line}} too; or {"a", "b", "differences"})");
  command->add_option("--diff", arguments.diff, "compare two config files, key by key; overrides are put over both")
      ->expected(2)
      ->allow_extra_args(false)
      ->type_name("A B")
      ->excludes("--config-file")
      ->excludes("--origin");
  command->footer(
      "What is printed is YAML that loads to the same settings.\n"
      "Example:\n"
      "  treadle config --config-file configs/fashion_mnist_cnn.yaml SOLVER.BASE_LR 0.05 --origin\n"
      "  treadle config --diff output/a/config.yaml output/b/config.yaml\n"
      "Exit status: 0 done (--diff: equal), 1 an error (--diff: they differ), 2 wrong usage.");
  return command;
}

int run_config(const ConfigCommandArguments& arguments) {
  const LogToStderr log;
  if (!arguments.diff.empty()) return diff(arguments);
  const Config config = read_config(arguments);
  return arguments.json ? print_json(config, arguments.origin) : print_tree(config, arguments.origin);
}

}  // namespace treadle
