#include <models/resnet.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/models/frozen_batch_norm.hpp>

#include <ATen/ops/adaptive_avg_pool2d.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/max_pool2d.h>
#include <fmt/format.h>
#include <torch/nn/init.h>
#include <torch/nn/modules/linear.h>

#include <array>
#include <map>

namespace treadle {
namespace {

void require(bool holds, const std::string& field, const std::string& range) {
  if (!holds) throw ConfigError(fmt::format("ResNetOptions.{} must be {}", field, range), "ResNetOptions." + field);
}

const std::array<std::int64_t, 4>* blocks_of(std::int64_t depth) {
  static const std::map<std::int64_t, std::array<std::int64_t, 4>> blocks = {
      {18, {2, 2, 2, 2}}, {34, {3, 4, 6, 3}}, {50, {3, 4, 6, 3}}, {101, {3, 4, 23, 3}}, {152, {3, 8, 36, 3}}};
  const auto found = blocks.find(depth);
  return found == blocks.end() ? nullptr : &found->second;
}

/// What all convolutions of a network, or of a frozen stage, have in common.
struct Style {
  std::string norm;
  bool frozen = false;
};

struct Shape {
  std::int64_t in, out, kernel, stride = 1, dilation = 1, groups = 1;
};

Norm make_norm(const Style& style, std::int64_t channels) {
  if (style.norm.empty()) return {};
  const bool batch_norm = style.norm == "BN" || style.norm == "SyncBN" || style.norm == "nnSyncBN";
  if (!style.frozen || !batch_norm) return norm_registry().get(style.norm)(channels);
  auto module = std::make_shared<FrozenBatchNorm2d>(channels, 1e-5, /*counts=*/true);
  return {module, [norm = module.get()](const at::Tensor& x) { return norm->forward(x); }};
}

/// A convolution without bias and the norm behind it.
class ConvNorm final : public torch::nn::Module {
 public:
  ConvNorm(const Shape& shape, const Style& style) : Module("ConvNorm"), shape_(shape) {
    weight_ = register_parameter("weight", at::empty({shape.out, shape.in / shape.groups, shape.kernel, shape.kernel}));
    torch::nn::init::kaiming_normal_(weight_, 0, torch::kFanOut, torch::kReLU);
    Norm norm = make_norm(style, shape.out);
    if (norm.module) register_module("norm", norm.module);
    norm_ = std::move(norm.forward);
    if (style.frozen) {
      for (at::Tensor& parameter : parameters()) parameter.set_requires_grad(false);
    }
  }

  at::Tensor operator()(const at::Tensor& x) const {
    const std::int64_t padding = shape_.dilation * (shape_.kernel / 2);
    const at::Tensor y = at::conv2d(x, weight_, {}, shape_.stride, padding, shape_.dilation, shape_.groups);
    return norm_ ? norm_(y) : y;
  }

 private:
  Shape shape_;
  at::Tensor weight_;
  std::function<at::Tensor(const at::Tensor&)> norm_;
};

/// Convolutions with ReLU between them, and a way past them.
class Block final : public torch::nn::Module {
 public:
  Block(const std::vector<Shape>& convolutions, std::int64_t stride, const Style& style) : Module("Block") {
    const std::int64_t in = convolutions.front().in, out = convolutions.back().out;
    if (in != out) shortcut_ = register_module("shortcut", std::make_shared<ConvNorm>(Shape{in, out, 1, stride}, style));
    for (const Shape& shape : convolutions) {
      const std::string name = "conv" + std::to_string(path_.size() + 1);
      path_.push_back(register_module(name, std::make_shared<ConvNorm>(shape, style)));
    }
  }

  at::Tensor operator()(const at::Tensor& x) const {
    at::Tensor y = (*path_.front())(x);
    for (std::size_t i = 1; i < path_.size(); ++i) y = (*path_[i])(y.relu_());
    y += shortcut_ ? (*shortcut_)(x) : x;
    return y.relu_();
  }

 private:
  std::shared_ptr<ConvNorm> shortcut_;
  std::vector<std::shared_ptr<ConvNorm>> path_;
};

class ResNet final : public torch::nn::Module {
 public:
  explicit ResNet(const BackboneOptions& options) : Module("ResNet") {
    ResNetOptions resnet = options.resnet;
    if (options.sync_batch_norm && resnet.norm == "BN") resnet.norm = "SyncBN";
    auto stem = std::make_shared<Module>("BasicStem");
    stem_ = stem->register_module("conv1", std::make_shared<ConvNorm>(Shape{options.in_channels, resnet.stem_out_channels, 7, 2},
                                                                      Style{resnet.norm, resnet.freeze_at >= 1}));
    register_module("stem", stem);
    std::int64_t in = resnet.stem_out_channels;
    for (std::int64_t stage = 0; stage < 4; ++stage) add_stage(resnet, stage, in);
    linear_ = register_module("linear", torch::nn::Linear(in, options.num_classes));
    torch::nn::init::normal_(linear_->weight, 0, 0.01);
  }

