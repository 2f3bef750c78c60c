#include <app/value_json.hpp>
#include <base/sha256.hpp>

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace treadle {

using Json = nlohmann::ordered_json;

namespace {

template <class Items>
Json array_of(const Items& items) {
  Json array = Json::array();
  for (const Value& item : items) array.push_back(json_of_value(item));
  return array;
}

Json object_of(const Dict& dict) {
  Json object = Json::object();
  for (const auto& [key, value] : dict)
    object[key.is_string() ? key.string() : std::to_string(key.integer())] = json_of_value(value);
  return object;
}

}  // namespace

Json json_of_value(const Value& value) {
  switch (value.type()) {
    case Value::Type::boolean:
      return value.as_bool();
    case Value::Type::integer:
      return value.as_int();
    case Value::Type::real:
      return std::isfinite(value.as_double()) ? Json(value.as_double()) : Json(fmt::format("{}", value.as_double()));
    case Value::Type::string:
      return value.as_string();
    case Value::Type::bytes: {
      Sha256 sum;
      sum.update(value.as_bytes().data.data(), value.as_bytes().data.size());
      return "sha256 " + sum.hex();
    }
    case Value::Type::dict:
      return object_of(value.as_dict());
    case Value::Type::list:
      return array_of(value.as_list());
    case Value::Type::tuple:
      return array_of(value.as_tuple());
    case Value::Type::tensor:
      return describe(value);
    default:
      return nullptr;
  }
}

std::string json_text(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

}  // namespace treadle
