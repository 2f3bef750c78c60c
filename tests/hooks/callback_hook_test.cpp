#include <tests/hooks/idle_trainer.hpp>
#include <treadle/hooks.hpp>

#include <gtest/gtest.h>

namespace treadle {
namespace {

TEST(CallbackHook, PassesEveryCallOn) {
  IdleTrainer trainer;
  std::vector<std::string> calls;
  const auto note = [&](const char* name) {
    return [&calls, name](TrainerBase& t) { calls.push_back(name + std::to_string(t.iter())); };
  };
  trainer.add_hook<hooks::CallbackHook>(hooks::Callbacks{.before_train = note("before_train "),
                                                         .after_train = note("after_train "),
                                                         .before_step = note("before_step "),
                                                         .after_backward = note("after_backward "),
                                                         .after_step = note("after_step "),
                                                         .registered = note("registered ")});
  trainer.train(3, 4);
  EXPECT_EQ(calls, (std::vector<std::string>{"registered 0", "before_train 3", "before_step 3", "after_backward 3",
                                             "after_step 3", "after_train 4"}));
}

TEST(CallbackHook, EmptyOnesAreFineAndItCanBeUsedTwice) {
  IdleTrainer trainer;
  int steps = 0;
  trainer.add_hook<hooks::CallbackHook>(hooks::Callbacks{.after_step = [&](TrainerBase&) { ++steps; }});
  trainer.train(0, 2);
  trainer.train(0, 2);
  EXPECT_EQ(steps, 4);
}

}  // namespace
}  // namespace treadle
