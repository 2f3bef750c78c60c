#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/solver/legacy_lr_scheduler.hpp>
#include <treadle/solver/lr_scheduler.hpp>
#include <treadle/solver/optimizer_state.hpp>
#include <treadle/solver/sgd.hpp>

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <set>

#include "base/sha256.hpp"
#include "tests/reference/numbers.hpp"
#include "tests/reference/reference_cases.hpp"

namespace treadle {
namespace {

using Json = nlohmann::ordered_json;

std::vector<double> numbers_of(const Json& spec, const char* key) { return reference_doubles(spec.at(key)); }
double number_of(const Json& spec, const char* key) { return reference_double(spec.at(key)); }

/// A schedule from its description, and what the case may ask about it.
struct Built {
  ParamScheduler scheduler;
  std::vector<double> milestones{};
  double num_updates = 0;
  std::vector<double> lengths{};
};

Built build(const Json& spec);

Built build_multi_step(const Json& spec) {
  std::optional<std::int64_t> num_updates;
  std::optional<std::vector<double>> milestones;
  if (!spec.at("num_updates").is_null()) num_updates = spec["num_updates"].get<std::int64_t>();
  if (!spec.at("milestones").is_null()) milestones = numbers_of(spec, "milestones");
  MultiStepParamScheduler scheduler(numbers_of(spec, "values"), num_updates, milestones);
  return {scheduler, scheduler.milestones(), scheduler.num_updates()};
}

Built build_composite(const Json& spec) {
  std::vector<double> lengths = numbers_of(spec, "lengths");
  const Json& schedulers = spec.at("schedulers");
  if (schedulers.size() != lengths.size()) throw ConfigError("each part has a schedule and a length here");
  std::vector<CompositeParamScheduler::Part> parts;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    IntervalScaling scaling = interval_scaling_from_string(spec.at("interval_scaling").at(i).get<std::string>());
    parts.push_back({build(schedulers[i]).scheduler, lengths[i], scaling});
  }
  CompositeParamScheduler scheduler(std::move(parts));
  return {scheduler, {}, 0, scheduler.lengths()};
}

Built build_warmup(const Json& spec) {
  WarmupOptions options{.factor = number_of(spec, "warmup_factor"),
                        .length = number_of(spec, "warmup_length"),
                        .method = warmup_method_from_string(spec.at("warmup_method").get<std::string>()),
                        .rescale_interval = spec.at("rescale_interval").get<bool>()};
  WarmupParamScheduler scheduler(build(spec.at("scheduler")).scheduler, options);
  return {scheduler, {}, 0, scheduler.lengths()};
}

/// An integer that Python insists on; a float in its place is an error there, and cannot be passed here.
std::int64_t integer_of(const Json& spec, const char* key) {
  if (!spec.at(key).is_number_integer()) throw ConfigError(std::string(key) + " is no integer");
  return spec.at(key).get<std::int64_t>();
}

Built build(const Json& spec) {
  const auto type = spec.at("type").get<std::string>();
  if (type == "Constant") return {ConstantParamScheduler(number_of(spec, "value"))};
  if (type == "Linear") return {LinearParamScheduler(number_of(spec, "start_value"), number_of(spec, "end_value"))};
  if (type == "Cosine") return {CosineParamScheduler(number_of(spec, "start_value"), number_of(spec, "end_value"))};
  if (type == "Exponential") return {ExponentialParamScheduler(number_of(spec, "start_value"), number_of(spec, "decay"))};
  if (type == "PolynomialDecay") return {PolynomialDecayParamScheduler(number_of(spec, "base_value"), number_of(spec, "power"))};
  if (type == "MultiStep") return build_multi_step(spec);
  if (type == "Step") return {StepParamScheduler(number_of(spec, "num_updates"), numbers_of(spec, "values"))};
  if (type == "StepWithFixedGamma") {
    return {StepWithFixedGammaParamScheduler(number_of(spec, "base_value"), integer_of(spec, "num_decays"),
                                             number_of(spec, "gamma"), integer_of(spec, "num_updates"))};
  }
  if (type == "Composite") return build_composite(spec);
  if (type == "Warmup") return build_warmup(spec);
  throw std::logic_error("no schedule of type " + type);
}

void run_scheduler(const Json& input, const Json& expect) {
  Built built = build(input.at("spec"));
  std::vector<double> points = numbers_of(input, "points");
  ASSERT_EQ(points.size(), expect.at("values").size());
  for (std::size_t i = 0; i < points.size(); ++i) {
    const Json& wanted = expect["values"][i];
    if (wanted.is_object()) {  // {exc, msg}, or {complex}: no real number
      EXPECT_THROW(built.scheduler(points[i]), Error) << "at " << points[i];
      continue;
    }
    double found = built.scheduler(points[i]);
    EXPECT_TRUE(same_number(found, reference_double(wanted))) << "at " << points[i] << ": " << found << ", not " << wanted;
  }
  if (expect.contains("milestones")) {
    EXPECT_EQ(built.milestones, numbers_of(expect, "milestones"));
    EXPECT_EQ(built.num_updates, number_of(expect, "num_updates"));
  }
  if (expect.contains("lengths")) {
    std::vector<double> lengths = numbers_of(expect, "lengths");
    ASSERT_EQ(built.lengths.size(), lengths.size());
    for (std::size_t i = 0; i < lengths.size(); ++i) EXPECT_TRUE(same_number(built.lengths[i], lengths[i])) << i;
  }
}

void run_constructor_error(const Json& input, const Json&) { EXPECT_THROW(build(input.at("spec")), Error); }

/// An optimizer with one parameter per group.
std::unique_ptr<Sgd> optimizer_with(const std::vector<double>& lrs) {
  std::vector<ParamGroup> groups;
  for (double lr : lrs) groups.push_back({{at::zeros({1}).requires_grad_()}, {}, {{"lr", lr}}});
  return std::make_unique<Sgd>(groups, SgdOptions{.lr = 0.1, .momentum = 0.9});
}

LRSchedulerOptions options_of(const Json& solver) {
  LRSchedulerOptions options;
  const std::map<std::string, std::function<void(const Json&)>> setters = {
      {"LR_SCHEDULER_NAME", [&](const Json& v) { options.name = v.get<std::string>(); }},
      {"MAX_ITER", [&](const Json& v) { options.max_iter = v.get<std::int64_t>(); }},
      {"BASE_LR", [&](const Json& v) { options.base_lr = reference_double(v); }},
      {"BASE_LR_END", [&](const Json& v) { options.base_lr_end = reference_double(v); }},
      {"GAMMA", [&](const Json& v) { options.gamma = reference_double(v); }},
      {"STEPS", [&](const Json& v) { options.steps = reference_doubles(v); }},
      {"NUM_DECAYS", [&](const Json& v) { options.num_decays = v.get<std::int64_t>(); }},
      {"WARMUP_ITERS", [&](const Json& v) { options.warmup_iters = v.get<std::int64_t>(); }},
      {"WARMUP_FACTOR", [&](const Json& v) { options.warmup_factor = reference_double(v); }},
      {"WARMUP_METHOD", [&](const Json& v) { options.warmup_method = warmup_method_from_string(v.get<std::string>()); }},
      {"RESCALE_INTERVAL", [&](const Json& v) { options.rescale_interval = v.get<bool>(); }},
  };
  for (const auto& [key, value] : solver.items()) {
    if (auto setter = setters.find(key); setter != setters.end()) setter->second(value);
  }
  return options;
}

/// The rates of every group in every iteration, `steps` calls of step() long.
using Curves = std::vector<std::vector<double>>;

void record(Curves& curves, const torch::optim::Optimizer& optimizer) {
  std::vector<double> lrs = group_lrs(optimizer);
  curves.resize(lrs.size());
  for (std::size_t g = 0; g < lrs.size(); ++g) curves[g].push_back(lrs[g]);
}

void expect_curves(const Curves& found, const Json& wanted, std::size_t extra_at_end = 0) {
  ASSERT_EQ(found.size(), wanted.size());
  for (std::size_t g = 0; g < found.size(); ++g) {
    std::vector<double> lrs = reference_doubles(wanted[g]);
    ASSERT_EQ(found[g].size(), lrs.size() + extra_at_end);
    for (std::size_t k = 0; k < lrs.size(); ++k)
      ASSERT_TRUE(same_number(found[g][k], lrs[k])) << "group " << g << ", iteration " << k;
  }
}

/// differences.json: "the end of the run is defined for every schedule". Where Python raises in the step behind the last
/// iteration, the rate stays as it was. Returns how many rates are expected beyond Python's.
std::size_t mended_end(const Json& input, const Json& expect) {
  if (!expect.contains("raised")) return 0;
  return expect["raised"].at("at_step") == input.at("solver").value("MAX_ITER", 40000) ? 1 : 0;
}

void take_steps(LRScheduler& scheduler, const torch::optim::Optimizer& optimizer, Curves& curves, std::size_t length) {
  while (curves[0].size() < length) {
    scheduler.step();
    record(curves, optimizer);
  }
}

/// Saves after some steps and goes on with a new optimizer and scheduler, built for other settings if the case says so.
void resume(const Json& input, const Json& expect, std::unique_ptr<Sgd>& optimizer, std::unique_ptr<LRScheduler>& scheduler) {
  Dict saved = scheduler->state_dict();
  Dict saved_optimizer = optimizer_state_dict(*optimizer);
  const Json& wanted = expect.at("scheduler_state");
  std::vector<std::string> keys;
  for (const auto& [key, value] : saved) keys.push_back(key.string());
  EXPECT_EQ(keys, wanted.at("keys").get<std::vector<std::string>>());
  EXPECT_EQ(saved.at("last_epoch").as_int(), wanted.at("last_epoch").get<std::int64_t>());
  for (std::size_t g = 0; g < saved_optimizer.at("param_groups").as_list().size(); ++g) {
    const Dict& group = saved_optimizer.at("param_groups").as_list()[g].as_dict();
    std::set<std::string> found;
    for (const auto& [key, value] : group) found.insert(key.string());
    EXPECT_EQ(found, expect.at("optimizer_group_keys_in_state").at(g).get<std::set<std::string>>());
    EXPECT_EQ(group.at("initial_lr").as_double(), reference_double(expect.at("initial_lr_in_state").at(g)));
  }

  const Json& new_solver = input.at("resume").at("new_solver");
  double factor = reference_double(new_solver.at("BASE_LR")) / reference_double(input.at("solver").at("BASE_LR"));
  std::vector<double> base_lrs = numbers_of(input, "group_lrs_before_scheduler");
  for (double& lr : base_lrs) lr *= factor;
  optimizer = optimizer_with(base_lrs);
  LRSchedulerOptions options = options_of(new_solver);
  // differences.json: "a changed base rate counts on resume". Python's reading is ours with the saved settings.
  options.resume = ResumeSettings::saved;
  scheduler = build_lr_scheduler(options, *optimizer);
  EXPECT_EQ(group_lrs(*optimizer), numbers_of(expect, "fresh_lrs_before_load"));
  if (input["resume"].at("optimizer_state_loaded").get<bool>()) load_optimizer_state_dict(*optimizer, saved_optimizer);
  scheduler->load_state_dict(saved);
  EXPECT_EQ(group_lrs(*optimizer), numbers_of(expect, "lrs_right_after_load"));
}

void run_lr_run(const Json& input, const Json& expect) {
  auto optimizer = optimizer_with(numbers_of(input, "group_lrs_before_scheduler"));
  auto scheduler = build_lr_scheduler(options_of(input.at("solver")), *optimizer);
  Curves curves;
  record(curves, *optimizer);
  std::size_t extra = mended_end(input, expect);
  std::size_t length = expect.at("lrs")[0].size() + extra;
  if (input.contains("resume")) {
    auto after = input["resume"].at("after_steps").get<std::size_t>();
    take_steps(*scheduler, *optimizer, curves, after + 1);
    resume(input, expect, optimizer, scheduler);
  }
  take_steps(*scheduler, *optimizer, curves, length);
  expect_curves(curves, expect["lrs"], extra);
  if (extra) {
    EXPECT_EQ(curves[0][length - 1], curves[0][length - 2]);
  } else if (expect.contains("raised")) {
    EXPECT_THROW(scheduler->step(), Error);
  }
}

void run_lr_sample(const Json& input, const Json& expect) {
  auto optimizer = optimizer_with(numbers_of(input, "group_lrs_before_scheduler"));
  auto scheduler = build_lr_scheduler(options_of(input.at("solver")), *optimizer);
  Curves curves;
  record(curves, *optimizer);
  auto length = expect.at("n_values").get<std::size_t>();
  take_steps(*scheduler, *optimizer, curves, length + mended_end(input, expect));
  const Json& iterations = expect.at("iterations");
  for (std::size_t g = 0; g < curves.size(); ++g) {
    std::vector<double> wanted = reference_doubles(expect.at("lrs")[g]);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      auto k = iterations[i].get<std::size_t>();
      EXPECT_TRUE(same_number(curves[g].at(k), wanted[i])) << "group " << g << ", iteration " << k;
    }
  }
  Sha256 hash;
  hash.update(curves[0].data(), length * sizeof(double));
  EXPECT_EQ(hash.hex(), expect.at("sha256_f64le_group0").get<std::string>());
}

