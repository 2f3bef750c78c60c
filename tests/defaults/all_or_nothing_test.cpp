// A checkpoint of a real run with one leaf broken is refused, and the run that should have taken it is as it was; or it is taken
// whole.
#include <tests/defaults/tiny_run.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/defaults.hpp>

#include <gtest/gtest.h>

namespace treadle {
namespace {

/// Calls `visit` with every leaf of the tree; the leaf may be changed and must be put back.
void for_each_leaf(Value& value, const std::string& path, const std::function<void(Value&, const std::string&)>& visit) {
  switch (value.type()) {
    case Value::Type::dict:
      for (auto& entry : value.as_dict()) for_each_leaf(entry.value, path + "." + entry.key.to_string(), visit);
      break;
    case Value::Type::list:
      for (Value& item : value.as_list()) for_each_leaf(item, path + "[]", visit);
      break;
    default:
      visit(value, path);
  }
}

TEST(AllOrNothing, ABrokenLeafChangesNothing) {
  const TinyRun run;
  const TemporaryFolder output;
  const LogCapture quiet([](LogLevel, std::string_view) {});
  DefaultTrainer(run.config(output / "from"), nullptr).train();
  Value checkpoint = load_checkpoint_file(output / "from/model_0000009.pth");

  DefaultTrainer trainer(run.config(output / "to"), nullptr);
  trainer.train();
  const auto load_good = [&] { trainer.checkpointer().load(output / "to/model_final.pth"); };
  load_good();
  const auto state = [&] {
    Dict all = trainer.state_dict();
    all.set("events", trainer.storage().state_dict());
    return deep_clone(all);
  };
  const Dict before = state();
  int refused = 0, taken = 0;
  for_each_leaf(checkpoint, "", [&](Value& leaf, const std::string& path) {
    const bool of_the_model = path.starts_with(".model");  // what does not fit there is reported and passed over, as fvcore does
    if (of_the_model) return;
    const Value good = std::exchange(leaf, Value("broken"));
    save_checkpoint_file(output / "broken.pth", checkpoint);
    leaf = good;
    try {
      trainer.checkpointer().load(output / "broken.pth");
      ++taken;
      load_good();
    } catch (const FormatError&) {
      ++refused;
    }
    EXPECT_TRUE(identical(Value(state()), Value(before))) << path;
  });
  EXPECT_GT(refused, 40);
  EXPECT_LT(taken, refused);
}

}  // namespace
}  // namespace treadle
