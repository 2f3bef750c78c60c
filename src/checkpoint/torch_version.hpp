#pragma once

#include <torch/version.h>

/// True when the LibTorch that is compiled against is of this version or newer: dtypes came one after the other.
#define TREADLE_TORCH_AT_LEAST(major, minor) \
  (TORCH_VERSION_MAJOR > (major) || (TORCH_VERSION_MAJOR == (major) && TORCH_VERSION_MINOR >= (minor)))