/// differences.json: "steps at MAX_ITER are dropped". What remains must be an error here too.
void run_build_error(const Json& input, const Json&) {
  auto optimizer = optimizer_with(numbers_of(input, "group_lrs_before_scheduler"));
  const Json& solver = input.at("solver");
  bool step_at_end = false;
  if (solver.contains("STEPS")) {
    for (double step : reference_doubles(solver["STEPS"])) step_at_end |= step == solver.value("MAX_ITER", 40000.0);
  }
  auto build_it = [&] {
    LRSchedulerOptions options = options_of(solver);
    if (step_at_end) options.warmup_iters = std::min(options.warmup_iters, options.max_iter - 1);
    build_lr_scheduler(options, *optimizer);
  };
  if (step_at_end) {
    int warnings = 0;
    LogCapture capture([&](LogLevel level, std::string_view) { warnings += level == LogLevel::warning; });
    EXPECT_NO_THROW(build_it());
    EXPECT_EQ(warnings, 1);
  } else {
    EXPECT_THROW(build_it(), ConfigError);
  }
}

void run_multiplier_constructor(const Json& input, const Json&) {
  auto optimizer = optimizer_with({0.1});
  const auto what = input.at("what").get<std::string>();
  bool last_iter = what.find("last-iter") != std::string::npos;
  // Anything callable is a schedule here; what is none cannot be called at all.
  ParamScheduler multiplier = last_iter ? ParamScheduler(ConstantParamScheduler(1)) : ParamScheduler();
  EXPECT_THROW(LRMultiplier(*optimizer, multiplier, {.max_iter = 10, .last_iter = last_iter ? 3 : -1}), ConfigError);
}

