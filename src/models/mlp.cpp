#include <models/image_size.hpp>
#include <models/mlp.hpp>

#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/linear.h>

namespace treadle {
namespace {

class Mlp final : public torch::nn::Module {
 public:
  explicit Mlp(const BackboneOptions& options) : Module("MLP"), image_size_(options.image_size) {
    std::int64_t in = options.in_channels * options.image_size * options.image_size;
    for (const std::int64_t width : options.hidden) {
      hidden_.push_back(register_module("linear" + std::to_string(hidden_.size() + 1), torch::nn::Linear(in, width)));
      in = width;
    }
    dropout_ = register_module("dropout", torch::nn::Dropout(options.dropout));
    output_ = register_module("output", torch::nn::Linear(in, options.num_classes));
  }

  at::Tensor forward(const at::Tensor& image) {
    if (image.size(2) * image.size(3) != image_size_ * image_size_) throw_wrong_size(image, image_size_);
    at::Tensor x = image.flatten(1);
    for (auto& layer : hidden_) x = layer(x).relu_();
    return output_(dropout_(x));
  }

 private:
  std::int64_t image_size_;
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
