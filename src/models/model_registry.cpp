#include <models/mlp.hpp>
#include <models/resnet.hpp>
#include <models/small_cnn.hpp>
#include <treadle/models/model_registry.hpp>

namespace treadle {

Registry<ModelFactory>& model_registry() {
  static Registry<ModelFactory> registry("model");
  static const bool filled = [] {
    registry.add("ImageClassifier",
                 [](const ModelOptions& options) { return std::make_shared<ImageClassifier>(options.classifier); });
    registry.add("ScriptedModel", [](const ModelOptions& options) { return std::make_shared<ScriptedModel>(options.scripted); });
    return true;
  }();
  static_cast<void>(filled);
  return registry;
}

Registry<BackboneFactory>& backbone_registry() {
  static Registry<BackboneFactory> registry("backbone");
  static const bool filled = [] {
    registry.add("SmallCnn", make_small_cnn);
    registry.add("MLP", make_mlp);
    registry.add("ResNet", make_resnet);
    registry.add("build_resnet_backbone", make_resnet);
    return true;
  }();
  static_cast<void>(filled);
  return registry;
}

}  // namespace treadle
