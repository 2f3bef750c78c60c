// The kinds of the family `hooks` about the loop itself: who is called when, what is state, what is timed and written.
#include <tests/support/temporary_folder.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine/simple_trainer.hpp>
#include <treadle/events/json_writer.hpp>
#include <treadle/hooks.hpp>
#include <treadle/models/model.hpp>

#include <ATen/ops/ones.h>
#include <torch/optim/sgd.h>

#include <map>

#include "tests/reference/events_model.hpp"
#include "tests/reference/hooks_cases.hpp"

namespace treadle {
namespace {

using reference::each_hooks_case;
using reference::expect_listed;
using reference::ordered_json;
using reference::raised;
using reference::TinyTrainer;
using reference::train_fails;

// ---- call_order

/// Notes its calls as [who, what, iteration of the trainer, iteration of the storage], and fails in the one it is told.
class Noting : public HookBase {
 public:
  Noting(int who, ordered_json& log, const ordered_json& fail) : who_(who), log_(log), fail_(fail) {}
  void before_train(TrainerBase& t) override { note("before_train", t); }
  void after_train(TrainerBase& t) override { note("after_train", t); }
  void before_step(TrainerBase& t) override { note("before_step", t); }
  void after_step(TrainerBase& t) override { note("after_step", t); }
  void after_backward(TrainerBase& t) override { note("after_backward", t); }