void run_multiplier_last_iter(const Json& input, const Json& expect) {
  auto optimizer = optimizer_with(numbers_of(input, "lr"));
  LRMultiplier scheduler(*optimizer, build(input.at("spec")).scheduler,
                         {.max_iter = input.at("max_iter").get<std::int64_t>(),
                          .last_iter = input.at("last_iter").get<std::int64_t>(),
                          .base_lrs = numbers_of(input, "initial_lr")});
  EXPECT_EQ(scheduler.last_iter(), expect.at("last_epoch_after_ctor").get<std::int64_t>());
  EXPECT_EQ(scheduler.base_lrs(), numbers_of(expect, "base_lrs"));
  Curves curves;
  record(curves, *optimizer);
  take_steps(scheduler, *optimizer, curves, expect.at("lrs")[0].size());
  expect_curves(curves, expect["lrs"]);
}

std::unique_ptr<LRScheduler> build_legacy(const Json& input, torch::optim::Optimizer& optimizer) {
  const Json& arguments = input.at("args");
  LegacyWarmupOptions warmup;
  if (arguments.contains("warmup_factor")) warmup.warmup_factor = number_of(arguments, "warmup_factor");
  if (arguments.contains("warmup_iters")) warmup.warmup_iters = integer_of(arguments, "warmup_iters");
  if (arguments.contains("warmup_method"))
    warmup.warmup_method = warmup_method_from_string(arguments["warmup_method"].get<std::string>());
  warmup.last_epoch = input.at("last_epoch").get<std::int64_t>();
  if (warmup.last_epoch >= 0) warmup.base_lrs = numbers_of(input, "base_lrs");
  if (input.at("class") == "WarmupCosineLR")
    return std::make_unique<WarmupCosineLR>(optimizer, integer_of(arguments, "max_iters"), warmup);
  double gamma = arguments.contains("gamma") ? number_of(arguments, "gamma") : 0.1;
  return std::make_unique<WarmupMultiStepLR>(optimizer, arguments.at("milestones").get<std::vector<std::int64_t>>(), gamma,
                                             warmup);
}

