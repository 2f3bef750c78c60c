#include <models/mlp.hpp>

#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/linear.h>

namespace treadle {
namespace {

class Mlp final : public torch::nn::Module {
 public:
  explicit Mlp(const BackboneOptions& options) : Module("MLP") {
    std::int64_t in = options.in_channels * options.image_size * options.image_size;
    for (const std::int64_t width : options.hidden) {
      hidden_.push_back(register_module("linear" + std::to_string(hidden_.size() + 1), torch::nn::Linear(in, width)));
      in = width;
    }
    dropout_ = register_module("dropout", torch::nn::Dropout(options.dropout));
    output_ = register_module("output", torch::nn::Linear(in, options.num_classes));
  }

  at::Tensor forward(const at::Tensor& image) {
    at::Tensor x = image.flatten(1);
    for (auto& layer : hidden_) x = layer(x).relu_();
    return output_(dropout_(x));
  }

 private:
  std::vector<torch::nn::Linear> hidden_;
  torch::nn::Dropout dropout_{nullptr};
  torch::nn::Linear output_{nullptr};
};

}  // namespace

Backbone make_mlp(const BackboneOptions& options) {
  validate(options);
  auto module = std::make_shared<Mlp>(options);
  return {module, [network = module.get()](const at::Tensor& image) { return network->forward(image); }};
}

}  // namespace treadle
