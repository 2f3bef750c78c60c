// The kinds of the family `hooks` in which checkpoints are saved and models evaluated.
#include <tests/support/temporary_folder.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/hooks.hpp>

#include <torch/nn/modules/linear.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <optional>
#include <regex>

#include "tests/reference/hooks_cases.hpp"

namespace treadle {
namespace {

using reference::each_hooks_case;
using reference::expect_listed;
using reference::ordered_json;
using reference::raised;
using reference::step_fails;
using reference::TinyTrainer;
using reference::train_fails;
using Files = std::vector<std::string>;

struct Saving {
  TemporaryFolder folder;
  torch::nn::Linear model{1, 1};
  TinyTrainer trainer;
  Checkpointer checkpointer{*model, folder.path()};

  Files files() const {
    Files names;
    for (const auto& file : checkpointer.get_all_checkpoint_files()) names.push_back(file.filename().string());
    return names;
  }
  std::optional<std::string> last() const {
    if (!checkpointer.has_checkpoint()) return std::nullopt;
    return checkpointer.get_checkpoint_file().filename().string();
  }
  std::int64_t iteration_in(const std::string& name) const {
    return load_checkpoint_file(folder.path() / name).as_dict().at("iteration").as_int();
  }
};

std::optional<std::string> text(const ordered_json& json) {
  return json.is_null() ? std::nullopt : std::optional(json.get<std::string>());
}

// ---- periodic_checkpointer

void run_periodic(const ordered_json& input, const ordered_json& expect) {
  Saving run;
  hooks::PeriodicCheckpointerOptions options{.period = input.at("period").get<std::int64_t>(),
                                             .file_prefix = input.at("file_prefix").get<std::string>()};
  if (!input.at("max_to_keep").is_null()) options.max_to_keep = input.at("max_to_keep").get<std::int64_t>();
  if (options.period < 1 || options.max_to_keep.value_or(1) < 1) {
    EXPECT_FALSE(raised(expect).empty());
    EXPECT_THROW(hooks::PeriodicCheckpointer(run.checkpointer, options), ConfigError);
    return;
  }
  for (const auto& name : input.at("existing_files")) write_text(run.folder.path() / name.get<std::string>(), "");
  const auto start = input.at("start_iter").get<std::int64_t>(), end = input.at("max_iter").get<std::int64_t>();
  if (start > 0 && options.max_to_keep && !input.at("existing_files").empty()) {
    // Python's list of recent files begins empty in every process.
    expect_listed("checkpoints of the run before count");
    return;
  }
  std::int64_t fail_at = -1;
  if (step_fails(expect)) {
    std::smatch match;
    const std::string note = input.at("note");
    ASSERT_TRUE(std::regex_search(note, match, std::regex("iteration (\\d+)"))) << note;
    fail_at = std::stoll(match[1]);
  }
  std::map<std::int64_t, std::pair<Files, std::optional<std::string>>> seen;
  run.trainer.step = [&] {
    if (run.trainer.iter() == fail_at) throw Error("boom");
  };
  run.trainer.add_hook<hooks::PeriodicCheckpointer>(run.checkpointer, options);
  run.trainer.add_hook<hooks::CallbackHook>(
      hooks::Callbacks{.after_step = [&](TrainerBase& t) { seen[t.iter()] = {run.files(), run.last()}; }});
  if (start > end) {
    expect_listed("an empty range of iterations");
    EXPECT_TRUE(train_fails(run.trainer, start, end));
    return;
  }
  EXPECT_EQ(train_fails(run.trainer, start, end), fail_at >= 0);
  for (const auto& row : expect.at("rows")) {
    const bool behind = row.contains("after_train");
    const auto& [files, last] = behind ? std::pair(run.files(), run.last()) : seen.at(row.at("iter"));
    EXPECT_EQ(files, row.at("files").get<Files>()) << row;
    EXPECT_EQ(last, text(row.at("last_checkpoint"))) << row;
  }
  for (const auto& [name, iteration] : expect.at("file_iteration").items()) EXPECT_EQ(run.iteration_in(name), iteration);
}

TEST(ReferenceHooks, PeriodicCheckpointer) { each_hooks_case("periodic_checkpointer", run_periodic); }

// ---- periodic_step: fvcore's class outside of a loop, told each iteration; here a hook whose trainer is put there

void run_periodic_step(const ordered_json& input, const ordered_json& expect) {
  const ordered_json& given = input.at("kwargs");
  hooks::PeriodicCheckpointerOptions options{.period = given.at("period").get<std::int64_t>()};
  if (given.contains("max_to_keep")) options.max_to_keep = given.at("max_to_keep").get<std::int64_t>();
  const std::int64_t no_end = std::int64_t{1} << 40;
  Saving run;
  run.trainer.step = [&] { run.trainer.request_stop("the run has an end now"); };
  run.trainer.train(0, given.contains("max_iter") ? given.at("max_iter").get<std::int64_t>() : no_end);
  hooks::PeriodicCheckpointer hook(run.checkpointer, options);
  hook.before_train(run.trainer);
  Files saved;
  bool twice = false;
  for (const ordered_json& row : expect.at("rows")) {
    const auto step = row.at("step").get<std::int64_t>();
    run.trainer.load_state_dict({{"iteration", step}});
    hook.after_step(run.trainer);
    EXPECT_EQ(run.last(), text(row.at("last_checkpoint"))) << row;
    if ((step + 1) % options.period == 0) {
      twice = twice || std::erase(saved, *run.last()) > 0;
      saved.push_back(*run.last());
    }
    if (!twice) {
      EXPECT_EQ(run.files(), row.at("files").get<Files>()) << row;
      continue;
    }
    // Python's list of recent files then holds one twice.
    expect_listed("a checkpoint saved twice counts once");
    const auto most = static_cast<std::ptrdiff_t>(options.max_to_keep.value_or(std::ssize(saved)));
    Files kept(saved.end() - std::min(std::ssize(saved), most), saved.end());
    std::sort(kept.begin(), kept.end());
    EXPECT_EQ(run.files(), kept) << row;
  }
  for (const auto& [name, iteration] : expect.at("file_iteration").items()) EXPECT_EQ(run.iteration_in(name), iteration);
}

TEST(ReferenceHooks, PeriodicCheckpointerStepped) { each_hooks_case("periodic_step", run_periodic_step); }

// ---- eval_hook

void run_eval(const ordered_json& input, const ordered_json& expect) {
  const auto start = input.at("start_iter").get<std::int64_t>(), end = input.at("max_iter").get<std::int64_t>();
  const auto& raises = input.at("eval_raises_on_call");
  TinyTrainer trainer;
  ordered_json calls = ordered_json::array();
  trainer.add_hook<hooks::EvalHook>(
      [&] {
        calls.push_back({trainer.iter(), trainer.storage().iter()});
        if (!raises.is_null() && std::ssize(calls) == raises.get<std::int64_t>()) throw Error("evaluation failed");
        return Dict();
      },
      hooks::EvalHookOptions{.period = input.at("period").get<std::int64_t>(),
                             .eval_after_train = input.at("eval_after_train").get<bool>()});
  if (start > end) {
    expect_listed("an empty range of iterations");
    EXPECT_TRUE(train_fails(trainer, start, end));
    return;
  }
  EXPECT_EQ(train_fails(trainer, start, end), !raised(expect).empty());
  ordered_json expected = expect.at("calls_trainer_iter_storage_iter");
  if (start == end) {
    // Python goes one too far.
    expect_listed("an empty range of iterations");
    for (auto& call : expected) call = {end, end};
  }
  EXPECT_EQ(calls, expected);
}

TEST(ReferenceHooks, EvalHook) { each_hooks_case("eval_hook", run_eval); }

// ---- best_checkpointer

/// What EvalHook and BestCheckpointer do together, written down plainly: as in Python, and with what is mended.
struct BestModel {
  struct State {
    std::optional<double> best;
    std::int64_t best_iter = -1;
    bool operator==(const State&) const = default;
  };
  bool mended;
  const ordered_json& input;
  std::size_t evaluations = 0;
  std::optional<std::pair<double, std::int64_t>> latest{};
  State state{};
  std::set<std::string> rules{};
  bool failed = false;

