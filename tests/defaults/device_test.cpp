// What needs an accelerator.
#include <tests/defaults/tiny_run.hpp>
#include <treadle/base/device.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/defaults.hpp>
#include <treadle/models/model.hpp>

#include <gtest/gtest.h>

namespace treadle {
namespace {

struct Device : testing::Test {
  void SetUp() override {
    if (accelerator_count() == 0) GTEST_SKIP() << "this machine has no accelerator that LibTorch can use";
  }
};

TEST_F(Device, ARunTrainsThereAndItsCheckpointIsReadAnywhere) {
  const LogCapture quiet([](LogLevel, std::string_view) {});
  const TinyRun run;
  const TemporaryFolder output;
  DefaultTrainer trainer(run.config(output / ".", {"MODEL.DEVICE", "auto"}), nullptr);
  EXPECT_FALSE(named_parameters(trainer.model()).front().tensor.is_cpu());
  const Dict results = trainer.train();
  EXPECT_GT(results.at("classification").as_dict().at("accuracy").as_double(), 20);
  const Value file = load_checkpoint_file(output / "model_final.pth");
  EXPECT_TRUE(file.as_dict().at("model").as_dict().begin()->value.as_tensor().is_cpu());
}

TEST_F(Device, AResumedRunGoesOnFromItsCheckpoint) {
  const LogCapture quiet([](LogLevel, std::string_view) {});
  const TinyRun run;
  const TemporaryFolder output;
  DefaultTrainer(run.config(output / ".", {"MODEL.DEVICE", "auto"}), nullptr).train();
  write_text(output / "last_checkpoint", "model_0000004.pth");
  DefaultTrainer trainer(run.config(output / ".", {"MODEL.DEVICE", "auto"}), nullptr);
  trainer.resume_or_load(true);
  EXPECT_EQ(trainer.start_iter(), 5);
  trainer.train();
  EXPECT_EQ(trainer.outcome(), Outcome::completed);
}

TEST_F(Device, GeneratorStateOfTheDeviceComesBack) {
  seed_everything(3);
  const Dict state = deep_clone(default_generator_state());
  EXPECT_EQ(state.size(), 1u + static_cast<std::size_t>(accelerator_count()));
  seed_everything(4);
  set_default_generator_state(state);
  EXPECT_TRUE(identical(state, default_generator_state()));
  synchronize_device(default_device());
}

}  // namespace
}  // namespace treadle
