#include <models/small_cnn.hpp>
#include <treadle/models/model_registry.hpp>

namespace treadle {

Registry<ModelFactory>& model_registry() {
  static Registry<ModelFactory> registry("model");
  static const bool filled = [] {
    registry.add("ImageClassifier",
                 [](const ModelOptions& options) { return std::make_shared<ImageClassifier>(options.classifier); });
    return true;
  }();
  static_cast<void>(filled);
  return registry;
}

Registry<BackboneFactory>& backbone_registry() {
  static Registry<BackboneFactory> registry("backbone");
  static const bool filled = [] {
    registry.add("SmallCnn", make_small_cnn);
    return true;
  }();
  static_cast<void>(filled);
  return registry;
}

}  // namespace treadle
