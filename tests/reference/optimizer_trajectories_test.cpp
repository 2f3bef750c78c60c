#include <treadle/base/errors.hpp>
#include <treadle/solver/adamw.hpp>
#include <treadle/solver/optimizer_state.hpp>
#include <treadle/solver/sgd.hpp>
#include <treadle/solver/with_gradient_clipping.hpp>

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/sqrt.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <optional>

#include "tests/reference/numbers.hpp"
#include "tests/reference/run_cases.hpp"

namespace treadle {
namespace {

using Json = nlohmann::ordered_json;

/// The arrays of one case.
class Arrays {
 public:
  explicit Arrays(const Json& expect) {
    std::ifstream file(reference_folder() / expect.at("bin").get<std::string>(), std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
    if (bytes_.empty()) throw Error("cannot read " + expect.at("bin").get<std::string>());
    const Json& arrays = expect.at("arrays");
    if (arrays.is_array()) {
      add(arrays, 0, 0);
      return;
    }
    add(arrays.at("once"), 0, 0);
    for (std::int64_t step = 0; step < arrays.at("steps").get<std::int64_t>(); ++step) {
      add(arrays.at("per_step"), step, arrays.at("step_stride").get<std::int64_t>());
    }
  }

  /// Undefined when there is none of that name.
  at::Tensor find(const std::string& name) const {
    auto found = places_.find(name);
    if (found == places_.end()) return {};
    const Place& place = found->second;
    at::Tensor tensor = at::empty(place.shape, place.type);
    if (place.offset + tensor.nbytes() > bytes_.size()) throw Error("the file ends before " + name);
    std::memcpy(tensor.mutable_data_ptr(), bytes_.data() + place.offset, tensor.nbytes());
    return tensor;
  }

 private:
  struct Place {
    at::ScalarType type;
    std::vector<std::int64_t> shape;
    std::size_t offset;
  };

  void add(const Json& list, std::int64_t step, std::int64_t stride) {
    static const std::map<std::string, at::ScalarType> types = {{"f32", at::kFloat}, {"f64", at::kDouble}, {"i64", at::kLong}};
    for (const Json& entry : list) {
      auto name = entry[0].get<std::string>();
      if (auto mark = name.find("{s}"); mark != std::string::npos) name.replace(mark, 3, std::to_string(step));
      places_[name] = {types.at(entry[1].get<std::string>()), entry[2].get<std::vector<std::int64_t>>(),
                       static_cast<std::size_t>(entry[3].get<std::int64_t>() + step * stride)};
    }
  }

  std::vector<char> bytes_;
  std::map<std::string, Place> places_;
};

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) return false;
  at::Tensor x = a.contiguous(), y = b.contiguous();
  if (std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0) return true;
  // NaN has many representations.
  at::Tensor both = x.isnan().logical_and(y.isnan());
  at::ScalarType bits = x.scalar_type() == at::kDouble ? at::kLong : at::kInt;
  return both.logical_or(x.view(bits).eq(y.view(bits))).all().item<bool>();
}

struct Setup {
  std::map<std::string, at::Tensor> params;
  std::vector<std::string> order;  // of the optimizer's indices
  std::vector<ParamGroup> groups;
  std::unique_ptr<torch::optim::Optimizer> optimizer;
};

Value option(const Json& value) {
  if (value.is_object() && value.contains("tuple"))
    return Tuple{reference_double(value["tuple"][0]), reference_double(value["tuple"][1])};
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_integer()) return value.get<std::int64_t>();
  return reference_double(value);
}

bool is_switch(const std::string& key) {
  return key == "maximize" || key == "foreach" || key == "fused" || key == "capturable" || key == "differentiable" ||
         key == "decoupled_weight_decay";
}

std::vector<ParamGroup> groups_of(const Json& input, const std::map<std::string, at::Tensor>& params) {
  std::vector<ParamGroup> groups;
  for (const Json& group : input.at("groups")) {
    ParamGroup& made = groups.emplace_back();
    for (const Json& name : group.at("params")) {
      made.names.push_back(name.get<std::string>());
      made.params.push_back(params.at(made.names.back()));
    }
    for (const auto& [key, value] : group.at("options").items()) {
      if (!is_switch(key)) made.options.set(key, option(value));
    }
  }
  return groups;
}