  static bool is_number(const ordered_json& value) { return value.is_number() || (value.is_object() && value.contains("h")); }

  void evaluate(std::int64_t iteration) {
    const auto& results = input.at("eval_results");
    if (evaluations >= results.size()) return;
    const auto& result = results[evaluations++];
    const std::string metric = input.at("val_metric");
    const std::size_t slash = metric.find('/');
    const auto* value = result.is_null() ? nullptr : &result;
    for (const std::string& key :
         slash == std::string::npos ? std::vector{metric} : std::vector{metric.substr(0, slash), metric.substr(slash + 1)}) {
      value = value != nullptr && value->contains(key) ? &value->at(key) : nullptr;
    }
    if (value == nullptr) return;
    if (!is_number(*value)) {
      const std::string text = value->get<std::string>();
      char* end = nullptr;
      const double number = std::strtod(text.c_str(), &end);
      const bool readable = *end == '\0' && !text.empty();
      if (readable) rules.insert("a result in quotes is not a number");
      failed = mended || !readable;
      if (!failed) latest = {number, iteration};
      return;
    }
    latest = {reference_double(*value), iteration};
  }

  void check(std::int64_t iteration) {
    if (!latest) return;
    if (latest->second != iteration) {
      rules.insert("the best are the weights that were scored");
      if (mended) return;
    }
    const double value = latest->first;
    const bool better = !state.best || (input.at("mode") == "max" ? value > *state.best : value < *state.best);
    if (!better) return;
    if (!std::isfinite(value)) {
      if (state.best) rules.insert("a metric that is not finite never wins");
      return;
    }
    state = {value, latest->second};
  }

