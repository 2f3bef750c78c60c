#pragma once

#include <c10/core/ScalarType.h>

namespace treadle {

/// The dtype in which reduce_dict gives back a tensor of `dtype`: one that holds the fraction of an average of whole numbers, and
/// every sum of them.
inline c10::ScalarType reduced_dtype(c10::ScalarType dtype, bool average) {
  if (!c10::isIntegralType(dtype, /*includeBool=*/true)) return dtype;
  return average ? c10::ScalarType::Double : c10::ScalarType::Long;
}

}  // namespace treadle