 private:
  void note(const char* what, const TrainerBase& t) {
    log_.push_back({who_, what, t.iter(), t.storage().iter()});
    const bool here = !fail_.is_null() && fail_[0] == who_ && fail_[1] == what;
    if (here && (fail_[2].is_null() || fail_[2] == t.iter())) throw std::runtime_error("boom");
  }
  int who_;
  ordered_json& log_;
  const ordered_json& fail_;
};

struct NotingModel final : Model {
  at::Tensor weight = register_parameter("weight", at::ones({1}));
  std::function<void()> on_forward;
  LossDict losses(const Batch&) override {
    on_forward();
    return {{"loss", weight.sum()}};
  }
  List predict(const Batch&) override { return {}; }
};

struct NotingSgd final : torch::optim::SGD {
  explicit NotingSgd(at::Tensor weight) : torch::optim::SGD(std::vector{std::move(weight)}, torch::optim::SGDOptions(0.1)) {}
  std::function<void()> on_step;
  at::Tensor step(LossClosure closure) override {
    on_step();
    return torch::optim::SGD::step(std::move(closure));
  }
};

void add_noting_hooks(TrainerBase& trainer, const ordered_json& input, ordered_json& log) {
  for (int i = 0; i < input.at("n_hooks").get<int>(); ++i) {
    if (input.at("none_hook_at") == i) trainer.register_hook(nullptr);
    trainer.register_hook(std::make_unique<Noting>(i, log, input.at("fail")));
  }
}

void expect_order(TrainerBase& trainer, const ordered_json& input, const ordered_json& expect, const ordered_json& log) {
  const auto start = input.at("start_iter").get<std::int64_t>(), end = input.at("max_iter").get<std::int64_t>();
  const bool failed = train_fails(trainer, start, end);
  if (start > end) {
    expect_listed("an empty range of iterations");
    EXPECT_TRUE(failed);
    return;
  }
  EXPECT_EQ(failed, !raised(expect).empty());
  ordered_json expected = expect.at("log_who_what_trainerIter_storageIter");
  // zero_grad of LibTorch's optimizers cannot be overridden: see the gradients in `run_simple_order`.
  expected.erase(std::remove_if(expected.begin(), expected.end(), [](const auto& call) { return call[1] == "zero_grad"; }),
                 expected.end());
  const auto& fail = input.at("fail");
  if (!fail.is_null() && fail[1] == "after_train") {
    expect_listed("every after_train runs");
    for (int who = fail[0].get<int>() + 1; who < input.at("n_hooks").get<int>(); ++who) {
      expected.push_back({who, "after_train", trainer.iter(), trainer.iter()});
    }
  }
  if (start == end) {
    expect_listed("an empty range of iterations");
    for (auto& call : expected) call[2] = call[3] = end;
  }
  EXPECT_EQ(log, expected);
  if (start < end) {
    EXPECT_EQ(trainer.iter(), expect.at("iter_end"));
    EXPECT_EQ(trainer.storage().iter(), expect.at("storage_iter_end"));
  }
  EXPECT_EQ(trainer.start_iter(), expect.at("start_iter_end"));
  EXPECT_EQ(trainer.max_iter(), expect.at("max_iter_end"));
}

void run_tiny_order(const ordered_json& input, const ordered_json& expect) {
  TinyTrainer trainer;
  ordered_json log = ordered_json::array();
  const auto& fail = input.at("fail");
  trainer.step = [&] {
    log.push_back({"run", "run_step", trainer.iter(), trainer.storage().iter()});
    if (!fail.is_null() && fail[0] == "run" && fail[2] == trainer.iter()) throw std::runtime_error("boom");
  };
  add_noting_hooks(trainer, input, log);
  expect_order(trainer, input, expect, log);
}

void run_simple_order(const ordered_json& input, const ordered_json& expect) {
  const auto model = std::make_shared<NotingModel>();
  NotingSgd optimizer(model->weight);
  const auto source = make_batch_source([]() -> std::optional<Batch> { return Batch(Dict{{"x", at::ones({1})}}); });
  const bool early = input.at("zero_grad_before_forward");
  SimpleTrainer trainer(model, *source, optimizer, {.zero_grad_before_forward = early});
  const LogCapture quiet([](LogLevel, std::string_view) {});
  ordered_json log = ordered_json::array();
  model->on_forward = [&] {
    log.push_back({"run", "forward", trainer.iter(), trainer.storage().iter()});
    const bool cleared = !model->weight.grad().defined() || model->weight.grad().item<double>() == 0;
    EXPECT_EQ(cleared, early || trainer.iter() == trainer.start_iter());
  };
  optimizer.on_step = [&] {
    log.push_back({"run", "optimizer.step", trainer.iter(), trainer.storage().iter()});
    EXPECT_EQ(model->weight.grad().item<double>(), 1) << "the gradients of two steps add up";
  };
  add_noting_hooks(trainer, input, log);
  expect_order(trainer, input, expect, log);
}

TEST(ReferenceHooks, CallOrder) {
  each_hooks_case("call_order", [](const ordered_json& input, const ordered_json& expect) {
    input.at("trainer") == "SimpleTrainer" ? run_simple_order(input, expect) : run_tiny_order(input, expect);
  });
}

// ---- callback

void run_callback(const ordered_json& input, const ordered_json& expect) {
  TinyTrainer trainer;
  ordered_json log = ordered_json::array();
  const auto given = input.at("given").get<std::vector<std::string>>();
  const auto note = [&](const char* name) -> std::function<void(TrainerBase&)> {
    if (std::find(given.begin(), given.end(), name) == given.end()) return nullptr;
    return [&log, name](TrainerBase& t) { log.push_back({name, t.iter()}); };
  };
  trainer.add_hook<hooks::CallbackHook>(hooks::Callbacks{.before_train = note("before_train"),
                                                         .after_train = note("after_train"),
                                                         .before_step = note("before_step"),
                                                         .after_step = note("after_step")});
  const auto iters = input.at("iters").get<std::int64_t>();
  trainer.train(0, iters);
  EXPECT_EQ(log, expect.at("log"));
  expect_listed("a hook of functions can be used again");
  log.clear();
  trainer.train(0, iters);
  EXPECT_EQ(log, expect.at("log"));
}

TEST(ReferenceHooks, CallbackHook) { each_hooks_case("callback", run_callback); }

// ---- trainer_state

struct StatefulHook final : HookBase {
  explicit StatefulHook(std::int64_t value) : v(value) {}
  std::int64_t v;
  std::string key() const override { return "Stateful"; }
  Dict state_dict() const override { return {{"v", v}}; }
  void load_state_dict(const Dict& state) override { v = state.at("v").as_int(); }
};

Dict to_dict(const ordered_json& json) {
  Dict dict;
  for (const auto& [key, value] : json.items()) {
    dict.set(key, value.is_object() ? Value(to_dict(value)) : Value(value.get<std::int64_t>()));
  }
  return dict;
}

void run_state(const ordered_json& input, const ordered_json& expect) {
  TinyTrainer trainer;
  std::vector<StatefulHook*> stateful;
  bool twice = false;
  for (std::size_t i = 0; i < input.at("hooks").size(); ++i) {
    if (input.at("hooks")[i] == "Stateful") {
      twice = twice || std::any_of(stateful.begin(), stateful.end(), [](auto* hook) { return hook != nullptr; });
      stateful.push_back(&trainer.add_hook<StatefulHook>(input.at("values")[i].get<std::int64_t>()));
    } else {
      trainer.add_hook<HookBase>();
      stateful.push_back(nullptr);
    }
  }
  // The cases were recorded behind iteration 12.
  trainer.load_state_dict({{"iteration", 12}});
  if (twice) {
    expect_listed("hooks of one class have states of their own");
    EXPECT_EQ(trainer.state_dict().at("hooks").as_dict().size(),
              static_cast<std::size_t>(std::count_if(stateful.begin(), stateful.end(), [](auto* h) { return h; })));
  } else {
    EXPECT_TRUE(identical(trainer.state_dict(), to_dict(expect.at("state_dict"))));
  }
  const Dict state = to_dict(input.at("load"));
  if (!raised(expect).empty()) {
    EXPECT_THROW(trainer.check_state_dict(state), FormatError);
    return;
  }
  trainer.check_state_dict(state);
  trainer.load_state_dict(state);
  EXPECT_EQ(trainer.iter(), expect.at("iter"));
  for (std::size_t i = 0; i < stateful.size() && !twice; ++i) {
    if (stateful[i]) {
      EXPECT_EQ(stateful[i]->v, expect.at("after_values")[i]);
    }
  }
  EXPECT_EQ(trainer.logs.size(), expect.at("logs").size());
  if (!trainer.logs.empty()) {
    expect_listed("the state of an unknown hook is kept");
    EXPECT_TRUE(identical(trainer.state_dict().at("hooks").as_dict().at("Nope"), state.at("hooks").as_dict().at("Nope")));
  }
}

TEST(ReferenceHooks, TrainerState) { each_hooks_case("trainer_state", run_state); }

// ---- iteration_timer

void run_timer(const ordered_json& input, const ordered_json& expect) {
  TinyTrainer trainer;
  double now = 1000;
  const auto cycled = [&](const char* name, std::int64_t iteration) {
    const auto& list = input.at(name);
    return reference_double(list[static_cast<std::size_t>(iteration) % list.size()]);
  };
  const auto start = input.at("start_iter").get<std::int64_t>();
  trainer.step = [&] {
    now += cycled("step_seconds_cycled", trainer.iter() - start);
    if (input.at("fail_at") == trainer.iter()) throw Error("boom");
  };
  trainer.add_hook<hooks::IterationTimer>(input.at("warmup_iter").get<std::int64_t>(), [&] { return now; });
  trainer.add_hook<hooks::CallbackHook>(hooks::Callbacks{
      .after_step = [&](TrainerBase& t) { now += cycled("other_hook_seconds_by_iter_cycled", t.iter() - start); }});
  EXPECT_EQ(train_fails(trainer, start, input.at("max_iter")), !raised(expect).empty());
  ordered_json times = ordered_json::array();
  if (const auto* history = trainer.storage().find_history("time")) {
    for (const auto& sample : history->values()) times.push_back({sample.value, sample.iteration});
  }
  ASSERT_EQ(times.size(), expect.at("time_values").size());
  for (std::size_t i = 0; i < times.size(); ++i) {
    EXPECT_EQ(times[i][0].get<double>(), reference_double(expect.at("time_values")[i][0]));
    EXPECT_EQ(times[i][1], expect.at("time_values")[i][1]);
  }
  std::vector<std::string> summary;
  for (const std::string& line : trainer.logs) {
    if (line.starts_with("Overall") || line.starts_with("Total")) summary.push_back(line);
  }
  EXPECT_EQ(summary, expect.at("logs").get<std::vector<std::string>>());
}

TEST(ReferenceHooks, IterationTimer) { each_hooks_case("iteration_timer", run_timer); }

// ---- periodic_writer

struct NotingWriter final : EventWriter {
  explicit NotingWriter(ordered_json& log) : log_(log) {}
  void write(EventStorage& storage) override { log_.push_back({"write", at = storage.iter()}); }
  void close() override { log_.push_back({"close", at}); }
  std::int64_t at = 0;
  ordered_json& log_;
};

/// The lines of metrics.json as the model of the family `events` writes them, mended.
nlohmann::json model_lines(const ordered_json& input, const ordered_json& calls, std::set<std::string>& rules) {
  const auto start = input.at("start_iter").get<std::int64_t>(), end = input.at("max_iter").get<std::int64_t>();
  reference::EventsModel model(true, start, 20, std::nullopt, 20);
  nlohmann::json lines = nlohmann::json::array();
  const auto write = [&](std::int64_t at) {
    for (const auto& call : calls) {
      if (call[0] != "write" || call[1] != at) continue;
      for (const auto& line : model.json_write()) lines.push_back(line);
    }
  };
  const auto& period = input.at("eval_period");
  for (std::int64_t i = start; i < end; ++i) {
    model.set_iter(i);
    if (input.at("fail_at") == i) {
      write(i);
      return lines;
    }
    model.put("loss", static_cast<double>(i), true, std::nullopt);
    if (!period.is_null() && (i + 1) % period.get<std::int64_t>() == 0 && i + 1 != end) {
      model.put("acc", static_cast<double>(i), false, std::nullopt);
    }
    write(i);
  }
  model.set_iter(end);
  if (!period.is_null()) model.put("acc", static_cast<double>(end), false, std::nullopt);
  write(end);
  rules = model.rules();
  return lines;
}

void run_writer(const ordered_json& input, const ordered_json& expect) {
  const TemporaryFolder folder;
  TinyTrainer trainer;
  ordered_json calls = ordered_json::array();
  trainer.step = [&] {
    if (input.at("fail_at") == trainer.iter()) throw Error("boom");
    trainer.storage().put_scalar("loss", static_cast<double>(trainer.iter()));
  };
  if (!input.at("eval_period").is_null()) {
    trainer.add_hook<hooks::EvalHook>([&] { return Dict{{"acc", static_cast<double>(trainer.iter())}}; },
                                      hooks::EvalHookOptions{.period = input.at("eval_period").get<std::int64_t>()});
  }
  std::vector<hooks::PeriodicWriter::NamedWriter> writers;
  writers.emplace_back("noting", std::make_unique<NotingWriter>(calls));
  writers.emplace_back("metrics.json", std::make_unique<JSONWriter>(JSONWriterOptions{.file = folder / "metrics.json"}));
  trainer.add_hook<hooks::PeriodicWriter>(std::move(writers), input.at("period").get<std::int64_t>());
  const auto start = input.at("start_iter").get<std::int64_t>(), end = input.at("max_iter").get<std::int64_t>();
  EXPECT_EQ(train_fails(trainer, start, end), !raised(expect).empty());
  ordered_json expected = expect.at("calls");
  if (start == end) {
    expect_listed("an empty range of iterations");
    for (auto& call : expected) call[1] = end;
  }
  EXPECT_EQ(calls, expected);

  std::set<std::string> rules;
  const nlohmann::json lines = model_lines(input, calls, rules);
  const auto ours = lines_of(read_text(folder / "metrics.json"));
  ASSERT_EQ(ours.size(), lines.size());
  for (std::size_t i = 0; i < ours.size(); ++i) EXPECT_EQ(nlohmann::json::parse(ours[i]), lines[i]);
  if (rules.empty()) {
    EXPECT_EQ(ours, expect.at("metrics_json").get<std::vector<std::string>>());
  }
}

TEST(ReferenceHooks, PeriodicWriter) { each_hooks_case("periodic_writer", run_writer); }

}  // namespace
}  // namespace treadle
