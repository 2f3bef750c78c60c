#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/events/common_metric_printer.hpp>
#include <treadle/events/event_storage.hpp>
#include <treadle/events/live_line.hpp>

#include <gtest/gtest.h>

#include <system_error>

namespace treadle {
namespace {

/// A writer that does what the test says.
class FakeWriter final : public EventWriter {
 public:
  struct Log {
    int writes = 0, closes = 0, loads = 0;
    std::function<void()> action = [] {};
  };
  explicit FakeWriter(Log& log) : log_(log) {}
  void write(EventStorage&) override {
    ++log_.writes;
    log_.action();
  }
  void close() override {
    ++log_.closes;
    log_.action();
  }
  Dict state_dict() const override { return {{"writes", log_.writes}}; }
  void check_state_dict(const Dict& state) const override { state.at("writes"); }
  void load_state_dict(const Dict&) override {
    ++log_.loads;
    log_.action();
  }

 private:
  Log& log_;
};

struct GuardedWriterTest : testing::Test {
  std::vector<std::pair<LogLevel, std::string>> lines;
  LogCapture capture{[this](LogLevel level, std::string_view text) { lines.emplace_back(level, text); }};
  FakeWriter::Log log;
  EventStorage storage;
  GuardedWriter writer{std::make_unique<FakeWriter>(log), "metrics.json"};
};

void full_disk() { throw IoError("write to", "/out/metrics.json", ENOSPC); }

TEST_F(GuardedWriterTest, ReportsOncePausesAndComesBack) {
  log.action = full_disk;
  std::vector<int> tried;
  for (int call = 0; call < 12; ++call) {
    const int before = log.writes;
    writer.write(storage);
    if (log.writes > before) tried.push_back(call);
  }
  EXPECT_EQ(tried, (std::vector<int>{0, 2, 5, 10}));
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0].first, LogLevel::warning);
  EXPECT_NE(lines[0].second.find("metrics.json"), std::string::npos);
  EXPECT_NE(lines[0].second.find("No space left"), std::string::npos);
  EXPECT_TRUE(writer.paused());

  log.action = [] {};
  for (int call = 0; call < 64; ++call) writer.write(storage);
  EXPECT_FALSE(writer.paused());
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[1].first, LogLevel::info);
  const int before = log.writes;
  writer.write(storage);
  EXPECT_EQ(log.writes, before + 1);
}

TEST_F(GuardedWriterTest, NeverWaitsForMoreThan64Calls) {
  log.action = full_disk;
  for (int call = 0; call < 1000; ++call) writer.write(storage);
  const int before = log.writes;
  for (int call = 0; call < 65; ++call) writer.write(storage);
  EXPECT_EQ(log.writes, before + 1);
}

TEST_F(GuardedWriterTest, GuardsEveryCallAndEveryKindOfRefusal) {
  log.action = [] { throw std::system_error(EIO, std::generic_category()); };
  writer.load_state_dict({});
  writer.close();
  EXPECT_EQ(log.loads, 1);
  EXPECT_EQ(log.closes, 1);
  EXPECT_EQ(lines.size(), 1U);
}

TEST_F(GuardedWriterTest, OtherErrorsPass) {
  log.action = [] { throw FormatError("a bug"); };
  EXPECT_THROW(writer.write(storage), FormatError);
  EXPECT_FALSE(writer.paused());
  EXPECT_TRUE(lines.empty());
  EXPECT_THROW(GuardedWriter(nullptr, "x"), Error);
}

TEST_F(GuardedWriterTest, HasTheStateOfTheWriterInside) {
  writer.write(storage);
  EXPECT_EQ(writer.state_dict().at("writes").as_int(), 1);
  EXPECT_THROW(writer.check_state_dict({}), FormatError);
}

TEST(EventWriter, HasNoStateUnlessItSaysSo) {
  CommonMetricPrinter printer;
  EventWriter& writer = printer;
  EXPECT_TRUE(writer.state_dict().empty());
  EXPECT_NO_THROW(writer.check_state_dict({{"anything", 1}}));
  EXPECT_NO_THROW(writer.load_state_dict({{"anything", 1}}));
  EXPECT_NO_THROW(writer.close());
}

std::string printed(CommonMetricPrinter& printer, EventStorage& storage) {
  std::string line;
  const LogCapture capture([&](LogLevel, std::string_view text) { line = text; });
  printer.write(storage);
  return line;
}