void run_legacy(const Json& input, const Json& expect) {
  std::vector<double> base_lrs = numbers_of(input, "base_lrs");
  auto optimizer = optimizer_with(base_lrs);
  auto scheduler = build_legacy(input, *optimizer);
  Curves curves;
  record(curves, *optimizer);
  if (input.contains("resume")) {
    take_steps(*scheduler, *optimizer, curves, input["resume"].get<std::size_t>() + 1);
    Dict saved = scheduler->state_dict();
    // Python writes every attribute; what counts are the two that a run changes.
    for (const auto& [key, value] : saved) {
      const Json& keys = expect.at("state_keys");
      EXPECT_NE(std::find(keys.begin(), keys.end(), key.string()), keys.end()) << key.string();
    }
    optimizer = optimizer_with(base_lrs);
    scheduler = build_legacy(input, *optimizer);
    scheduler->load_state_dict(saved);
  }
  take_steps(*scheduler, *optimizer, curves, expect.at("lrs")[0].size());
  expect_curves(curves, expect["lrs"]);
}

void run_legacy_error(const Json& input, const Json&) {
  auto optimizer = optimizer_with(numbers_of(input, "base_lrs"));
  EXPECT_THROW(build_legacy(input, *optimizer), Error);
}

void run_legacy_warmup_factor(const Json& input, const Json& expect) {
  const Json& calls = input.at("calls");
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const Json& call = calls[i];
    auto compute = [&] {
      return legacy_warmup_factor(warmup_method_from_string(call[0].get<std::string>()), call[1].get<std::int64_t>(),
                                  call[2].get<std::int64_t>(), reference_double(call[3]));
    };
    if (expect[i].is_object() && expect[i].contains("exc")) {
      EXPECT_THROW(compute(), Error);
    } else {
      EXPECT_TRUE(same_number(compute(), reference_double(expect[i]))) << i;
    }
  }
}

