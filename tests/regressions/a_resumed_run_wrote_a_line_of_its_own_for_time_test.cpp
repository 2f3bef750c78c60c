// A resumed run recorded no "time" during its warm-up, so metrics.json got a line for the iteration of the last value before the
// save.
#include <tests/support/temporary_folder.hpp>
#include <treadle/base/log.hpp>
#include <treadle/engine.hpp>
#include <treadle/events/json_writer.hpp>
#include <treadle/hooks.hpp>

#include <gtest/gtest.h>

namespace treadle {
namespace {

struct Steps final : TrainerBase {
  void run_step() override { storage().put_scalar("loss", static_cast<double>(iter())); }
};

TEST(Regressions, AResumedRunWritesTheLinesOfOneThatWasNeverStopped) {
  const LogCapture quiet([](LogLevel, std::string_view) {});
  const TemporaryFolder folder;
  const auto make = [&](Steps& trainer, const std::string& file) {
    trainer.add_hook<hooks::IterationTimer>();
    std::vector<hooks::PeriodicWriter::NamedWriter> writers;
    writers.emplace_back("metrics", std::make_unique<JSONWriter>(JSONWriterOptions{.file = folder / file}));
    trainer.add_hook<hooks::PeriodicWriter>(std::move(writers), 10);
  };
  Steps whole, first, second;
  make(whole, "whole");
  whole.train(0, 20);
  make(first, "resumed");
  first.train(0, 9);
  const Dict storage = first.storage().state_dict();
  write_text(folder / "resumed", "");
  make(second, "resumed");
  second.storage().load_state_dict(storage);
  second.train(9, 20);
  EXPECT_EQ(lines_of(read_text(folder / "whole")).size(), 2u);
  EXPECT_EQ(lines_of(read_text(folder / "resumed")).size(), lines_of(read_text(folder / "whole")).size());
}

}  // namespace
}  // namespace treadle
