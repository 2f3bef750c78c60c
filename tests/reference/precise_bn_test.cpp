#include <treadle/base/errors.hpp>
#include <treadle/hooks/bn_stats.hpp>

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include <cmath>
#include <map>
#include <regex>

#include "tests/reference/numbers.hpp"
#include "tests/reference/reference_cases.hpp"

// The family `precise_bn`. The kind `frozen_bn` tests a layer of Detectron2, FrozenBatchNorm2d; layers are no part of Treadle.
namespace treadle {
namespace {

using nlohmann::ordered_json;

/// The arrays of a case by name; `state/…`, `batch/…`, `bn_input/<i>/<layer>`.
std::map<std::string, at::Tensor> read_arrays(const ordered_json& data) {
  const auto path = reference_folder() / data.at("bin").get<std::string>();
  std::ifstream file(path, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (bytes.empty()) throw Error("cannot read " + path.string());
  std::map<std::string, at::Tensor> arrays;
  for (const auto& array : data.at("arrays")) {
    const auto type = array[1] == "i64" ? at::kLong : at::kFloat;
    const auto shape = array[2].get<std::vector<std::int64_t>>();
    arrays[array[0]] = at::from_blob(bytes.data() + array[3].get<std::size_t>(), shape, type).clone();
  }
  return arrays;
}

/// The number behind `name=` in a module's arguments as Python prints them; NaN for None.
double argument(const std::string& text, const std::string& name, double absent) {
  std::smatch match;
  if (!std::regex_search(text, match, std::regex(name + R"(=\(?([^,)]+))"))) return absent;
  return match[1] == "None" ? std::nan("") : std::stod(match[1]);
}

struct AnyNorm {
  std::shared_ptr<torch::nn::Module> module;
  std::function<at::Tensor(const at::Tensor&)> forward;
  at::Tensor mean, variance, count;
  std::function<std::optional<double>()> momentum;
};

template <class Holder>
AnyNorm make_norm(std::int64_t features, const std::string& arguments) {
  torch::nn::BatchNormOptions options(features);
  options.eps(argument(arguments, "eps", 1e-5)).affine(arguments.find("affine=False") == std::string::npos);
  const double momentum = argument(arguments, "momentum", 0.1);
  options.momentum(std::isnan(momentum) ? std::nullopt : std::optional(momentum));
  Holder norm(options);
  return {norm.ptr(),
          [norm](const at::Tensor& x) mutable { return norm(x); },
          norm->running_mean,
          norm->running_var,
          norm->num_batches_tracked,
          [norm] { return norm->options.momentum(); }};
}

/// The model of a case: its layers in their order, with the recorded state; a ReLU, which has none, behind each norm but the
/// last.
struct Layers : torch::nn::Module {
  std::vector<std::pair<std::string, std::function<at::Tensor(const at::Tensor&)>>> order;
  std::map<std::string, AnyNorm> norms;

  Layers(const ordered_json& modules, const std::map<std::string, at::Tensor>& arrays) {
    for (const auto& entry : modules) add(entry[0], entry[1], entry[2], entry[3].at("training"), arrays);
    const at::NoGradGuard no_grad;
    for (const auto& parameter : named_parameters()) parameter.value().copy_(arrays.at("state/" + parameter.key()));
    for (const auto& buffer : named_buffers()) buffer.value().copy_(arrays.at("state/" + buffer.key()));
  }

  at::Tensor forward(at::Tensor x) {
    for (std::size_t i = 0; i < order.size(); ++i) {
      x = order[i].second(x);
      if (norms.contains(order[i].first) && i + 1 < order.size()) x = x.relu();
    }
    return x;
  }

 private:
  void add(const std::string& name, const std::string& type, const std::string& arguments, bool training,
           const std::map<std::string, at::Tensor>& arrays) {
    std::shared_ptr<torch::nn::Module> module;
    if (type.find("BatchNorm") != std::string::npos) {
      const std::int64_t features = arrays.at("state/" + name + ".running_mean").numel();
      // In one process a synchronized layer is a plain one.
      AnyNorm norm = type == "BatchNorm1d"   ? make_norm<torch::nn::BatchNorm1d>(features, arguments)
                     : type == "BatchNorm3d" ? make_norm<torch::nn::BatchNorm3d>(features, arguments)
                                             : make_norm<torch::nn::BatchNorm2d>(features, arguments);
      module = norm.module;
      order.emplace_back(name, norm.forward);
      norms[name] = std::move(norm);
    } else {
      const at::Tensor weight = arrays.at("state/" + name + ".weight");
      const bool bias = arrays.contains("state/" + name + ".bias");
      if (type == "Linear") {
        torch::nn::Linear linear(torch::nn::LinearOptions(weight.size(1), weight.size(0)).bias(bias));
        module = linear.ptr();
        order.emplace_back(name, [linear](const at::Tensor& x) mutable { return linear(x); });
      } else if (type == "Conv2d") {
        torch::nn::Conv2d conv(torch::nn::Conv2dOptions(weight.size(1), weight.size(0), {weight.size(2), weight.size(3)})
                                   .stride(static_cast<std::int64_t>(argument(arguments, "stride", 1)))
                                   .padding(static_cast<std::int64_t>(argument(arguments, "padding", 0)))
                                   .bias(bias));
        module = conv.ptr();
        order.emplace_back(name, [conv](const at::Tensor& x) mutable { return conv(x); });
      } else {
        throw Error("unknown layer " + type);
      }
    }
    register_module(name, module);
    module->train(training);
  }
};

void expect_numbers(const at::Tensor& tensor, const ordered_json& expected, double tolerance, const std::string& what) {
  const std::vector<double> numbers = reference_doubles(expected);
  ASSERT_EQ(tensor.numel(), std::ssize(numbers)) << what;
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    const double ours = tensor[i].item<double>(), theirs = numbers[static_cast<std::size_t>(i)];
    if (tolerance == 0) {
      EXPECT_TRUE(same_number(ours, theirs)) << what << " " << i << ": " << ours << " for " << theirs;
    } else {
      EXPECT_NEAR(ours, theirs, tolerance * std::max(1.0, std::abs(theirs))) << what << " " << i;
    }
  }
}

void expect_layers(const Layers& layers, const ordered_json& expected, double tolerance) {
  for (const auto& [name, numbers] : expected.items()) {
    const AnyNorm& norm = layers.norms.at(name);
    expect_numbers(norm.mean, numbers.at("running_mean"), tolerance, name + ".running_mean");
    expect_numbers(norm.variance, numbers.at("running_var"), tolerance, name + ".running_var");
    EXPECT_EQ(norm.count.item<std::int64_t>(), numbers.at("num_batches_tracked").get<std::int64_t>()) << name;
    const auto& momentum = numbers.at("momentum");
    EXPECT_EQ(norm.momentum(), momentum.is_null() ? std::nullopt : std::optional(reference_double(momentum))) << name;
  }
}

/// Every layer is given the input that it had in Python, so that no bit depends on how this machine multiplies matrices.
void run_update(const ordered_json& test) {
  const ordered_json& input = test.at("input");
  const auto arrays = read_arrays(input.at("data"));
  Layers layers(input.at("modules"), arrays);
  const auto num_iters = input.at("num_iters").get<std::int64_t>(), batches = input.at("n_batches").get<std::int64_t>();
  const bool fails = test.at("expect").contains("raised") && !test.at("expect").at("raised").is_null();
  std::int64_t drawn = 0;
  const auto forward = [&] {
    if (drawn == batches) throw Error("the batches ended");
    for (auto& [name, norm] : layers.norms) {
      const auto found = arrays.find("bn_input/" + std::to_string(drawn) + "/" + name);
      if (found == arrays.end()) continue;
      norm.forward(found->second);
      // What else raises there is a layer that is used twice.
      if (fails && num_iters <= batches) norm.forward(found->second);
    }
    ++drawn;
  };
  EXPECT_EQ(hooks::count_bn_layers(layers), input.at("bn_layers").size());
  if (!fails) {
    hooks::update_bn_stats(layers, forward, num_iters);
    expect_layers(layers, test.at("expect").at("result"), 0);
    return;
  }
  // Mended by the rule "a failure changes nothing".
  EXPECT_THROW(hooks::update_bn_stats(layers, forward, num_iters), Error);
  expect_layers(layers, input.at("before"), 0);
}

void run_ema(const ordered_json& test) {
  const auto arrays = read_arrays(test.at("input").at("data"));
  Layers layers(test.at("input").at("modules"), arrays);
  const at::NoGradGuard no_grad;
  layers.train();
  // Matrix products differ in their last bits from one CPU to another.
  const double tolerance = layers.order.size() == layers.norms.size() ? 0 : 1e-5;
  const auto& rows = test.at("expect").at("per_batch");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    layers.forward(arrays.at("batch/" + std::to_string(i)));
    expect_layers(layers, rows[i], tolerance);
  }
  layers.eval();
  const at::Tensor output = layers.forward(arrays.at("batch/0")), expected = arrays.at("eval_output_of_batch_0");
  EXPECT_TRUE(output.allclose(expected, tolerance == 0 ? 0 : 1e-4, tolerance));
}

TEST(ReferencePreciseBN, EveryCase) {
  // The cases were recorded with one: several sum in another order.
  at::set_num_threads(1);
  std::size_t cases = 0;
  for (const ordered_json& test : reference_cases("precise_bn")) {
    SCOPED_TRACE(test.at("id").get<std::string>());
    const std::string kind = test.at("kind");
    if (kind == "frozen_bn") continue;
    if (kind == "update_bn_stats")
      run_update(test);
    else if (kind == "ema")
      run_ema(test);
    else
      ADD_FAILURE() << "unknown kind " << kind;
    ++cases;
  }
  EXPECT_GT(cases, 0U);
}

}  // namespace
}  // namespace treadle
