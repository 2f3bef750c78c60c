#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/solver/adamw.hpp>
#include <treadle/solver/lr_scheduler.hpp>
#include <treadle/solver/optimizer_state.hpp>
#include <treadle/solver/sgd.hpp>

#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/optim/adagrad.h>
#include <torch/optim/lbfgs.h>
#include <torch/optim/rmsprop.h>

#include <functional>
#include <limits>
#include <memory>
#include <set>
#include <string>

namespace treadle {
namespace {

using torch::optim::Optimizer;
using Tensors = std::vector<at::Tensor>;
using Make = std::function<std::unique_ptr<Optimizer>(const Tensors&)>;

Tensors parameters(double value = 1) {
  return {at::full({2, 3}, value).set_requires_grad(true), at::full({4}, value).set_requires_grad(true)};
}

void take_step(Optimizer& optimizer, const Tensors& params) {
  optimizer.step([&] {
    optimizer.zero_grad();
    at::Tensor loss = params[0].pow(2).sum() + (params[1] - 3).pow(4).sum() * 0.1;
    loss.backward();
    return loss;
  });
}

struct Kind {
  const char* name;
  Make make;        ///< with options of its own
  Make make_other;  ///< the same class with all options different
};

std::vector<Kind> kinds() {
  using namespace torch::optim;
  return {
      {"SGD",
       [](const Tensors& p) { return std::make_unique<SGD>(p, SGDOptions(0.1).momentum(0.9).dampening(0.1).weight_decay(0.01)); },
       [](const Tensors& p) { return std::make_unique<SGD>(p, SGDOptions(0.2)); }},
      {"Adam",
       [](const Tensors& p) {
         return std::make_unique<torch::optim::Adam>(p, torch::optim::AdamOptions(0.1).betas({0.8, 0.9}).amsgrad(true));
       },
       [](const Tensors& p) { return std::make_unique<torch::optim::Adam>(p, torch::optim::AdamOptions(0.2)); }},
      {"AdamW",
       [](const Tensors& p) { return std::make_unique<torch::optim::AdamW>(p, torch::optim::AdamWOptions(0.1).eps(1e-3)); },
       [](const Tensors& p) {
         return std::make_unique<torch::optim::AdamW>(p, torch::optim::AdamWOptions(0.2).weight_decay(0.5));
       }},
      {"RMSprop", [](const Tensors& p) { return std::make_unique<RMSprop>(p, RMSpropOptions(0.1).momentum(0.9).centered(true)); },
       [](const Tensors& p) { return std::make_unique<RMSprop>(p, RMSpropOptions(0.2).alpha(0.5)); }},
      {"Adagrad", [](const Tensors& p) { return std::make_unique<Adagrad>(p, AdagradOptions(0.1).lr_decay(0.1)); },
       [](const Tensors& p) { return std::make_unique<Adagrad>(p, AdagradOptions(0.2)); }},
      {"LBFGS",
       [](const Tensors& p) { return std::make_unique<LBFGS>(p, LBFGSOptions(0.1).max_iter(3).line_search_fn("strong_wolfe")); },
       [](const Tensors& p) { return std::make_unique<LBFGS>(p, LBFGSOptions(0.2)); }},
      {"treadle::Sgd",
       [](const Tensors& p) { return std::make_unique<Sgd>(p, SgdOptions{.lr = 0.1, .momentum = 0.9, .maximize = true}); },
       [](const Tensors& p) { return std::make_unique<Sgd>(p, SgdOptions{.lr = 0.2}); }},
      {"treadle::Adam", [](const Tensors& p) { return std::make_unique<Adam>(p, AdamOptions{.lr = 0.1, .amsgrad = true}); },
       [](const Tensors& p) { return std::make_unique<Adam>(p, AdamOptions{.lr = 0.2}); }},
      {"treadle::AdamW",
       [](const Tensors& p) { return std::make_unique<AdamW>(p, AdamOptions{.lr = 0.1, .weight_decay = 0.1, .fused = true}); },
       [](const Tensors& p) { return std::make_unique<AdamW>(p, AdamOptions{.lr = 0.2}); }},
  };
}

TEST(OptimizerState, ResumedRunsGoOnWithTheSameBits) {
  for (const Kind& kind : kinds()) {
    SCOPED_TRACE(kind.name);
    Tensors params = parameters();
    auto optimizer = kind.make(params);
    for (int step = 0; step < 4; ++step) take_step(*optimizer, params);
    Dict saved = deep_clone(optimizer_state_dict(*optimizer));

    Tensors copies = {params[0].detach().clone().set_requires_grad(true), params[1].detach().clone().set_requires_grad(true)};
    auto other = kind.make_other(copies);
    EXPECT_NO_THROW(check_optimizer_state_dict(*other, saved));
    load_optimizer_state_dict(*other, saved);
    EXPECT_TRUE(identical(optimizer_state_dict(*other), saved)) << describe(optimizer_state_dict(*other)) << "\n"
                                                                << describe(saved);
    for (int step = 0; step < 3; ++step) {
      take_step(*optimizer, params);
      take_step(*other, copies);
    }
    EXPECT_TRUE(params[0].equal(copies[0]) && params[1].equal(copies[1]));
    EXPECT_FALSE(params[0].isnan().any().item<bool>());
  }
}

TEST(OptimizerState, AFreshOptimizerHasOptionsAndNoState) {
  for (const Kind& kind : kinds()) {
    SCOPED_TRACE(kind.name);
    Tensors params = parameters();
    Dict fresh = optimizer_state_dict(*kind.make(params));
    // Adagrad starts with its sums, in Python too.
    EXPECT_EQ(fresh.at("state").as_dict().empty(), std::string(kind.name) != "Adagrad");
    auto used = kind.make_other(params);
    take_step(*used, params);
    load_optimizer_state_dict(*used, fresh);
    EXPECT_TRUE(identical(optimizer_state_dict(*used), fresh));
    EXPECT_EQ(group_lrs(*used), std::vector<double>{0.1});
    EXPECT_NO_THROW(take_step(*used, params));
  }
}

TEST(OptimizerState, HasPythonsLayout) {
  Tensors params = parameters();
  Sgd sgd({{{params[0]}, {"a"}, {{"weight_decay", 0.0}}}, {{params[1]}, {"b"}, {}}},
          {.lr = 0.1, .momentum = 0.9, .weight_decay = 0.5});
  take_step(sgd, params);
  LRMultiplier scheduler(sgd, LinearParamScheduler(0.5, 0.5), {.max_iter = 10});
  Dict state = optimizer_state_dict(sgd);
  EXPECT_EQ(state.at("state").as_dict().at(1).as_dict().at("momentum_buffer").as_tensor().sizes(), params[1].sizes());
  const Dict& group = state.at("param_groups").as_list()[0].as_dict();
  std::string keys;
  for (const auto& [key, value] : group) keys += key.string() + " ";
  EXPECT_EQ(keys,
            "weight_decay lr momentum dampening nesterov maximize foreach differentiable fused initial_lr param_names params ");
  EXPECT_EQ(group.at("lr").as_double(), 0.05);
  EXPECT_EQ(group.at("initial_lr").as_double(), 0.1);
  EXPECT_EQ(group.at("params").as_list()[0].as_int(), 0);
  EXPECT_EQ(state.at("param_groups").as_list()[1].as_dict().at("params").as_list()[0].as_int(), 1);

  AdamW adamw(params, {});
  take_step(adamw, params);
  const at::Tensor step = optimizer_state_dict(adamw).at("state").as_dict().at(0).as_dict().at("step").as_tensor();
  EXPECT_EQ(step.scalar_type(), at::kFloat);
  EXPECT_EQ(step.dim(), 0);
  EXPECT_EQ(step.item<float>(), 1);
}

TEST(OptimizerState, LoadsWhatPythonWrites) {
  Tensors params = parameters();
  AdamW adamw(params, {});
  // Python counts parameters from anywhere, may hold plain numbers, and has keys that LibTorch knows nothing of.
  Dict state{
      {"state", Dict{{7, Dict{{"step", 3}, {"exp_avg", at::ones({2, 3}, at::kDouble)}, {"exp_avg_sq", at::ones({2, 3})}}}}},
      {"param_groups", List{Dict{{"lr", at::full({}, 0.25)},
                                 {"betas", List{0.5, 0.75}},
                                 {"eps", 0},
                                 {"weight_decay", 0},
                                 {"amsgrad", false},
                                 {"maximize", true},
                                 {"capturable", false},
                                 {"some_key", "of a later release"},
                                 {"params", List{7, 9}}}}}};
  load_optimizer_state_dict(adamw, state);
  Dict loaded = optimizer_state_dict(adamw);
  EXPECT_EQ(loaded.at("state").as_dict().size(), 1U);
  const Dict& first = loaded.at("state").as_dict().at(0).as_dict();
  EXPECT_EQ(first.at("step").as_tensor().item<double>(), 3);
  EXPECT_EQ(first.at("exp_avg").as_tensor().scalar_type(), at::kFloat);
  const Dict& group = loaded.at("param_groups").as_list()[0].as_dict();
  EXPECT_EQ(group.at("lr").as_double(), 0.25);
  EXPECT_EQ(group.at("betas").as_tuple()[1].as_double(), 0.75);
  EXPECT_TRUE(group.at("maximize").as_bool());
}

TEST(OptimizerState, AGroupThatIsAddedLaterIsSavedSteppedAndLoaded) {
  for (const Kind& kind : kinds()) {
    // LibTorch's LBFGS takes one group, and its Adagrad makes its state when it is made.
    if (kind.name == std::string("LBFGS") || kind.name == std::string("Adagrad")) continue;
    SCOPED_TRACE(kind.name);
    const auto make = [&](Tensors& params) {
      auto optimizer = kind.make({params[0]});
      optimizer->add_param_group(torch::optim::OptimizerParamGroup({params[1]}));
      return optimizer;
    };
    Tensors params = parameters(), copies = parameters();
    auto optimizer = make(params), other = make(copies);
    for (int step = 0; step < 2; ++step) take_step(*optimizer, params);
    // The rate of the schedule is saved with what the group is called by, which is nothing.
    LRMultiplier scheduler(*optimizer, LinearParamScheduler(0.5, 0.5), {.max_iter = 10});
    Dict saved = deep_clone(optimizer_state_dict(*optimizer));
    ASSERT_EQ(saved.at("param_groups").as_list().size(), 2U);
    const Dict& added = saved.at("param_groups").as_list()[1].as_dict();
    EXPECT_EQ(added.at("lr").as_double(), 0.05);
    EXPECT_EQ(added.contains("initial_lr"), dynamic_cast<GroupInfoHolder*>(optimizer.get()) != nullptr);
    EXPECT_FALSE(added.contains("param_names"));

    load_optimizer_state_dict(*other, saved);
    for (std::size_t i = 0; i < params.size(); ++i) copies[i].detach().copy_(params[i].detach());
    for (int step = 0; step < 2; ++step) {
      take_step(*optimizer, params);
      take_step(*other, copies);
    }
    EXPECT_TRUE(params[0].equal(copies[0]) && params[1].equal(copies[1]));
    EXPECT_FALSE(params[1].equal(parameters()[1]));
    saved.at("state").as_dict().at(1).as_dict() = {
        {"momentum_buffer", "text"}, {"exp_avg", "text"}, {"square_avg", "text"}, {"sum", "text"}, {"step", 1}};
    EXPECT_THROW(check_optimizer_state_dict(*other, saved), FormatError);
  }
}

TEST(OptimizerState, CopiesIntoTheTensorsInUse) {
  Tensors params = parameters();
  Sgd sgd(params, {.lr = 0.1, .momentum = 0.9});
  take_step(sgd, params);
  at::Tensor buffer = optimizer_state_dict(sgd).at("state").as_dict().at(0).as_dict().at("momentum_buffer").as_tensor();
  Dict saved = deep_clone(optimizer_state_dict(sgd));
  at::Tensor saved_buffer = saved.at("state").as_dict().at(0).as_dict().at("momentum_buffer").as_tensor();
  saved_buffer.fill_(42);
  load_optimizer_state_dict(sgd, saved);
  EXPECT_TRUE(buffer.eq(42).all().item<bool>());
  saved_buffer.fill_(0);
  EXPECT_TRUE(buffer.eq(42).all().item<bool>());
}

TEST(OptimizerState, ABadStateNamesTheParameterAndChangesNothing) {
  Tensors params = parameters();
  Sgd sgd({{params, {"conv.weight", "conv.bias"}, {}}}, {.lr = 0.1, .momentum = 0.9});
  take_step(sgd, params);
  Dict good = deep_clone(optimizer_state_dict(sgd));
  auto expect_refused = [&](const std::function<void(Dict&)>& spoil, const std::string& mention) {
    Dict bad = deep_clone(good);
    bad.at("param_groups").as_list()[0].as_dict().set("lr", 7.0);
    spoil(bad);
    try {
      load_optimizer_state_dict(sgd, bad);
      ADD_FAILURE() << "no error about " << mention;
    } catch (const FormatError& error) {
      EXPECT_NE(std::string(error.what()).find(mention), std::string::npos) << error.what();
    }
    EXPECT_TRUE(identical(optimizer_state_dict(sgd), good));
  };
  auto group = [](Dict& state) -> Dict& { return state.at("param_groups").as_list()[0].as_dict(); };
  auto entry = [](Dict& state) -> Dict& { return state.at("state").as_dict().at(1).as_dict(); };
  expect_refused([&](Dict& s) { entry(s).set("momentum_buffer", at::zeros({5})); }, "conv.bias");
  expect_refused([&](Dict& s) { entry(s).set("momentum_buffer", "text"); }, "conv.bias");
  expect_refused([&](Dict& s) { group(s).erase("momentum"); }, "momentum");
  expect_refused([&](Dict& s) { group(s).set("lr", "fast"); }, "lr");
  expect_refused([&](Dict& s) { group(s).set("params", List{0}); }, "2 parameters");
  expect_refused([&](Dict& s) { s.at("param_groups").as_list().push_back(group(s)); }, "1 parameter group");
  expect_refused([&](Dict& s) { s.erase("state"); }, "state");

  AdamW adamw(params, {});
  take_step(adamw, params);
  Dict lacks = deep_clone(optimizer_state_dict(adamw));
  lacks.at("state").as_dict().at(0).as_dict().erase("exp_avg");
  EXPECT_THROW(check_optimizer_state_dict(adamw, lacks), FormatError);
  lacks = deep_clone(optimizer_state_dict(adamw));
  lacks.at("state").as_dict().at(0).as_dict().set("step", -1);
  EXPECT_THROW(check_optimizer_state_dict(adamw, lacks), FormatError);
}

TEST(OptimizerState, OptionsOutOfRangeNameGroupAndOptionAndChangeNothing) {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<std::pair<std::string, std::vector<Value>>> wrong = {
      {"lr", {-1.0, inf, nan, at::full({}, -0.5), at::ones({2})}},
      {"momentum", {7, -0.5, nan}},
      {"dampening", {1.5, -1}},
      {"nesterov", {true}},
      {"weight_decay", {-0.1, inf}},
      {"betas", {Tuple{2, 3}, Tuple{0.9, 1.0}, Tuple{-0.1, 0.9}, Tuple{0.9, nan}, Tuple{0.9}}},
      {"eps", {-1e-8, inf}},
      {"alpha", {1.5, -0.1}},
      {"lr_decay", {-0.1, inf}},
      {"initial_accumulator_value", {-1.0}}};
  std::set<std::string> tried;
  for (const Kind& kind : kinds()) {
    Tensors params = parameters();
    auto optimizer = kind.make_other(params);
    if (std::string(kind.name) != "LBFGS") optimizer->add_param_group(torch::optim::OptimizerParamGroup({at::ones({1})}));
    const Dict good = deep_clone(optimizer_state_dict(*optimizer));
    const std::size_t last = good.at("param_groups").as_list().size() - 1;
    for (const auto& [option, values] : wrong) {
      if (!good.at("param_groups").as_list()[last].as_dict().contains(option)) continue;
      for (const Value& value : values) {
        SCOPED_TRACE(std::string(kind.name) + " " + option + " " + describe(value));
        Dict bad = deep_clone(good);
        bad.at("param_groups").as_list()[last].as_dict().set(option, value);
        bad.at("param_groups").as_list()[0].as_dict().set("weight_decay", 0.375);
        try {
          load_optimizer_state_dict(*optimizer, bad);
          ADD_FAILURE() << "no error";
        } catch (const FormatError& error) {
          const std::string place = "param_groups[" + std::to_string(last) + "]." + option;
          EXPECT_NE(std::string(error.what()).find(place), std::string::npos) << error.what();
        }
        EXPECT_TRUE(identical(optimizer_state_dict(*optimizer), good));
        tried.insert(option);
      }
    }
  }
  EXPECT_EQ(tried.size(), wrong.size());
}

TEST(OptimizerState, OptionsAtTheEndOfTheirRangeAreLoaded) {
  Tensors params = parameters();
  Sgd sgd(params, {.lr = 0.1});
  Dict state = deep_clone(optimizer_state_dict(sgd));
  Dict& group = state.at("param_groups").as_list()[0].as_dict();
  for (const auto& [option, value] : Dict{{"lr", 0}, {"momentum", 1}, {"dampening", 1}, {"weight_decay", 0}})
    group.set(option, value);
  load_optimizer_state_dict(sgd, state);
  EXPECT_EQ(group_lrs(sgd), std::vector<double>{0});
  AdamW adamw(params, {});
  state = deep_clone(optimizer_state_dict(adamw));
  Dict& adam = state.at("param_groups").as_list()[0].as_dict();
  for (const auto& [option, value] : Dict{{"lr", at::full({1}, 0.0)}, {"betas", Tuple{0, 0.0}}, {"eps", 0}})
    adam.set(option, value);
  load_optimizer_state_dict(adamw, state);
  EXPECT_EQ(group_lrs(adamw), std::vector<double>{0});
}

TEST(OptimizerState, KeepsTheCurrentWeightDecayWhenAskedTo) {
  Tensors params = parameters();
  Dict saved = optimizer_state_dict(Sgd(params, {.lr = 0.1, .weight_decay = 0.5}));
  Sgd sgd(params, {.lr = 0.2, .weight_decay = 0.25});
  int warnings = 0;
  LogCapture capture([&](LogLevel level, std::string_view) { warnings += level == LogLevel::warning; });
  optimizer_stateful(sgd, ResumeSettings::current)->load_state_dict(saved);
  const auto& options = static_cast<const torch::optim::SGDOptions&>(sgd.param_groups()[0].options());
  EXPECT_EQ(options.weight_decay(), 0.25);
  EXPECT_EQ(options.lr(), 0.1);
  EXPECT_EQ(warnings, 1);
  optimizer_stateful(sgd)->load_state_dict(saved);
  EXPECT_EQ(options.weight_decay(), 0.5);
  EXPECT_EQ(warnings, 1);
  EXPECT_TRUE(identical(optimizer_stateful(sgd)->state_dict(), saved));
  EXPECT_THROW(optimizer_stateful(sgd)->check_state_dict({}), FormatError);
}

TEST(OptimizerState, OneWarningTellsOfAllGroupsWithAnotherWeightDecay) {
  const auto made = [](std::vector<double> decays) {
    std::vector<torch::optim::OptimizerParamGroup> groups;
    for (const double decay : decays) {
      groups.emplace_back(std::vector<at::Tensor>{at::ones({2}).requires_grad_()},
                          std::make_unique<torch::optim::SGDOptions>(torch::optim::SGDOptions(0.1).weight_decay(decay)));
    }
    return torch::optim::SGD(groups, torch::optim::SGDOptions(0.1));
  };
  const torch::optim::SGD before = made({0.5, 0.25, 0.125, 1});
  const Dict saved = optimizer_state_dict(before);
  std::vector<std::string> warnings;
  const LogCapture capture([&](LogLevel level, std::string_view line) {
    if (level == LogLevel::warning) warnings.emplace_back(line);
  });
  const std::string start = " differs from the one in the state that is resumed: using 2 instead of the saved ",
                    group = "the weight decay of parameter group ";
  for (const auto& [decays, expected] : std::vector<std::pair<std::vector<double>, std::string>>{
           {{0.5, 0.25, 2, 1}, group + "2" + start + "0.125"},
           {{0.5, 2, 0.125, 0}, group + "1" + start + "0.25; that of 1 other group differs too"},
           {{2, 2, 0.125, 0}, group + "0" + start + "0.5; those of 2 other groups differ too"}}) {
    torch::optim::SGD after = made(decays);
    warnings.clear();
    optimizer_stateful(after, ResumeSettings::current)->load_state_dict(saved);
    EXPECT_EQ(warnings, std::vector{expected});
    for (std::size_t i = 0; i < decays.size(); ++i) {
      EXPECT_EQ(static_cast<const torch::optim::SGDOptions&>(after.param_groups()[i].options()).weight_decay(), decays[i]);
    }
  }
}

TEST(OptimizerState, SummaryGroupFollowsDetectron2) {
  auto group = [](std::size_t count, double lr) {
    Tensors params;
    for (std::size_t i = 0; i < count; ++i) params.push_back(at::zeros({1}).set_requires_grad(true));
    return ParamGroup{params, {}, {{"lr", lr}}};
  };
  EXPECT_EQ(summary_group(Sgd({group(1, 0.1), group(3, 0.2), group(3, 0.3)}, {})), 1U);
  EXPECT_EQ(summary_group(Sgd({group(1, 0.3), group(1, 0.1), group(1, 0.2), group(1, 0.2)}, {})), 2U);
  EXPECT_EQ(summary_group(Sgd({group(1, 0.3), group(1, 0.1)}, {})), 0U);
  EXPECT_EQ(summary_lr(Sgd({group(1, 0.1), group(3, 0.2), group(3, 0.3)}, {})), 0.2);
}

TEST(OptimizerState, ZeroGradClearsEveryGradient) {
  Tensors params = parameters();
  Sgd sgd(params, {});
  for (const at::Tensor& param : params) param.mutable_grad() = at::ones_like(param);
  // A gradient may be a view, which LibTorch's method refuses to detach.
  const at::Tensor memory = at::ones({params.front().numel()});
  params.front().mutable_grad() = memory.view(params.front().sizes());
  zero_grad(sgd);
  for (const at::Tensor& param : params) EXPECT_FALSE(param.grad().defined());
  EXPECT_TRUE(memory.equal(at::ones_like(memory)));
}

}  // namespace
}  // namespace treadle
