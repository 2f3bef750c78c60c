#pragma once

#include <treadle/base/value.hpp>

#include <string>
#include <string_view>

namespace treadle {

/// A Value as bytes that any process of the same build can read. Tensors lose device, strides and gradient.
/// Throws Error for a tensor that has no dense bytes (sparse, quantized, meta).
std::string encode_value(const Value& value);

/// The Value of `encode_value`. No length in `bytes` is believed: FormatError for anything that `encode_value` does not write.
/// Takes memory in proportion to `bytes`; does not recurse.
Value decode_value(std::string_view bytes);

}  // namespace treadle