template <class Optimizer, class Options>
std::unique_ptr<torch::optim::Optimizer> make(const std::vector<ParamGroup>& groups, const Options& options, const Json& clip) {
  if (clip.is_null()) return std::make_unique<Optimizer>(groups, options);
  GradientClippingOptions clipping{.enabled = true,
                                   .type = clip_type_from_string(clip.at("type").get<std::string>()),
                                   .clip_value = reference_double(clip.at("value"))};
  if (clip.contains("norm_type")) clipping.norm_type = reference_double(clip["norm_type"]);
  return std::make_unique<WithGradientClipping<Optimizer>>(clipping, groups, options);
}

std::unique_ptr<torch::optim::Optimizer> make_optimizer(const Json& input, const std::vector<ParamGroup>& groups) {
  const Json& options = input.at("groups").at(0).at("options");
  bool maximize = options.at("maximize").get<bool>();
  bool fused = options.at("fused").is_boolean() && options["fused"].get<bool>();
  const auto name = input.at("opt").get<std::string>();
  if (name == "SGD") return make<Sgd>(groups, SgdOptions{.maximize = maximize, .fused = fused}, input.at("clip"));
  if (name == "AdamW") return make<AdamW>(groups, AdamOptions{.maximize = maximize, .fused = fused}, input.at("clip"));
  if (name == "Adam") return make<Adam>(groups, AdamOptions{.maximize = maximize, .fused = fused}, input.at("clip"));
  throw std::logic_error("no optimizer " + name);
}

at::Tensor parameter(const at::Tensor& values, bool transposed) {
  if (!transposed || values.dim() < 2) return values.clone();
  return values.transpose(0, 1).contiguous().transpose(0, 1);
}

Setup set_up(const Json& input, const Arrays& arrays, const std::string& prefix = "init/") {
  Setup setup;
  bool transposed = input.value("params_are_transposed_views", false);
  for (const Json& param : input.at("params")) {
    auto name = param[0].get<std::string>();
    at::Tensor values = arrays.find(prefix + name);
    if (!values.defined()) values = arrays.find("init/" + name);  // a frozen parameter is written once
    setup.params[name] = parameter(values, transposed).set_requires_grad(param[2].get<bool>());
  }
  setup.groups = groups_of(input, setup.params);
  for (const ParamGroup& group : setup.groups) setup.order.insert(setup.order.end(), group.names.begin(), group.names.end());
  setup.optimizer = make_optimizer(input, setup.groups);
  return setup;
}

bool is_square_root(const Json& item) {
  return item.at("kind") == "primitive" && item.at("expect").is_object() && item["expect"].contains("n_different_from_ieee_sqrt");
}

/// The default AdamW takes ATen's square root, whose bits depend on the processor; the primitive cases tell about this one.
bool square_root_is_the_recorded_one() {
  static const bool same = [] {
    for (const Json& item : reference_cases("optimizer_trajectories")) {
      if (!is_square_root(item)) continue;
      Arrays arrays(item["expect"]);
      if (!same_bits(at::sqrt(arrays.find("x")), arrays.find("sqrt"))) return false;
    }
    return true;
  }();
  return same;
}

bool needs_recorded_square_root(const Json& item) {
  if (!item.at("kind").get<std::string>().starts_with("trajectory_") || item["kind"] == "trajectory_error")
    return is_square_root(item);
  const Json& input = item.at("input");
  const Json& fused = input.at("groups").at(0).at("options").at("fused");
  return input.at("opt") != "SGD" && !(fused.is_boolean() && fused.get<bool>());
}

