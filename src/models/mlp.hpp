#pragma once

#include <treadle/models/model_registry.hpp>

namespace treadle {

/// Linear layers with ReLU between them, on the flattened image: "linear1", "linear2", …, "output", with dropout before the last.
Backbone make_mlp(const BackboneOptions& options);

}  // namespace treadle