TEST(CommonMetricPrinter, HonoursItsOptions) {
  EventStorage storage;
  for (int i = 0; i < 4; ++i, storage.step()) {
    storage.put_scalar("loss", i);
    storage.put_scalar("data_time", i);
    storage.put_scalar("time", 2);
  }
  CommonMetricPrinter narrow({.max_iter = 9, .window = 1}), wide({.window = 4});
  EXPECT_EQ(printed(narrow, storage),
            " eta: 0:00:08  iter: 4  loss: 3    time: 2.0000  last_time: 2.0000  data_time: 3.0000  last_data_time: 3.0000   lr: "
            "N/A  ");
  EXPECT_EQ(printed(wide, storage),
            " iter: 4  loss: 1.5    time: 2.0000  last_time: 2.0000  data_time: 1.5000  last_data_time: 3.0000   lr: N/A  ");
  EXPECT_EQ(storage.history("eta_seconds").values(), (std::vector<HistoryBuffer::Sample>{{8, 4}}));
  EXPECT_THROW(CommonMetricPrinter({.window = 0}), ConfigError);
}

TEST(CommonMetricPrinter, HasAClockOfItsOwn) {
  EventStorage storage;
  CommonMetricPrinter printer({.max_iter = 1000});
  printed(printer, storage);
  storage.set_iter(999);
  EXPECT_EQ(printed(printer, storage), " eta: 0:00:00  iter: 999       lr: N/A  ");
}

TEST(CommonMetricPrinter, ARunThatWentBackHasNoPaceYet) {
  double now = 100;
  EventStorage storage(9);
  CommonMetricPrinter printer({.max_iter = 13, .clock = [&now] { return now++; }});
  printed(printer, storage);
  for (const std::int64_t back : {9, 3}) {
    storage.set_iter(back);
    EXPECT_EQ(printed(printer, storage).find("eta"), std::string::npos) << back;
  }
  storage.set_iter(4);
  EXPECT_EQ(printed(printer, storage).find(" eta: 0:00:08  iter: 4"), 0u);
}

struct LiveLineTest : testing::Test {
  std::vector<std::string> shown;
  int width = 200;
  EventStorage storage{1239};
  LiveLineOptions options{.max_iter = 2345,
                          .images_per_batch = 128,
                          .width = [this] { return width; },
                          .show = [this](std::string_view line) { shown.emplace_back(line); }};

  void record() {
    storage.put_scalars({{"total_loss", 0.3124}, {"loss_cls", 0.25}, {"time", 0.04}, {"data_time", 0.001}});
    storage.put_scalar("lr", 0.08714, false);
  }
  std::string line() {
    LiveLine(options).write(storage);
    return shown.empty() ? "" : shown.back();
  }
};

TEST_F(LiveLineTest, ShowsTheRun) {
  record();
  EXPECT_EQ(line(),
            "iter 1240/2345 | eta 0:00:44 | total_loss 0.3124 | lr 0.0871 | 3200 images/s | data wait 2% | loss_cls 0.25");
}

TEST_F(LiveLineTest, FitsTheWidth) {
  record();
  const std::string whole = line();
  for (width = 1; width <= static_cast<int>(whole.size()); ++width) {
    const std::string cut = line();
    EXPECT_LE(static_cast<int>(cut.size()), width);
    EXPECT_TRUE(whole.starts_with(cut));
    EXPECT_TRUE(cut.empty() || cut == whole || whole.substr(cut.size()).starts_with(" | ")) << cut;
  }
  EXPECT_EQ(shown.back(), whole);
  width = static_cast<int>(whole.size()) - 1;
  EXPECT_EQ(line(), whole.substr(0, whole.rfind(" | ")));
  storage.put_scalar("a_loss_\xc3\xa9", 1);
  width = static_cast<int>(whole.size() + 3 + 10);
  EXPECT_EQ(line(), whole + " | a_loss_\xc3\xa9 1");
}

TEST_F(LiveLineTest, LeavesOutWhatIsNotKnown) {
  EXPECT_EQ(line(), "iter 1240/2345");
  options.max_iter.reset();
  options.images_per_batch = 0;
  record();
  EXPECT_EQ(line(), "iter 1240 | total_loss 0.3124 | lr 0.0871 | data wait 2% | loss_cls 0.25");
}

TEST_F(LiveLineTest, SmoothsOverItsWindow) {
  for (const double loss : {1.0, 2.0, 3.0, 4.0}) {
    storage.put_scalar("total_loss", loss);
    storage.step();
  }
  options.max_iter.reset();
  options.window = 2;
  EXPECT_EQ(line(), "iter 1244 | total_loss 3.5");
}

TEST_F(LiveLineTest, SaysNothingWithoutATerminal) {
  width = 0;
  LiveLine live(options);
  live.write(storage);
  live.close();
  EXPECT_TRUE(shown.empty());
}

TEST_F(LiveLineTest, CloseRemovesTheLineOnce) {
  LiveLine live(options);
  live.write(storage);
  live.close();
  live.close();
  EXPECT_EQ(shown, (std::vector<std::string>{"iter 1240/2345", ""}));
}

TEST(LiveLine, RefusesBadOptions) {
  EXPECT_THROW(LiveLine({.window = 0}), ConfigError);
  EXPECT_THROW(LiveLine({.images_per_batch = -1}), ConfigError);
  EXPECT_NO_THROW(LiveLine().close());
}

}  // namespace
}  // namespace treadle