void expect_state(const Setup& setup, const Json& final_state, const Arrays& arrays) {
  Dict state = optimizer_state_dict(*setup.optimizer);
  for (std::size_t i = 0; i < setup.order.size(); ++i) {
    const std::string& name = setup.order[i];
    const Value* found = state.at("state").as_dict().find(i);
    if (!final_state.contains(name) || final_state[name].empty()) {
      EXPECT_EQ(found, nullptr) << name;
      continue;
    }
    ASSERT_NE(found, nullptr) << name;
    EXPECT_EQ(found->as_dict().size(), final_state[name].size());
    for (const Json& entry : final_state[name]) {
      auto key = entry[0].get<std::string>();
      EXPECT_TRUE(same_bits(found->as_dict().at(key).as_tensor(), arrays.find("state/" + name + "/" + key)))
          << name << "/" << key;
    }
  }
}

void expect_norms(const Json& norms, const Json& clip, const std::map<std::string, at::Tensor>& grads) {
  double norm_type = clip.contains("norm_type") ? reference_double(clip["norm_type"]) : 2.0;
  if (!norms.is_array()) {
    std::vector<at::Tensor> all;
    for (const auto& [name, grad] : grads) all.push_back(grad);
    EXPECT_TRUE(same_number(total_norm(all, norm_type).item<double>(), reference_double(norms)));
    return;
  }
  for (const Json& norm : norms) {
    EXPECT_TRUE(
        same_number(total_norm({grads.at(norm[0].get<std::string>())}, norm_type).item<double>(), reference_double(norm[1])))
        << norm[0];
  }
}

void set_rates(torch::optim::Optimizer& optimizer, const Json& lrs) {
  for (std::size_t g = 0; g < lrs.size(); ++g) optimizer.param_groups()[g].options().set_lr(reference_double(lrs[g]));
}

void run_trajectory(const Json& input, const Json& expect) {
  Arrays arrays(expect);
  Setup setup = set_up(input, arrays);
  auto steps = input.at("steps").get<std::int64_t>();
  for (std::int64_t s = 0; s < steps; ++s) {
    if (s > 0 && input.contains("resume_after") && s == input["resume_after"].get<std::int64_t>()) {
      Dict saved = deep_clone(optimizer_state_dict(*setup.optimizer));
      setup = set_up(input, arrays, "param/" + std::to_string(s - 1) + "/");
      load_optimizer_state_dict(*setup.optimizer, saved);
    }
    std::string step = std::to_string(s) + "/";
    for (auto& [name, param] : setup.params) {
      at::Tensor grad = arrays.find("grad/" + step + name);
      param.mutable_grad() = grad;
    }
    if (expect.contains("norms")) {
      std::map<std::string, at::Tensor> grads;
      for (const std::string& name : setup.order) {
        if (setup.params.at(name).grad().defined()) grads[name] = setup.params.at(name).grad();
      }
      if (input.at("clip").at("type") != "full_model") expect_norms(expect["norms"].at(s), input["clip"], grads);
    }
    set_rates(*setup.optimizer, expect.at("lrs").at(s));
    setup.optimizer->step();
    if (expect.contains("norms") && input["clip"]["type"] == "full_model") {
      const auto* clipping = dynamic_cast<const ClippingOptimizer*>(setup.optimizer.get());
      ASSERT_NE(clipping, nullptr);
      const std::optional<at::Tensor>& norm = clipping->last_norm();
      ASSERT_TRUE(norm);
      EXPECT_TRUE(same_number(norm->item<double>(), reference_double(expect["norms"].at(s)))) << "step " << s;
    }
    for (auto& [name, param] : setup.params) {
      at::Tensor clipped = arrays.find("clipped/" + step + name);
      if (clipped.defined()) {
        ASSERT_TRUE(same_bits(param.grad(), clipped)) << "clipped gradient of " << name << " in step " << s;
      }
      at::Tensor wanted = arrays.find("param/" + step + name);
      if (wanted.defined()) {
        ASSERT_TRUE(same_bits(param.detach(), wanted)) << name << " after step " << s;
      }
    }
  }
  expect_state(setup, expect.at("final_state"), arrays);
}

