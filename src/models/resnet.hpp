#pragma once

#include <treadle/models/model_registry.hpp>

namespace treadle {

/// A ResNet with global average pooling and a linear layer. Names and first weights are Detectron2's.
Backbone make_resnet(const BackboneOptions& options);

}  // namespace treadle
