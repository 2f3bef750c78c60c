// The family `hooks`: which kinds there are, and those about the results of evaluations.
#include <treadle/evaluation/results.hpp>
#include <treadle/hooks.hpp>

#include <fstream>
#include <set>

#include "tests/reference/hooks_cases.hpp"
#include "tests/support/source_folder.hpp"

namespace treadle {
namespace reference {

void each_hooks_case(const std::string& kind,
                     const std::function<void(const ordered_json& input, const ordered_json& expect)>& run) {
  for (const ordered_json& test : reference_cases("hooks")) {
    if (test.at("kind") != kind) continue;
    SCOPED_TRACE(test.at("id").get<std::string>());
    run(test.at("input"), test.at("expect"));
  }
}

void expect_listed(const std::string& rule) {
  std::ifstream file(std::filesystem::path(source_folder()) / "tests/reference/differences.json");
  bool found = false;
  for (const auto& difference : ordered_json::parse(file)) {
    found = found || (difference.at("family") == "hooks" && difference.at("rule") == rule);
  }
  EXPECT_TRUE(found) << "differences.json lacks the rule \"" << rule << "\"";
}

}  // namespace reference

namespace {

using reference::each_hooks_case;
using reference::ordered_json;

/// Every kind of the family is run by a test of its own, or stands here with the reason why not.
TEST(ReferenceHooks, EveryKindIsKnown) {
  const std::set<std::string> run = {
      "periodic_checkpointer",  "best_checkpointer", "call_order",           "eval_hook", "get_best_param_group_id",
      "simple_trainer_metrics", "iteration_timer",   "periodic_writer",      "lr_hook",   "trainer_state",
      "precise_bn_hook",        "periodic_step",     "flatten_results_dict", "callback",  "print_csv_format"};
  const std::set<std::string> left_out = {
      "verify_results",   // TEST.EXPECTED_RESULTS is refused
      "default_trainer",  // the model, data and settings under the recorded overrides are not part of the case
  };
  for (const ordered_json& test : reference_cases("hooks")) {
    const std::string kind = test.at("kind");
    EXPECT_TRUE(run.contains(kind) || left_out.contains(kind)) << kind;
  }
}

Value to_value(const ordered_json& json) {
  if (json.is_object() && json.contains("h")) return Value(reference_double(json));
  if (json.is_number_integer()) return Value(json.get<std::int64_t>());
  if (json.is_number()) return Value(json.get<double>());
  if (json.is_string()) return Value(json.get<std::string>());
  Dict dict;
  for (const auto& [key, value] : json.items()) dict.set(key, to_value(value));
  return dict;
}

TEST(ReferenceHooks, FlattenResultsDict) {
  each_hooks_case("flatten_results_dict", [](const ordered_json& input, const ordered_json& expect) {
    const auto flat = flatten_results_dict(to_value(input.at("results")).as_dict());
    ASSERT_EQ(flat.size(), expect.size());
    for (std::size_t i = 0; i < flat.size(); ++i) {
      EXPECT_EQ(flat[i].first, expect[i][0].get<std::string>());
      EXPECT_EQ(flat[i].second, reference_double(expect[i][1]));
    }
  });
}

TEST(ReferenceHooks, PrintCsvFormat) {
  each_hooks_case("print_csv_format", [](const ordered_json& input, const ordered_json& expect) {
    std::vector<std::string> lines;
    const LogCapture capture([&](LogLevel, std::string_view line) { lines.emplace_back(line); });
    print_csv_format(to_value(input.at("results")).as_dict());
    EXPECT_EQ(lines, expect.get<std::vector<std::string>>());
  });
}

}  // namespace
}  // namespace treadle