/// differences.json: "clipping by value passes over parameters without a gradient" and "a fused step takes parameters that had no
/// gradient before". Python raises in both; nothing is recorded about the numbers.
void run_error(const Json& input, const Json&) {
  std::map<std::string, at::Tensor> params;
  for (const Json& param : input.at("params")) {
    params[param[0].get<std::string>()] =
        at::ones(param[1].get<std::vector<std::int64_t>>()).set_requires_grad(param[2].get<bool>());
  }
  std::vector<ParamGroup> groups = groups_of(input, params);
  auto optimizer = make_optimizer(input, groups);
  for (int step = 0; step < 3; ++step) {
    int index = 0;
    for (auto& [name, param] : params) {
      // In the first step only every other parameter has a gradient.
      bool with_grad = param.requires_grad() && (step > 0 || index++ % 2 == 0);
      param.mutable_grad() = with_grad ? at::ones_like(param) : at::Tensor();
    }
    EXPECT_NO_THROW(optimizer->step()) << "step " << step;
  }
  for (const auto& [name, param] : params) {
    EXPECT_EQ(param.detach().eq(1).all().item<bool>(), !param.requires_grad()) << name;
  }
}

void expect_square_root(const Json& expect) {
  Arrays arrays(expect);
  EXPECT_TRUE(same_bits(at::sqrt(arrays.find("x")), arrays.find("sqrt")));
}

void expect_norm_primitive(const Json& expect) {
  Arrays arrays(expect);
  std::vector<at::Tensor> vectors;
  for (const Json& array : expect.at("arrays")) vectors.push_back(arrays.find(array[0].get<std::string>()));
  for (const Json& result : expect.at("results")) {
    double norm_type = reference_double(result.at("norm_type"));
    for (std::size_t i = 0; i < vectors.size(); ++i) {
      EXPECT_TRUE(same_number(total_norm({vectors[i]}, norm_type).item<double>(), reference_double(result.at("each")[i])))
          << norm_type << " " << i;
    }
    EXPECT_TRUE(same_number(total_norm(vectors, norm_type).item<double>(), reference_double(result.at("all_together"))))
        << norm_type;
  }
}

void expect_clip_factor(const Json& expect) {
  for (const Json& item : expect) {
    at::Tensor grad = at::empty({3}, at::kFloat);
    auto* numbers = grad.mutable_data_ptr<float>();
    numbers[0] = 1;
    numbers[1] = -0.7F;
    numbers[2] = 1e-30F;
    at::Tensor norm = at::empty({}, at::kFloat).fill_(reference_double(item.at("total_norm")));
    clip_grads_with_norm({grad}, reference_double(item.at("max_norm")), norm);
    std::vector<double> wanted = reference_doubles(item.at("grad_after_of_[1,-0.7,1e-30]"));
    for (int i = 0; i < 3; ++i)
      EXPECT_TRUE(same_number(numbers[i], wanted[static_cast<std::size_t>(i)])) << item["max_norm"] << " " << i;
  }
}

void run_primitive(const Json&, const Json& expect) {
  if (expect.is_array()) {
    expect_clip_factor(expect);
  } else if (expect.contains("results")) {
    expect_norm_primitive(expect);
  } else {
    expect_square_root(expect);
  }
}

class OptimizerTrajectories : public testing::Test {
 protected:
  void SetUp() override {
    if (at::get_cpu_capability() == "DEFAULT")
      GTEST_SKIP() << "recorded with AVX2 or AVX512; ATen's plain kernels round differently";
    at::set_num_threads(1);
  }
  static void run(ChooseCase choose) {
    run_cases("optimizer_trajectories",
              {{"trajectory_net", run_trajectory},
               {"trajectory_raw_grads", run_trajectory},
               {"trajectory_error", run_error},
               {"primitive", run_primitive}},
              choose);
  }
};

TEST_F(OptimizerTrajectories, EveryCaseIsEqual) {
  run([](const Json& item) { return !needs_recorded_square_root(item); });
}

TEST_F(OptimizerTrajectories, EveryCaseThatNeedsTheRecordedSquareRootIsEqual) {
  if (!square_root_is_the_recorded_one())
    GTEST_SKIP() << "the bits of ATen's square root depend on the processor, and this one's are not the recorded ones";
  run(needs_recorded_square_root);
}

}  // namespace
}  // namespace treadle
