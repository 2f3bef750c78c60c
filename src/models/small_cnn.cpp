#include <models/image_size.hpp>
#include <models/small_cnn.hpp>

#include <ATen/ops/empty.h>
#include <ATen/ops/max_pool2d.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/linear.h>

namespace treadle {
namespace {

class SmallCnn final : public torch::nn::Module {
 public:
  explicit SmallCnn(const BackboneOptions& options)
      : Module("SmallCnn"), image_size_(options.image_size), pooled_(options.image_size / 2 / 2) {
    conv1_ = register_module("conv1", conv3x3(options.in_channels, 32));
    norm1_ = add_norm("norm1", 32, options);
    conv2_ = register_module("conv2", conv3x3(32, 64));
    norm2_ = add_norm("norm2", 64, options);
    dropout_ = register_module("dropout", torch::nn::Dropout(options.dropout));
    hidden_ = register_module("hidden", torch::nn::Linear(64 * pooled_ * pooled_, 128));
    output_ = register_module("output", torch::nn::Linear(128, options.num_classes));
  }

  at::Tensor forward(const at::Tensor& image) {
    if (image.size(2) / 2 / 2 != pooled_ || image.size(3) / 2 / 2 != pooled_) throw_wrong_size(image, image_size_);
    // LibTorch's convolutions on the CPU are a third faster on channels-last images. The copy sets the strides even where there
    // is one channel and both orders are the same bytes.
    at::Tensor x = at::empty(image.sizes(), image.options().memory_format(c10::MemoryFormat::ChannelsLast)).copy_(image);
    x = at::max_pool2d(norm1_(conv1_(x)).relu_(), 2);
    x = at::max_pool2d(norm2_(conv2_(x)).relu_(), 2);
    x = hidden_(dropout_(x.flatten(1))).relu_();
    return output_(dropout_(x));
  }

 private:
  std::function<at::Tensor(const at::Tensor&)> add_norm(const std::string& name, std::int64_t channels,
                                                        const BackboneOptions& options) {
    Norm norm = norm_registry().get(options.sync_batch_norm ? "SyncBN" : "BN")(channels);
    register_module(name, std::move(norm.module));
    return std::move(norm.forward);
  }

  // Batch norm follows and has a bias of its own.
  static torch::nn::Conv2d conv3x3(std::int64_t in, std::int64_t out) {
    return torch::nn::Conv2d(torch::nn::Conv2dOptions(in, out, 3).padding(1).bias(false));
  }

  std::int64_t image_size_, pooled_;
  torch::nn::Conv2d conv1_{nullptr}, conv2_{nullptr};
  std::function<at::Tensor(const at::Tensor&)> norm1_, norm2_;
  torch::nn::Dropout dropout_{nullptr};
  torch::nn::Linear hidden_{nullptr}, output_{nullptr};
};

}  // namespace

Backbone make_small_cnn(const BackboneOptions& options) {
  validate(options);
  auto module = std::make_shared<SmallCnn>(options);
  return {module, [network = module.get()](const at::Tensor& image) { return network->forward(image); }};
}

}  // namespace treadle
