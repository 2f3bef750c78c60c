#pragma once

#include <treadle/base/errors.hpp>

#include <nlohmann/json.hpp>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

namespace treadle {

/// A number as the reference data write it: a hexadecimal string, {"h", "d"}, or a plain integer.
inline double reference_double(const nlohmann::ordered_json& number) {
  if (number.is_number()) return number.get<double>();
  if (number.is_object()) return reference_double(number.at("h"));
  const std::string& text = number.get_ref<const std::string&>();
  return std::strtod(text.c_str(), nullptr);
}

/// A list of such numbers, which may itself stand as {"h": […]} or {"tuple": […]}.
inline std::vector<double> reference_doubles(const nlohmann::ordered_json& list) {
  if (list.is_object()) return reference_doubles(list.contains("h") ? list["h"] : list.at("tuple"));
  std::vector<double> numbers;
  for (const auto& number : list) numbers.push_back(reference_double(number));
  return numbers;
}

/// True when both have the same bits, or both are NaN.
inline bool same_number(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
}

}  // namespace treadle
