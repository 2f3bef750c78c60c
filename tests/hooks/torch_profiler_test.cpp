#include <tests/hooks/idle_trainer.hpp>
#include <tests/support/fake_group.hpp>
#include <tests/support/temporary_folder.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/hooks.hpp>

#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>

#include "hooks/operation_table.hpp"

namespace treadle {
namespace {

namespace fs = std::filesystem;
using hooks::operation_costs;
using hooks::OperationEvent;
using hooks::TorchProfiler;
using hooks::TorchProfilerOptions;
using Names = std::vector<std::string>;

/// A run whose iteration i multiplies matrices of i + 1 rows.
struct TorchProfilerTest : testing::Test {
  TemporaryFolder folder;
  IdleTrainer trainer;
  TorchProfilerTest() {
    trainer.step = [this] { at::mm(at::ones({trainer.iter() + 1, 3}), at::ones({3, 2})); };
  }
  void add(TorchProfilerOptions options) {
    options.output_dir = folder.path() / "traces";
    trainer.add_hook<TorchProfiler>(std::move(options));
  }
  Names files() const {
    Names names;
    for (const auto& entry : fs::directory_iterator(folder.path() / "traces")) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }
  nlohmann::json trace(const std::string& name) const {
    return nlohmann::json::parse(read_text(folder.path() / "traces" / name));
  }
  /// How many matrix products a trace holds.
  std::int64_t products(const std::string& name) const {
    const nlohmann::json events = trace(name).at("traceEvents");
    return std::count_if(events.begin(), events.end(), [](const auto& event) { return event.value("name", "") == "aten::mm"; });
  }
  bool logged(const std::string& part) const {
    return std::any_of(trainer.logs.begin(), trainer.logs.end(),
                       [&](const std::string& line) { return line.find(part) != std::string::npos; });
  }
};

TEST_F(TorchProfilerTest, WritesATraceForEachStepThatIsEnabled) {
  add({.enable = [](const TrainerBase& t) { return t.iter() == 2 || t.iter() == 3; }});
  trainer.train(0, 6);
  EXPECT_EQ(files(), (Names{"profiler-trace-iter2.json", "profiler-trace-iter3.json"}));
  EXPECT_EQ(products("profiler-trace-iter2.json"), 1);
  EXPECT_TRUE(logged("The costliest operations"));
  EXPECT_TRUE(logged("aten::mm"));
}

TEST_F(TorchProfilerTest, WaitsWarmsUpAndRecordsInTurn) {
  add({.wait = 1, .warmup = 1, .active = 2, .repeat = 2});
  trainer.train(0, 20);
  EXPECT_EQ(files(), (Names{"profiler-trace-iter3.json", "profiler-trace-iter7.json"}));
  EXPECT_EQ(products("profiler-trace-iter3.json"), 2);
}

TEST_F(TorchProfilerTest, AStepThatDoesNotCountEndsARecordingAndBeginsTheCycleAnew) {
  add({.enable = [](const TrainerBase& t) { return t.iter() != 3; }, .wait = 1, .active = 4, .repeat = 1});
  trainer.train(0, 9);
  EXPECT_EQ(files(), (Names{"profiler-trace-iter2.json", "profiler-trace-iter8.json"}));
  EXPECT_EQ(products("profiler-trace-iter2.json"), 2);
  EXPECT_EQ(products("profiler-trace-iter8.json"), 4);
}

TEST_F(TorchProfilerTest, TheEndOfTheRunEndsARecordingAFailureToo) {
  add({.active = 100});
  trainer.step = [this] {
    at::mm(at::ones({2, 2}), at::ones({2, 2}));
    if (trainer.iter() == 3) throw FormatError("boom");
  };
  EXPECT_THROW(trainer.train(0, 9), FormatError);
  EXPECT_EQ(products("profiler-trace-iter2.json"), 4);
}

TEST_F(TorchProfilerTest, AWarmUpAloneLeavesNothing) {
  add({.warmup = 100});
  trainer.train(0, 3);
  EXPECT_EQ(files(), Names());
  add({.enable = [](const TrainerBase& t) { return t.iter() == 4; }});
}

TEST_F(TorchProfilerTest, ShapesAndMemoryAreRecordedWhenAskedFor) {
  const auto only_once = [](const TrainerBase& t) { return t.iter() == 1; };
  add({.enable = only_once});
  trainer.train(0, 2);
  const std::string with = read_text(folder.path() / "traces" / "profiler-trace-iter1.json");
  EXPECT_NE(with.find("Input Dims"), std::string::npos);
  EXPECT_NE(with.find("[memory]"), std::string::npos);

  IdleTrainer second;
  second.step = trainer.step;
  second.add_hook<TorchProfiler>(TorchProfilerOptions{.enable = [](const TrainerBase&) { return true; },
                                                      .output_dir = folder.path() / "bare",
                                                      .record_shapes = false,
                                                      .profile_memory = false,
                                                      .table_rows = 0});
  second.train(0, 1);
  const std::string without = read_text(folder.path() / "bare" / "profiler-trace-iter0.json");
  EXPECT_NE(without.find("aten::mm"), std::string::npos);
  EXPECT_EQ(without.find("Input Dims"), std::string::npos);
  EXPECT_EQ(without.find("[memory]"), std::string::npos);
  EXPECT_TRUE(std::none_of(second.logs.begin(), second.logs.end(),
                           [](const auto& line) { return line.find("costliest") != std::string::npos; }));
}

TEST_F(TorchProfilerTest, FilesAreNamedForTensorBoardWhenAskedFor) {
  add({.repeat = 1, .tensorboard = true});
  trainer.train(0, 1);
  const fs::path inside = folder.path() / "traces" / "log" / "profiler-tensorboard-iter0";
  ASSERT_TRUE(fs::is_directory(inside));
  const std::string name = fs::directory_iterator(inside)->path().filename().string();
  EXPECT_TRUE(name.starts_with("worker0.") && name.ends_with(".pt.trace.json")) << name;
}

TEST_F(TorchProfilerTest, OtherRanksWriteFilesOfTheirOwn) {
  auto group = std::make_shared<FakeGroup>(1, 2);
  group->play_exchange = [](const std::vector<double>& own) { return StepRows{own, own}; };
  IdleTrainer other({.group = group, .events = {}});
  other.add_hook<TorchProfiler>(TorchProfilerOptions{.output_dir = folder.path() / "traces"});
  other.train(0, 1);
  EXPECT_EQ(files(), Names{"profiler-trace-iter0-rank1.json"});
}

TEST_F(TorchProfilerTest, ThePlainProfilerRecordsTimesAlone) {
  trainer.add_hook<hooks::AutogradProfiler>(hooks::AutogradProfilerOptions{
      .enable = [](const TrainerBase& t) { return t.iter() == 1; }, .output_dir = folder.path() / "traces"});
  trainer.train(0, 3);
  EXPECT_EQ(files(), Names{"profiler-trace-iter1.json"});
  EXPECT_EQ(products("profiler-trace-iter1.json"), 1);
  EXPECT_EQ(read_text(folder.path() / "traces" / "profiler-trace-iter1.json").find("Input Dims"), std::string::npos);
  EXPECT_EQ(trainer.hook_keys(), Names{"AutogradProfiler"});
}

TEST_F(TorchProfilerTest, AFolderThatCannotBeMadeIsAnErrorBeforeTheFirstStep) {
  write_text(folder.path() / "traces", "a file");
  add({});
  int steps = 0;
  trainer.step = [&] { ++steps; };
  EXPECT_THROW(trainer.train(0, 2), IoError);
  EXPECT_EQ(steps, 0);
}

TEST_F(TorchProfilerTest, OptionsOutOfRangeAreNamed) {
  EXPECT_THROW(hooks::validate(TorchProfilerOptions{.wait = -1}), ConfigError);
  EXPECT_THROW(hooks::validate(TorchProfilerOptions{.warmup = -1}), ConfigError);
  EXPECT_THROW(hooks::validate(TorchProfilerOptions{.active = 0}), ConfigError);
  EXPECT_THROW(hooks::validate(TorchProfilerOptions{.repeat = -1}), ConfigError);
  EXPECT_THROW(hooks::validate(TorchProfilerOptions{.table_rows = -1}), ConfigError);
  EXPECT_THROW(TorchProfiler(TorchProfilerOptions{.output_dir = ""}), ConfigError);
}

OperationEvent operation(const char* name, std::int64_t start, std::int64_t end, std::uint64_t thread = 1) {
  return {.name = name, .thread = thread, .start_ns = start, .end_ns = end};
}
OperationEvent memory(std::int64_t at, std::int64_t bytes) {
  return {.name = "[memory]", .thread = 1, .start_ns = at, .end_ns = at, .is_memory = true, .bytes = bytes};
}

TEST(OperationCosts, AreThoseOfAnOperationWithoutWhatRunsInsideIt) {
  const auto costs = operation_costs({operation("inner", 20, 50), operation("outer", 0, 100), operation("leaf", 30, 40),
                                      operation("inner", 60, 65), operation("inner", 200, 300, 2), memory(20, 7), memory(70, 100),
                                      memory(80, -30), memory(150, 1)});
  ASSERT_EQ(costs.size(), 3u);
  EXPECT_EQ(costs[0].name, "inner");
  EXPECT_EQ(costs[0].calls, 3);
  EXPECT_EQ(costs[0].self_ns, 20 + 5 + 100);
  EXPECT_EQ(costs[0].total_ns, 30 + 5 + 100);
  EXPECT_EQ(costs[0].bytes, 7);
  EXPECT_EQ(costs[1].name, "outer");
  EXPECT_EQ(costs[1].self_ns, 100 - 30 - 5);
  EXPECT_EQ(costs[1].total_ns, 100);
  EXPECT_EQ(costs[1].bytes, 70);
  EXPECT_EQ(costs[2].self_ns, 10);
}

TEST(OperationCosts, WorkOfADeviceCountsBeforeTime) {
  const auto costs =
      operation_costs({operation("host", 0, 100), {.name = "kernel", .start_ns = 10, .end_ns = 15, .on_device = true}});
  EXPECT_EQ(costs[0].name, "kernel");
  EXPECT_EQ(costs[0].device_ns, 5);
  EXPECT_EQ(costs[1].self_ns, 100);
  EXPECT_NE(operation_table(costs, 2).find("device"), std::string::npos);
}

TEST(OperationTable, HoldsTheFirstRows) {
  const std::string table = hooks::operation_table(
      {{.name = "aten::mm", .calls = 2, .self_ns = 1'500'000, .total_ns = 2'000'000'000, .bytes = 2048}, {.name = "aten::add"}},
      1);
  EXPECT_EQ(lines_of(table).size(), 2u);
  EXPECT_EQ(lines_of(table)[1], "aten::mm                                        2      1.5 ms      2.00 s     2.0 KiB");
}

}  // namespace
}  // namespace treadle
