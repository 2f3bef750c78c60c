#include <treadle/engine.hpp>

#include <gtest/gtest.h>

namespace treadle {

namespace some {
struct Plain final : HookBase {};
template <class T>
struct Of final : HookBase {};
}  // namespace some

namespace {

struct Idle final : TrainerBase {
  void run_step() override {}
};

TEST(HookBase, KeyIsTheNameOfTheClassWithoutItsNamespaces) {
  struct Local final : HookBase {};
  EXPECT_EQ(some::Plain().key(), "Plain");
  EXPECT_EQ(Local().key(), "Local");
  EXPECT_EQ(some::Of<some::Plain>().key(), "Of<treadle::some::Plain>");
}

TEST(HookBase, SecondOfAClassGetsANumber) {
  Idle trainer;
  trainer.add_hook<some::Plain>();
  trainer.add_hook<some::Of<int>>();
  trainer.add_hook<some::Plain>();
  trainer.add_hook<some::Plain>();
  EXPECT_EQ(trainer.hook_keys(), (std::vector<std::string>{"Plain", "Of<int>", "Plain#2", "Plain#3"}));
}

// What would be the same hook twice does not compile, or is null by then.
template <class Hook>
constexpr bool can_register = requires(TrainerBase& trainer, Hook hook) { trainer.register_hook(std::forward<Hook>(hook)); };
static_assert(can_register<std::unique_ptr<HookBase>>);
static_assert(!can_register<std::unique_ptr<HookBase>&>);
static_assert(!can_register<HookBase*>);

TEST(HookBase, OneObjectIsRegisteredOnceAlone) {
  Idle trainer;
  std::unique_ptr<HookBase> hook = std::make_unique<some::Plain>();
  trainer.register_hook(std::move(hook));
  trainer.register_hook(std::move(hook));
  EXPECT_EQ(trainer.hook_keys(), std::vector<std::string>{"Plain"});
}

TEST(HookBase, DefaultsDoNothing) {
  Idle trainer;
  auto& hook = trainer.add_hook<some::Plain>();
  EXPECT_TRUE(hook.state_dict().empty());
  EXPECT_NO_THROW(hook.check_state_dict({{"x", 1}}));
  EXPECT_NO_THROW(hook.load_state_dict({{"x", 1}}));
  EXPECT_EQ(hook.phase(), Phase::any);
  trainer.train(0, 2);
  EXPECT_EQ(trainer.outcome(), Outcome::completed);
}

}  // namespace
}  // namespace treadle