  /// The state behind each iteration, and behind the run under `max_iter`.
  std::map<std::int64_t, State> run(bool fails_in_last) {
    const auto start = input.at("start_iter").get<std::int64_t>(), end = input.at("max_iter").get<std::int64_t>();
    const auto due = [&](const char* period, std::int64_t i) {
      const auto every = input.at(period).get<std::int64_t>();
      return every > 0 && (i + 1) % every == 0 && i + 1 != end;
    };
    std::map<std::int64_t, State> states;
    std::int64_t i = start;
    for (; i < end && !failed; ++i) {
      if (fails_in_last && i + 1 == end) break;
      const auto evaluation = [&] {
        if (due("eval_period", i)) evaluate(i);
      };
      if (input.at("order") == "eval-first") evaluation();
      if (failed) break;
      if (due("best_period", i)) check(i);
      if (input.at("order") != "eval-first") evaluation();
      states[i] = state;
    }
    if (fails_in_last) rules.insert("nothing is evaluated after a failure");
    if (!failed && (!fails_in_last || !mended)) {
      const bool evaluates = input.at("eval_after_train").get<bool>();
      if (input.at("order") == "eval-first" && evaluates) evaluate(i);
      if (!failed) check(i);
      if (input.at("order") != "eval-first" && evaluates) evaluate(i);
    }
    states[end] = state;
    return states;
  }
};

Value to_value(const ordered_json& json) {
  if (json.is_null()) return Dict();
  if (json.is_string()) return Value(json.get<std::string>());
  if (BestModel::is_number(json)) return Value(reference_double(json));
  Dict dict;
  for (const auto& [key, value] : json.items()) dict.set(key, to_value(value));
  return dict;
}

void add_best_hooks(Saving& run, const ordered_json& input, hooks::BestCheckpointer*& best) {
  auto evaluations = std::make_shared<std::size_t>(0);
  auto evaluate = std::make_unique<hooks::EvalHook>(
      [evaluations, &input] {
        const auto& results = input.at("eval_results");
        return *evaluations < results.size() ? to_value(results[(*evaluations)++]).as_dict() : Dict();
      },
      hooks::EvalHookOptions{.period = input.at("eval_period").get<std::int64_t>(),
                             .eval_after_train = input.at("eval_after_train").get<bool>()});
  auto checkpointer = std::make_unique<hooks::BestCheckpointer>(
      run.checkpointer, hooks::BestCheckpointerOptions{.period = input.at("best_period").get<std::int64_t>(),
                                                       .metric = input.at("val_metric").get<std::string>(),
                                                       .mode = hooks::metric_mode_from_string(input.at("mode")),
                                                       .file_prefix = input.at("file_prefix").get<std::string>()});
  best = checkpointer.get();
  if (input.at("order") == "eval-first") {
    run.trainer.register_hook(std::move(evaluate));
    run.trainer.register_hook(std::move(checkpointer));
  } else {
    run.trainer.register_hook(std::move(checkpointer));
    run.trainer.register_hook(std::move(evaluate));
  }
}

void expect_recorded(const std::map<std::int64_t, BestModel::State>& states, const ordered_json& expect, std::int64_t end) {
  for (const auto& row : expect.at("rows")) {
    BestModel::State recorded;
    if (!row.at("best_metric").is_null()) recorded = {reference_double(row.at("best_metric")), row.at("best_iter")};
    EXPECT_EQ(states.at(row.contains("after_train") ? end : row.at("iter").get<std::int64_t>()), recorded)
        << "the model of Detectron2 is wrong: " << row;
  }
}

void run_best(const ordered_json& input, const ordered_json& expect) {
  Saving run;
  hooks::BestCheckpointer* best = nullptr;
  if (input.at("mode") != "max" && input.at("mode") != "min") {
    EXPECT_FALSE(raised(expect).empty());
    EXPECT_THROW(add_best_hooks(run, input, best), ConfigError);
    return;
  }
  const auto start = input.at("start_iter").get<std::int64_t>(), end = input.at("max_iter").get<std::int64_t>();
  BestModel python{.mended = false, .input = input}, mended{.mended = true, .input = input};
  expect_recorded(python.run(step_fails(expect)), expect, end);
  if (input.at("order") != "eval-first") {
    expect_listed("hooks out of order are refused");
    EXPECT_THROW(add_best_hooks(run, input, best), Error);
    return;
  }
  const auto states = mended.run(step_fails(expect));

  add_best_hooks(run, input, best);
  std::map<std::int64_t, BestModel::State> ours;
  run.trainer.add_hook<hooks::CallbackHook>(hooks::Callbacks{.after_step = [&](TrainerBase& t) {
    ours[t.iter()] = {best->best_metric(), best->best_iter()};
    EXPECT_EQ(run.files(), best->best_metric() ? Files{input.at("file_prefix").get<std::string>() + ".pth"} : Files());
  }});
  run.trainer.step = [&] {
    for (const auto& put : input.value("direct_puts", ordered_json::array())) {
      if (put[0] == run.trainer.iter()) run.trainer.storage().put_scalar(put[1].get<std::string>(), put[2].get<double>(), false);
    }
    if (step_fails(expect) && run.trainer.iter() + 1 == end) throw Error("boom");
  };
  EXPECT_EQ(train_fails(run.trainer, start, end), step_fails(expect) || mended.failed);
  ours[end] = {best->best_metric(), best->best_iter()};
  EXPECT_TRUE(ours == states);
  EXPECT_EQ(best->best_metric(), states.at(end).best);
  if (best->best_metric()) {
    EXPECT_EQ(run.iteration_in(input.at("file_prefix").get<std::string>() + ".pth"), states.at(end).best_iter);
    expect_listed("the best is not the one to resume from");
  }
  EXPECT_EQ(run.last(), std::nullopt);
  for (const std::string& rule : mended.rules) expect_listed(rule);
}

TEST(ReferenceHooks, BestCheckpointer) { each_hooks_case("best_checkpointer", run_best); }

}  // namespace
}  // namespace treadle
