#pragma once

#include <treadle/models/model_registry.hpp>

namespace treadle {

/// Two 3x3 convolutions (32 and 64 channels, each with batch norm, ReLU and 2x2 max pooling) and two linear layers (128 hidden
/// units).
Backbone make_small_cnn(const BackboneOptions& options);

}  // namespace treadle
