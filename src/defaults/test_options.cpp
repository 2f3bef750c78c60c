// What the config says to the room `evaluation`.
#include <treadle/base/errors.hpp>
#include <treadle/defaults/options.hpp>
#include <treadle/evaluation/results.hpp>

namespace treadle {
namespace {

std::optional<ExpectedResult> expected_result(const Value& row) {
  const List* list = row.is(Value::Type::list) ? &row.as_list() : nullptr;
  const Tuple* tuple = row.is(Value::Type::tuple) ? &row.as_tuple() : nullptr;
  const auto item = [&](std::size_t i) -> const Value& { return list != nullptr ? (*list)[i] : (*tuple)[i]; };
  const std::size_t size = list != nullptr ? list->size() : tuple != nullptr ? tuple->size() : 0;
  const auto is_number = [](const Value& value) { return value.is(Value::Type::integer) || value.is(Value::Type::real); };
  if (size != 4 || !item(0).is(Value::Type::string) || !item(1).is(Value::Type::string) || !is_number(item(2)) ||
      !is_number(item(3)) || !(item(3).as_double() >= 0)) {
    return std::nullopt;
  }
  return ExpectedResult{item(0).as_string(), item(1).as_string(), item(2).as_double(), item(3).as_double()};
}

}  // namespace

std::vector<ExpectedResult> expected_results(const Config& config) {
  const char* const key = "TEST.EXPECTED_RESULTS";
  const Value& value = config.at(key);
  std::vector<ExpectedResult> results;
  const auto add = [&](const auto& rows) {
    for (const Value& row : rows) {
      const auto result = expected_result(row);
      if (!result)
        config.fail(key, "expected a list of [task, metric, value, tolerance], as [\"classification\", \"accuracy\", 91.5, 0.5]");
      results.push_back(*result);
    }
  };
  if (value.is(Value::Type::list)) {
    add(value.as_list());
  } else if (value.is(Value::Type::tuple)) {
    add(value.as_tuple());
  } else {
    config.fail(key, "expected a list");
  }
  return results;
}

}  // namespace treadle
