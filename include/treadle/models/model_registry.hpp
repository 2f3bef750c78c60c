#pragma once

#include <treadle/base/registry.hpp>
#include <treadle/models/image_classifier.hpp>
#include <treadle/models/scripted_model.hpp>

#include <functional>
#include <memory>

namespace treadle {

/// What a model may be built from: the options of the built-in models, and the settings of the run as nested Dicts
/// ({"MODEL": …, "TREADLE": …}) for a program's own models.
struct ModelOptions {
  ImageClassifierOptions classifier{};
  ScriptedModelOptions scripted{};
  Dict settings{};
};

/// Name → a function that builds a model. "ImageClassifier" and "ScriptedModel" are there from the start; programs add their own
/// before a run begins.
using ModelFactory = std::function<std::shared_ptr<Model>(const ModelOptions&)>;
Registry<ModelFactory>& model_registry();

/// A network that gives logits [N, num_classes] for images [N, C, H, W], and the function that runs it.
struct Backbone {
  std::shared_ptr<torch::nn::Module> module;
  std::function<at::Tensor(const at::Tensor&)> forward;
};
/// Name → a function that builds a backbone. "SmallCnn", "MLP", "ResNet" and, the same under Detectron2's name,
/// "build_resnet_backbone" are there from the start.
using BackboneFactory = std::function<Backbone(const BackboneOptions&)>;
Registry<BackboneFactory>& backbone_registry();

/// A normalization layer for [N, channels, H, W], and the function that runs it.
struct Norm {
  std::shared_ptr<torch::nn::Module> module;
  std::function<at::Tensor(const at::Tensor&)> forward;
};
/// Name → a function that builds a norm for a number of channels. "BN", "FrozenBN", "GN" (32 groups), "SyncBN" and, the same
/// under Detectron2's other name, "nnSyncBN" are there from the start. The last two train once `set_sync_batch_norm_group` was
/// called.
using NormFactory = std::function<Norm(std::int64_t channels)>;
Registry<NormFactory>& norm_registry();

}  // namespace treadle
