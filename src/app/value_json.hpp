#pragma once

#include <treadle/base/value.hpp>

#include <nlohmann/json_fwd.hpp>

namespace treadle {

/// A Value as JSON. Lists and tuples are arrays; an integer key is its text; what JSON lacks is text: infinities and NaN, `sha256
/// …` for bytes, a description for a tensor.
nlohmann::ordered_json json_of_value(const Value& value);

/// The text of a JSON answer: indented, bytes that are no UTF-8 replaced, with a line end.
std::string json_text(const nlohmann::ordered_json& json);

}  // namespace treadle
