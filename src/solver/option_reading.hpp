#pragma once

#include <treadle/base/value_view.hpp>

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>

namespace treadle {

/// A number of Python's, which may also stand in a tensor of one element.
inline double read_number(const ValueView& view) {
  if (!view.is(Value::Type::tensor)) return view.as_double();
  if (view.as_tensor().numel() != 1) view.fail("expected one number, found a tensor of another size");
  return view.as_tensor().item<double>();
}

inline void read_option(const ValueView& view, double& field) {
  field = read_number(view);
  if (std::isnan(field)) view.fail("is not a number");
}
inline void read_option(const ValueView& view, bool& field) { field = view.as_bool(); }
inline void read_option(const ValueView& view, std::int64_t& field) { field = view.as_int(); }
inline void read_option(const ValueView& view, std::string& field) { field = view.as_string(); }
inline void read_option(const ValueView& view, std::tuple<double, double>& field) {
  if (view.size() != 2) view.fail("expected two numbers");
  field = {read_number(view.item(0)), read_number(view.item(1))};
}
template <class T>
void read_option(const ValueView& view, std::optional<T>& field) {
  field.reset();
  if (!view.is(Value::Type::null)) read_option(view, field.emplace());
}

}  // namespace treadle
