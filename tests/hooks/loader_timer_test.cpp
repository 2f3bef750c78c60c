#include <tests/hooks/idle_trainer.hpp>
#include <treadle/events/event_storage.hpp>
#include <treadle/hooks.hpp>

#include <gtest/gtest.h>

namespace treadle {
namespace {

/// A source that is told what was waited for.
class Told final : public BatchSource {
 public:
  std::optional<Batch> next() override { return std::nullopt; }
  void rewind() override {}
  std::optional<BatchWait> waited() const override { return told; }
  Dict state_dict() const override { return {}; }
  void check_state_dict(const Dict&) const override {}
  void load_state_dict(const Dict&) override {}
  std::optional<BatchWait> told = BatchWait{};
};

TEST(LoaderTimer, RecordsWhatEachStepAdds) {
  IdleTrainer trainer;
  Told source;
  source.told = BatchWait{.decode = 100, .collate = 50};  // before the run
  trainer.add_hook<hooks::LoaderTimer>(source);
  trainer.step = [&] {
    source.told->decode += 2;
    source.told->collate += 0.5;
  };
  trainer.train(0, 3);
  EXPECT_EQ(trainer.storage().history("data_decode_time").latest(), 2);
  EXPECT_EQ(trainer.storage().history("data_collate_time").latest(), 0.5);
  EXPECT_EQ(trainer.storage().history("data_decode_time").size(), 3);
}

TEST(LoaderTimer, RecordsNothingFromASourceThatDoesNotKnow) {
  IdleTrainer trainer;
  Told source;
  source.told.reset();
  trainer.add_hook<hooks::LoaderTimer>(source);
  trainer.train(0, 2);
  EXPECT_EQ(trainer.storage().find_history("data_decode_time"), nullptr);
}

}  // namespace
}  // namespace treadle
