#pragma once

#include <c10/core/ScalarType.h>

#include <optional>
#include <string_view>

namespace treadle {

/// The dtype that Python calls `torch.<name>` ("float32"; aliases such as "float" too).
std::optional<c10::ScalarType> dtype_of_name(std::string_view name);
/// The name of `torch.<name>`; empty for a dtype that cannot be saved (quantized ones of less than 8 bits).
std::string_view name_of_dtype(c10::ScalarType dtype);

/// The dtype of the class `torch.<name>` ("FloatStorage").
std::optional<c10::ScalarType> dtype_of_storage_class(std::string_view name);
/// The class `torch.<name>` for storages of `dtype`; empty for dtypes younger than typed storages.
std::string_view storage_class_of_dtype(c10::ScalarType dtype);

/// The dtype for a numpy type string ("f4", "i8", "b1"); nothing for types that tensors lack (objects, text, times).
std::optional<c10::ScalarType> dtype_of_numpy(std::string_view name);

/// The size of the unit whose bytes are reversed between byte orders: half the element for complex numbers.
std::size_t swap_unit(c10::ScalarType dtype);

}  // namespace treadle