  at::Tensor forward(const at::Tensor& image) {
    // LibTorch's convolutions on the CPU are faster on channels-last images.
    at::Tensor x = at::empty(image.sizes(), image.options().memory_format(c10::MemoryFormat::ChannelsLast)).copy_(image);
    x = at::max_pool2d((*stem_)(x).relu_(), 3, 2, 1);
    for (const auto& block : blocks_) x = (*block)(x);
    return linear_(at::adaptive_avg_pool2d(x, {1, 1}).flatten(1));
  }

 private:
  /// `in` is the number of channels that come in, and then of those that go out.
  void add_stage(const ResNetOptions& resnet, std::int64_t stage, std::int64_t& in) {
    const Style style{resnet.norm, resnet.freeze_at >= stage + 2};
    const std::int64_t out = resnet.res2_out_channels << stage, width = (resnet.num_groups * resnet.width_per_group) << stage;
    const std::int64_t dilation = stage == 3 ? resnet.res5_dilation : 1;
    auto module = std::make_shared<Module>("Stage");
    for (std::int64_t i = 0; i < (*blocks_of(resnet.depth))[static_cast<std::size_t>(stage)]; ++i) {
      const std::int64_t stride = i == 0 && stage > 0 && dilation == 1 ? 2 : 1;
      const std::int64_t in_1x1 = resnet.stride_in_1x1 ? stride : 1, in_3x3 = resnet.stride_in_1x1 ? 1 : stride;
      const std::vector<Shape> shapes =
          resnet.depth < 50
              ? std::vector<Shape>{{in, out, 3, stride}, {out, out, 3}}
              : std::vector<Shape>{
                    {in, width, 1, in_1x1}, {width, width, 3, in_3x3, dilation, resnet.num_groups}, {width, out, 1}};
      blocks_.push_back(module->register_module(std::to_string(i), std::make_shared<Block>(shapes, stride, style)));
      in = out;
    }
    register_module("res" + std::to_string(stage + 2), module);
  }

  std::shared_ptr<ConvNorm> stem_;
  std::vector<std::shared_ptr<Block>> blocks_;
  torch::nn::Linear linear_{nullptr};
};

void replace(std::string& text, const std::string& from, const std::string& to) {
  if (const std::size_t at = text.find(from); at != std::string::npos) text.replace(at, from.size(), to);
}

/// Detectron2's name for one of torchvision's.
std::string detectron2_name(std::string name) {
  if (name.starts_with("fc.")) return "linear." + name.substr(3);
  if (name.starts_with("layer") && name.size() > 5 && name[5] >= '1' && name[5] <= '4') {
    name = "res" + std::string(1, static_cast<char>(name[5] + 1)) + name.substr(6);
  } else if (name.starts_with("conv1.") || name.starts_with("bn1.")) {
    name.insert(0, "stem.");
  } else {
    return name;
  }
  for (const char number : {'1', '2', '3'})
    replace(name, std::string(".bn") + number + ".", std::string(".conv") + number + ".norm.");
  replace(name, ".downsample.0.", ".shortcut.");
  replace(name, ".downsample.1.", ".shortcut.norm.");
  return name;
}

}  // namespace

void validate(const ResNetOptions& options) {
  const bool basic = options.depth == 18 || options.depth == 34;
  require(blocks_of(options.depth) != nullptr, "depth", "18, 34, 50, 101 or 152");
  require(options.freeze_at >= 0 && options.freeze_at <= 5, "freeze_at", "in 0 … 5");
  require(options.stem_out_channels >= 1, "stem_out_channels", "at least 1");
  require(options.res2_out_channels >= 1, "res2_out_channels", "at least 1");
  require(!basic || options.res2_out_channels == 64, "res2_out_channels", "64 for depths 18 and 34");
  require(options.num_groups >= 1 && (!basic || options.num_groups == 1), "num_groups", "at least 1, and 1 for depths 18 and 34");
  require(options.width_per_group >= 1, "width_per_group", "at least 1");
  require(options.res5_dilation == 1 || (options.res5_dilation == 2 && !basic), "res5_dilation",
          "1 or 2, and 1 for depths 18 and 34");
}

Dict rename_torchvision_resnet(Dict state, const std::string& prefix) {
  if (!state.contains("layer1.0.conv1.weight")) return state;
  Dict renamed;
  for (auto& [key, value] : state)
    renamed.set(key.is_string() ? Key(prefix + detectron2_name(key.string())) : key, std::move(value));
  return renamed;
}

Backbone make_resnet(const BackboneOptions& options) {
  validate(options);
  validate(options.resnet);
  auto module = std::make_shared<ResNet>(options);
  return {module, [network = module.get()](const at::Tensor& image) { return network->forward(image); }};
}

}  // namespace treadle