using RunCase = void (*)(const Json& input, const Json& expect);

const std::map<std::string, RunCase>& runs() {
  static const std::map<std::string, RunCase> all = {{"scheduler", run_scheduler},
                                                     {"scheduler_ctor_error", run_constructor_error},
                                                     {"lr_run", run_lr_run},
                                                     {"lr_sample", run_lr_sample},
                                                     {"lr_build_error", run_build_error},
                                                     {"lrmultiplier_ctor", run_multiplier_constructor},
                                                     {"lrmultiplier_last_iter", run_multiplier_last_iter},
                                                     {"legacy_run", run_legacy},
                                                     {"legacy_error", run_legacy_error},
                                                     {"legacy_warmup_factor", run_legacy_warmup_factor}};
  return all;
}

TEST(LrSchedules, EveryCaseIsEqual) {
  for (const Json& item : reference_cases("lr_schedules")) {
    SCOPED_TRACE(item.at("id").get<std::string>());
    auto run = runs().find(item.at("kind").get<std::string>());
    ASSERT_NE(run, runs().end()) << "no test for cases of kind " << item["kind"];
    std::vector<std::string> warnings;
    LogCapture capture([&](LogLevel level, std::string_view message) {
      if (level == LogLevel::warning) warnings.emplace_back(message);
    });
    try {
      run->second(item.at("input"), item.at("expect"));
    } catch (const std::exception& error) {
      ADD_FAILURE() << "raised: " << error.what();
    }
    bool logged = item.contains("logs") && !item["logs"].empty();
    if (item["kind"] != "lr_build_error") {
      EXPECT_EQ(!warnings.empty(), logged);
    }
  }
}

}  // namespace
}  // namespace treadle
