// The kinds of the family `hooks` about what a step records, learning rates, and the statistics of batch norm.
#include <treadle/base/errors.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine/simple_trainer.hpp>
#include <treadle/hooks.hpp>
#include <treadle/models/model.hpp>
#include <treadle/solver/lr_scheduler.hpp>
#include <treadle/solver/optimizer_state.hpp>

#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/optim/sgd.h>

#include <cmath>

#include "tests/reference/hooks_cases.hpp"

namespace treadle {
namespace {

using reference::each_hooks_case;
using reference::expect_listed;
using reference::ordered_json;
using reference::raised;
using reference::TinyTrainer;
using reference::train_fails;

/// An optimizer with a group for each rate; group i holds `sizes[i]` parameters.
std::unique_ptr<torch::optim::SGD> make_sgd(const std::vector<double>& rates, const std::vector<std::size_t>& sizes) {
  std::vector<torch::optim::OptimizerParamGroup> groups;
  for (std::size_t i = 0; i < rates.size(); ++i) {
    std::vector<at::Tensor> parameters;
    for (std::size_t n = 0; n < sizes[i]; ++n) parameters.push_back(at::ones({1}));
    groups.emplace_back(std::move(parameters), std::make_unique<torch::optim::SGDOptions>(rates[i]));
  }
  return std::make_unique<torch::optim::SGD>(std::move(groups), torch::optim::SGDOptions(0.1));
}

// ---- get_best_param_group_id

void run_best_group(const ordered_json& input, const ordered_json& expect) {
  std::vector<double> rates;
  std::vector<std::size_t> sizes;
  for (const auto& group : input.at("groups")) {
    sizes.push_back(group[0]);
    rates.push_back(reference_double(group[1]));
  }
  const auto optimizer = make_sgd(rates, sizes);
  if (expect.contains("exc")) {
    EXPECT_THROW(hooks::LRScheduler::get_best_param_group_id(*optimizer), Error);
    return;
  }
  const std::size_t id = hooks::LRScheduler::get_best_param_group_id(*optimizer);
  if (expect.at("id").is_null()) {
    expect_listed("a rate that is not a number can be shown");
    EXPECT_LT(id, rates.size());
    return;
  }
  EXPECT_EQ(id, expect.at("id").get<std::size_t>());
}

TEST(ReferenceHooks, GetBestParamGroupId) { each_hooks_case("get_best_param_group_id", run_best_group); }

// ---- lr_hook

void run_lr(const ordered_json& input, const ordered_json& expect) {
  const auto base = reference_doubles(input.at("base_lrs"));
  const auto& schedule = input.at("multistep");
  const auto start = input.at("start_iter").get<std::int64_t>(), end = input.at("max_iter").get<std::int64_t>();
  const auto optimizer = make_sgd(base, std::vector<std::size_t>(base.size(), 1));
  const MultiStepParamScheduler multiplier(reference_doubles(schedule.at("values")),
                                           schedule.at("num_updates").get<std::int64_t>(),
                                           schedule.at("milestones").get<std::vector<double>>());
  LRMultiplier scheduler(*optimizer, multiplier, {.max_iter = end, .last_iter = start - 1, .base_lrs = base});
  TinyTrainer trainer;
  std::vector<std::vector<double>> used;
  trainer.step = [&] { used.push_back(group_lrs(*optimizer)); };
  trainer.add_hook<hooks::LRScheduler>(*optimizer, scheduler);
  ASSERT_TRUE(raised(expect).empty());
  trainer.train(start, end);
  const auto& expected = expect.at("used_lr_by_iteration");
  ASSERT_EQ(used.size(), expected.size());
  for (std::size_t i = 0; i < used.size(); ++i)
    EXPECT_EQ(used[i], reference_doubles(expected[i][1])) << "iteration " << expected[i][0];
  EXPECT_EQ(group_lrs(*optimizer), reference_doubles(expect.at("final_lr")));
  const auto logged = trainer.storage().history("lr").values();
  ASSERT_EQ(logged.size(), expect.at("logged_lr").size());
  for (std::size_t i = 0; i < logged.size(); ++i) {
    EXPECT_EQ(logged[i].value, reference_double(expect.at("logged_lr")[i][0]));
    EXPECT_EQ(logged[i].iteration, expect.at("logged_lr")[i][1]);
  }
  const Dict state = scheduler.state_dict();
  EXPECT_EQ(state.at("last_epoch").as_int(), expect.at("state_dict_after").at("last_epoch"));
  EXPECT_EQ(scheduler.base_lrs(), reference_doubles(expect.at("state_dict_after").at("base_lrs")));
}

TEST(ReferenceHooks, LRScheduler) { each_hooks_case("lr_hook", run_lr); }

// ---- simple_trainer_metrics

struct ScriptedLosses final : Model {
  at::Tensor weight = register_parameter("weight", at::ones({1}));
  std::function<LossDict()> next;
  LossDict losses(const Batch&) override { return next(); }
  List predict(const Batch&) override { return {}; }
};

LossDict scripted(const ordered_json& losses, const at::Tensor& weight, bool as_tensor) {
  LossDict result;
  for (const auto& [name, value] : losses.items()) {
    // Not by a product, which would make NaN of 0 times infinity in the gradient.
    result.emplace_back(as_tensor ? "total_loss" : name, weight.sum() - 1 + at::ones({}) * reference_double(value));
  }
  return result;
}

void expect_history(const EventStorage& storage, const std::string& name, const ordered_json& expected) {
  const HistoryBuffer* history = storage.find_history(name);
  ASSERT_NE(history, nullptr) << name;
  const auto values = history->values();
  ASSERT_EQ(values.size(), expected.size()) << name;
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(values[i].value, reference_double(expected[i][0])) << name;
    EXPECT_EQ(values[i].iteration, expected[i][1]) << name;
  }
}

/// The histories and the order of the names as they are mended.
void expect_metrics(const EventStorage& storage, const ordered_json& losses, const ordered_json& expect) {
  ordered_json histories = expect.at("histories");
  auto names = expect.at("names_in_order").get<std::vector<std::string>>();
  if (losses.contains("total_loss") && histories.contains("total_loss") && losses.size() > 1) {
    // Python puts the sum and the model's own under one name.
    expect_listed("a loss called total_loss is the model's own");
    ordered_json own = ordered_json::array();
    for (std::size_t i = 1; i < histories["total_loss"].size(); i += 2) own.push_back(histories["total_loss"][i]);
    histories["total_loss"] = own;
  }
  if (losses.size() == 1 && !losses.contains("total_loss") && histories.contains("total_loss")) {
    expect_listed("a single loss stands under its own name too");
    histories[losses.begin().key()] = histories["total_loss"];
    names.push_back(losses.begin().key());
  }
  for (const auto& [name, values] : histories.items()) expect_history(storage, name, values);
  std::vector<std::string> ours;
  for (const auto& [name, history] : storage.histories()) ours.push_back(name);
  EXPECT_EQ(ours, names);
}

void run_metrics(const ordered_json& input, const ordered_json& expect) {
  const auto model = std::make_shared<ScriptedLosses>();
  torch::optim::SGD optimizer({model->weight}, torch::optim::SGDOptions(0.0));
  const auto source = make_batch_source([]() -> std::optional<Batch> { return Batch(Dict{{"x", at::ones({1})}}); });
  SimpleTrainer trainer(model, *source, optimizer,
                        {.gather_metric_period = input.at("gather_metric_period").get<std::int64_t>(),
                         .async_write_metrics = input.value("async_write_metrics", false)});
  const LogCapture quiet([](LogLevel, std::string_view) {});
  const auto& losses = input.at("losses");
  const bool as_tensor = input.at("model_returns_tensor");
  model->next = [&] {
    return scripted(losses[static_cast<std::size_t>(trainer.iter()) % losses.size()], model->weight, as_tensor);
  };
  EXPECT_EQ(train_fails(trainer, 0, input.at("iters")), !raised(expect).empty());
  if (raised(expect) == "FloatingPointError") {
    expect_listed("a step that is not finite records nothing");
    EXPECT_EQ(trainer.storage().find_history("total_loss"), nullptr);
    return;
  }
  ordered_json given = losses[0];
  if (as_tensor) given = {{"total_loss", losses[0].begin().value()}};
  expect_metrics(trainer.storage(), given, expect);
}

TEST(ReferenceHooks, SimpleTrainerMetrics) { each_hooks_case("simple_trainer_metrics", run_metrics); }

// ---- precise_bn_hook

struct BnModel final : Model {
  torch::nn::BatchNorm1d norm{2};
  explicit BnModel(bool has_bn) {
    if (has_bn) register_module("norm", norm);
  }
  LossDict losses(const Batch& batch) override { return {{"loss", norm(batch.tensor("x")).sum()}}; }
  List predict(const Batch&) override { return {}; }
};

void run_precise_bn(const ordered_json& input, const ordered_json& expect) {
  BnModel model(input.at("has_bn"));
  TinyTrainer trainer;
  std::int64_t drawn = 0, seen = 0;
  ordered_json at = ordered_json::array();
  trainer.add_hook<hooks::PreciseBN>(model, make_batch_source([&]() -> std::optional<Batch> {
                                       ++drawn;
                                       return Batch(Dict{{"x", at::rand({3, 2})}});
                                     }),
                                     hooks::PreciseBNOptions{.period = input.at("period").get<std::int64_t>(),
                                                             .num_iter = input.at("num_iter").get<std::int64_t>()});
  trainer.add_hook<hooks::CallbackHook>(hooks::Callbacks{.after_step = [&](TrainerBase& t) {
    if (drawn > seen) at.push_back(t.iter());
    seen = drawn;
  }});
  trainer.train(input.at("start_iter"), input.at("max_iter"));
  EXPECT_EQ(at, expect.at("calls_at_iter"));
  EXPECT_EQ(drawn, expect.at("batches_drawn"));
  if (!raised(expect).empty()) expect_listed("precise statistics of no layer are no error");
}

TEST(ReferenceHooks, PreciseBN) { each_hooks_case("precise_bn_hook", run_precise_bn); }

}  // namespace
}  // namespace treadle
