#include <treadle/base/errors.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/comm/group.hpp>
#include <treadle/models.hpp>

#include <ATen/ops/allclose.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>

#include <set>

namespace treadle {
namespace {

BackboneOptions resnet(std::int64_t depth, ResNetOptions rest = {}) {
  rest.depth = depth;
  if (depth < 50) rest.res2_out_channels = 64;
  return {.name = "ResNet", .in_channels = 3, .num_classes = 7, .resnet = rest};
}

std::vector<int> blocks_of(std::int64_t depth) { return depth == 18 ? std::vector{2, 2, 2, 2} : std::vector{3, 4, 6, 3}; }

/// Detectron2's and torchvision's name of every module with tensors, by their naming rules.
std::vector<std::pair<std::string, std::string>> names_by_rule(std::int64_t depth) {
  std::vector<std::pair<std::string, std::string>> names = {{"stem.conv1", "conv1"}, {"stem.conv1.norm", "bn1"}};
  for (int stage = 0; stage < 4; ++stage) {
    for (int block = 0; block < blocks_of(depth)[static_cast<std::size_t>(stage)]; ++block) {
      const std::string inner = "." + std::to_string(block) + ".";
      const std::string own = "res" + std::to_string(stage + 2) + inner, other = "layer" + std::to_string(stage + 1) + inner;
      if (block == 0 && (stage > 0 || depth >= 50)) {
        names.emplace_back(own + "shortcut", other + "downsample.0");
        names.emplace_back(own + "shortcut.norm", other + "downsample.1");
      }
      for (int conv = 1; conv <= (depth < 50 ? 2 : 3); ++conv) {
        names.emplace_back(own + "conv" + std::to_string(conv), other + "conv" + std::to_string(conv));
        names.emplace_back(own + "conv" + std::to_string(conv) + ".norm", other + "bn" + std::to_string(conv));
      }
    }
  }
  names.emplace_back("linear", "fc");
  return names;
}

std::vector<std::string> tensors_of(const std::string& module) {
  if (module.ends_with("norm")) return {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"};
  if (module == "linear") return {"weight", "bias"};
  return {"weight"};
}

ImageClassifier classifier(const BackboneOptions& backbone) {
  return ImageClassifier({.backbone = backbone,
                          .pixel_mean = std::vector<double>(static_cast<std::size_t>(backbone.in_channels), 0.0),
                          .pixel_std = std::vector<double>(static_cast<std::size_t>(backbone.in_channels), 1.0)});
}

struct ResNets : testing::TestWithParam<std::int64_t> {};
INSTANTIATE_TEST_SUITE_P(Depths, ResNets, testing::Values(18, 34, 50));

TEST_P(ResNets, HasDetectron2sNames) {
  std::set<std::string> expected, found;
  for (const auto& [own, other] : names_by_rule(GetParam())) {
    for (const std::string& tensor : tensors_of(own)) expected.insert(own + "." + tensor);
  }
  const Backbone backbone = backbone_registry().get("build_resnet_backbone")(resnet(GetParam()));
  for (const auto& entry : module_state_dict(*backbone.module)) found.insert(entry.key.string());
  EXPECT_EQ(found, expected);
}

TEST_P(ResNets, TakesTorchvisionsWeights) {
  ImageClassifier model = classifier(resnet(GetParam()));
  const Dict own = module_state_dict(model, model.non_persistent());
  Dict torchvision;
  double number = 0;
  for (const auto& [name, other] : names_by_rule(GetParam())) {
    for (const std::string& tensor : tensors_of(name)) {
      if (tensor == "num_batches_tracked" && GetParam() == 34) continue;  // as in weights of before PyTorch 0.4.1
      const at::Tensor& like = own.at("backbone." + name + "." + tensor).as_tensor();
      torchvision.set(other + "." + tensor, at::full(like.sizes(), ++number, like.options().requires_grad(false)));
    }
  }
  load_module_state_dict(model, model.upgrade_state(torchvision), model.non_persistent());
  number = 0;
  const c10::AutoGradMode no_gradients(false);
  for (const auto& [name, other] : names_by_rule(GetParam())) {
    for (const std::string& tensor : tensors_of(name)) {
      const bool counted = tensor == "num_batches_tracked" && GetParam() == 34;
      const double expected = counted ? 0 : ++number;
      EXPECT_TRUE(own.at("backbone." + name + "." + tensor).as_tensor().eq(expected).all().item<bool>()) << name;
    }
  }
}

/// The network computed from its state by LibTorch's functions alone.
struct ByHand {
  Dict state;
  std::int64_t depth;
  ResNetOptions options;

  at::Tensor at(const std::string& name) const { return state.at(name).as_tensor(); }
  at::Tensor conv(const at::Tensor& x, const std::string& name, int stride, int padding, int dilation = 1) const {
    const at::Tensor y =
        at::conv2d(x, at(name + ".weight"), {}, stride, padding, dilation, x.size(1) / at(name + ".weight").size(1));
    const std::string norm = name + ".norm.";
    return at::batch_norm(y, at(norm + "weight"), at(norm + "bias"), at(norm + "running_mean"), at(norm + "running_var"), false,
                          0.1, 1e-5, false);
  }
  at::Tensor run(at::Tensor x) const {
    x = at::max_pool2d(conv(x, "stem.conv1", 2, 3).relu(), 3, 2, 1);
    for (int stage = 0; stage < 4; ++stage) {
      const bool dilated = stage == 3 && options.res5_dilation == 2;
      for (int i = 0; i < blocks_of(depth)[static_cast<std::size_t>(stage)]; ++i) {
        const std::string name = "res" + std::to_string(stage + 2) + "." + std::to_string(i) + ".";
        const int stride = stage > 0 && i == 0 && !dilated ? 2 : 1, first = options.stride_in_1x1 ? stride : 1;
        at::Tensor y;
        if (depth < 50) {
          y = conv(conv(x, name + "conv1", stride, 1).relu(), name + "conv2", 1, 1);
        } else {
          y = conv(x, name + "conv1", first, 0).relu();
          y = conv(y, name + "conv2", stride / first, dilated ? 2 : 1, dilated ? 2 : 1).relu();
          y = conv(y, name + "conv3", 1, 0);
        }
        const bool projected = state.contains(name + "shortcut.weight");
        x = (y + (projected ? conv(x, name + "shortcut", stride, 0) : x)).relu();
      }
    }
    return at::linear(x.mean({2, 3}), at("linear.weight"), at("linear.bias"));
  }
};

TEST(ResNet, ComputesWhatItsOptionsSay) {
  const ResNetOptions plain, msra{.stride_in_1x1 = true}, dilated{.res5_dilation = 2},
      next{.num_groups = 4, .width_per_group = 8}, frozen{.norm = "FrozenBN"};
  for (const auto& [depth, rest] : std::vector<std::pair<std::int64_t, ResNetOptions>>{
           {18, plain}, {50, plain}, {50, msra}, {50, dilated}, {50, next}, {50, frozen}}) {
    seed_everything(3);
    const Backbone backbone = backbone_registry().get("ResNet")(resnet(depth, rest));
    set_training(*backbone.module, false);
    const c10::AutoGradMode no_gradients(false);
    const Dict state = module_state_dict(*backbone.module);
    for (const auto& entry : state) {
      at::Tensor tensor = entry.value.as_tensor();
      if (entry.key.string().find("norm") != std::string::npos && tensor.is_floating_point())
        tensor.copy_(at::rand(tensor.sizes()) + 0.5);
    }
    const at::Tensor image = at::randn({2, 3, 65, 65}), expected = ByHand{state, depth, rest}.run(image);
    const at::Tensor found = backbone.forward(image);
    EXPECT_TRUE(at::allclose(found, expected, 1e-3, 1e-3 * expected.abs().max().item<double>())) << depth;
  }
}

TEST(ResNet, FrozenStagesKeepTheirWeights) {
  for (std::int64_t freeze_at = 0; freeze_at <= 5; ++freeze_at) {
    const Backbone backbone = backbone_registry().get("ResNet")(resnet(18, {.freeze_at = freeze_at}));
    for (const NamedTensor& parameter : named_parameters(*backbone.module)) {
      const bool stem = parameter.name.starts_with("stem");
      const std::int64_t stage = stem ? 1 : parameter.name.starts_with("res") ? parameter.name[3] - '0' : 99;
      EXPECT_EQ(parameter.tensor.requires_grad(), stage > freeze_at) << parameter.name;
      EXPECT_FALSE(stage <= freeze_at && parameter.name.find("norm") != std::string::npos) << parameter.name;  // a buffer
    }
    EXPECT_EQ(module_state_dict(*backbone.module).size(),
              module_state_dict(*backbone_registry().get("ResNet")(resnet(18)).module).size());
  }
}

TEST(ResNet, NormsAreThoseOfTheRegistry) {
  const auto keys = [](const char* norm) {
    return module_state_dict(*backbone_registry().get("ResNet")(resnet(18, {.norm = norm})).module);
  };
  EXPECT_TRUE(keys("BN").contains("res2.0.conv1.norm.num_batches_tracked"));
  EXPECT_FALSE(keys("FrozenBN").contains("res2.0.conv1.norm.num_batches_tracked"));
  EXPECT_TRUE(keys("FrozenBN").contains("res2.0.conv1.norm.running_var"));
  EXPECT_FALSE(keys("GN").contains("res2.0.conv1.norm.running_var"));
  EXPECT_TRUE(keys("GN").contains("res2.0.conv1.norm.weight"));
  EXPECT_FALSE(keys("").contains("res2.0.conv1.norm.weight"));
  EXPECT_THROW(keys("BNN"), ConfigError);
  // 32 groups: the mean over each is 0, and the square 1.
  const Norm norm = norm_registry().get("GN")(64);
  const at::Tensor groups = norm.forward(at::randn({2, 64, 5, 5}) * 3 + 1).detach().view({2, 32, 50});
  EXPECT_TRUE(at::allclose(groups.mean(2), at::zeros({2, 32}), 0, 1e-5));
  EXPECT_TRUE(at::allclose(groups.square().mean(2), at::ones({2, 32}), 1e-3));
}

TEST(SyncBatchNorm, IsBuiltByNameOrInPlaceOfBatchNorm) {
  const std::shared_ptr<Group> group = make_single_process_group();
  const auto count = [&](const char* backbone, BackboneOptions options) {
    return set_sync_batch_norm_group(*backbone_registry().get(backbone)(options).module, group);
  };
  const BackboneOptions plain = resnet(18, {.norm = "BN"});
  BackboneOptions sync = plain;
  sync.sync_batch_norm = true;
  EXPECT_EQ(count("ResNet", plain), 0u);
  EXPECT_EQ(count("ResNet", sync), 20u) << "one for each convolution";
  for (const char* name : {"SyncBN", "nnSyncBN"}) {
    EXPECT_EQ(count("ResNet", resnet(18, {.norm = name})), 20u) << name;
    EXPECT_EQ(count("ResNet", resnet(18, {.norm = name, .freeze_at = 2})), 15u) << name << ": the stem and res2 are frozen";
  }
  BackboneOptions frozen = resnet(18, {.norm = "FrozenBN"});
  frozen.sync_batch_norm = true;
  EXPECT_EQ(count("ResNet", frozen), 0u);
  EXPECT_EQ(count("SmallCnn", {}), 0u);
  EXPECT_EQ(count("SmallCnn", {.sync_batch_norm = true}), 2u);
  const auto keys = [](const BackboneOptions& options) {
    std::vector<std::string> names;
    for (const auto& entry : module_state_dict(*backbone_registry().get("ResNet")(options).module))
      names.push_back(entry.key.string());
    return names;
  };
  EXPECT_EQ(keys(sync), keys(plain));
}

TEST(SyncBatchNorm, TrainsOnceItHasAGroup) {
  SyncBatchNorm norm(torch::nn::BatchNorm2dOptions(3));
  torch::nn::BatchNorm2d plain(3);
  const at::Tensor x = at::randn({4, 3, 5, 5});
  EXPECT_THROW(norm(x), Error);
  norm->eval();
  plain->eval();
  EXPECT_TRUE(norm(x).equal(plain(x)));
  norm->train();
  plain->train();
  EXPECT_THROW(norm->set_group(nullptr), Error);
  EXPECT_EQ(set_sync_batch_norm_group(*norm, make_single_process_group()), 1u);
  EXPECT_TRUE(norm(x).equal(plain(x)));
}

TEST(ResNet, OptionsOutOfRangeAreNamed) {
  const auto field = [](ResNetOptions options) {
    try {
      validate(options);
    } catch (const ConfigError& error) {
      return error.key();
    }
    return std::string();
  };
  EXPECT_EQ(field({}), "");
  EXPECT_EQ(field({.depth = 20}), "ResNetOptions.depth");
  EXPECT_EQ(field({.freeze_at = 6}), "ResNetOptions.freeze_at");
  EXPECT_EQ(field({.stem_out_channels = 0}), "ResNetOptions.stem_out_channels");
  EXPECT_EQ(field({.depth = 18}), "ResNetOptions.res2_out_channels");
  EXPECT_EQ(field({.res2_out_channels = 0}), "ResNetOptions.res2_out_channels");
  EXPECT_EQ(field({.num_groups = 0}), "ResNetOptions.num_groups");
  EXPECT_EQ(field({.depth = 34, .res2_out_channels = 64, .num_groups = 2}), "ResNetOptions.num_groups");
  EXPECT_EQ(field({.width_per_group = 0}), "ResNetOptions.width_per_group");
  EXPECT_EQ(field({.res5_dilation = 3}), "ResNetOptions.res5_dilation");
}

TEST(FrozenBatchNorm, IsBatchNormWithFixedNumbers) {
  FrozenBatchNorm2d norm(4, 0.25);
  EXPECT_TRUE(norm.parameters().empty());
  const Dict state = module_state_dict(norm);
  EXPECT_EQ(state.size(), 4u);
  EXPECT_EQ(state.at("running_var").as_tensor()[0].item<float>(), 0.75f);
  for (const auto& entry : state) {
    at::Tensor tensor = entry.value.as_tensor();
    tensor.copy_(at::rand({4}) + 0.5);
  }
  const at::Tensor x = at::randn({2, 4, 3, 3});
  const auto channel = [&](const char* name) { return state.at(name).as_tensor().view({1, 4, 1, 1}); };
  const at::Tensor expected =
      (x - channel("running_mean")) / (channel("running_var") + 0.25).sqrt() * channel("weight") + channel("bias");
  EXPECT_TRUE(at::allclose(norm.forward(x), expected, 1e-5, 1e-5));
  at::Tensor with_gradient = x.clone().set_requires_grad(true);
  const at::Tensor y = norm.forward(with_gradient);
  EXPECT_TRUE(at::allclose(y, expected, 1e-5, 1e-5));
  y.sum().backward();
  EXPECT_TRUE(
      at::allclose(with_gradient.grad(), (channel("weight") / (channel("running_var") + 0.25).sqrt()).expand_as(x), 1e-5));
  norm.train();
  EXPECT_TRUE(at::allclose(norm.forward(x), expected, 1e-5, 1e-5));
}

TEST(FrozenBatchNorm, EarlierVersionsLackStatistics) {
  FrozenBatchNorm2d norm(2);
  const Dict early{{"weight", at::full({2}, 3.0f)}, {"bias", at::full({2}, 4.0f)}, {"num_batches_tracked", at::full({}, 5)}};
  load_module_state_dict(norm, upgrade_batch_norms(norm, early));
  const Dict state = module_state_dict(norm);
  EXPECT_EQ(state.at("weight").as_tensor()[1].item<float>(), 3);
  EXPECT_EQ(state.at("running_mean").as_tensor()[1].item<float>(), 0);
  EXPECT_EQ(state.at("running_var").as_tensor()[1].item<float>(), 1);
  EXPECT_FALSE(upgrade_batch_norms(norm, Dict{}).contains("running_mean"));
  FrozenBatchNorm2d counting(2, 1e-5, true);
  EXPECT_TRUE(upgrade_batch_norms(counting, early).contains("num_batches_tracked"));
  // Caffe2's models hold weight and bias alone; Python's batch norm has counted nothing then, and does not call it missing.
  const torch::nn::BatchNorm2d ordinary(2);
  const Dict caffe2{{"weight", at::full({2}, 3.0f)}, {"bias", at::full({2}, 4.0f)}};
  EXPECT_EQ(upgrade_batch_norms(*ordinary, caffe2).at("num_batches_tracked").as_tensor().item<std::int64_t>(), 0);
  EXPECT_FALSE(upgrade_batch_norms(*ordinary, Dict{}).contains("num_batches_tracked"));
}

TEST(Mlp, IsLinearLayersWithReluBetween) {
  seed_everything(4);
  const Backbone backbone =
      backbone_registry().get("MLP")({.in_channels = 2, .image_size = 5, .num_classes = 3, .dropout = 0.5, .hidden = {6, 4}});
  const Dict state = module_state_dict(*backbone.module);
  const auto layer = [&](const at::Tensor& x, const std::string& name) {
    return at::linear(x, state.at(name + ".weight").as_tensor(), state.at(name + ".bias").as_tensor());
  };
  const c10::AutoGradMode no_gradients(false);
  const at::Tensor image = at::randn({7, 2, 5, 5});
  const at::Tensor expected = layer(layer(layer(image.flatten(1), "linear1").relu(), "linear2").relu(), "output");
  EXPECT_FALSE(backbone.forward(image).equal(expected));  // dropout
  set_training(*backbone.module, false);
  EXPECT_TRUE(backbone.forward(image).equal(expected));
  EXPECT_EQ(module_state_dict(*backbone_registry().get("MLP")({.hidden = {}}).module).size(), 2u);
  EXPECT_THROW(validate(BackboneOptions{.hidden = {0}}), ConfigError);
}

}  // namespace
}  // namespace treadle
