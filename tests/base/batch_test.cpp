#include <treadle/base/batch.hpp>
#include <treadle/base/errors.hpp>

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

namespace treadle {
namespace {

TEST(Batch, SizeComesFromIdsOrTheFirstField) {
  EXPECT_EQ(Batch(Dict{{"image", at::zeros({3, 2})}}).size(), 3);
  EXPECT_EQ(Batch(Dict{{"boxes", List{1, 2}}}).size(), 2);
  EXPECT_EQ(Batch(Dict{{"image", at::zeros({3, 2})}}, {5, 6, 7}).ids()[2], 7);
  EXPECT_EQ(Batch(Dict{{"image", at::zeros({3, 2})}}, {}).size(), 0) << "that of the ids, whatever the fields hold";
  EXPECT_EQ(Batch().size(), 0);
  EXPECT_THROW(Batch(Dict{{"n", 3}}), FormatError);
  EXPECT_THROW(Batch(Dict{{"n", at::zeros({})}}), FormatError);
}

TEST(Batch, AMissingFieldSaysWhichThereAre) {
  const Batch batch(Dict{{"image", at::zeros({1})}, {"boxes", List{1}}});
  try {
    batch.tensor("images");
    FAIL();
  } catch (const FormatError& error) {
    EXPECT_STREQ(error.what(), "the batch has no field \"images\" (did you mean \"image\"?); it has: \"image\" and \"boxes\"");
  }
  EXPECT_THROW(batch.tensor("boxes"), FormatError);
  EXPECT_THROW(batch.list("image"), FormatError);
  EXPECT_EQ(batch.list("boxes").size(), 1u);
  EXPECT_EQ(batch.field("image").as_tensor().numel(), 1);
}

TEST(Batch, MovesEveryTensorToTheDevice) {
  const Batch batch(Dict{
      {"image", at::zeros({1})}, {"targets", List{Dict{{"box", at::zeros({4})}}}}, {"pair", Tuple{at::zeros({2}), 5}}, {"n", 1}});
  const Batch moved = batch.to(c10::Device(c10::kMeta));
  EXPECT_TRUE(moved.tensor("image").is_meta());
  EXPECT_TRUE(moved.list("targets")[0].as_dict().at("box").as_tensor().is_meta());
  const Tuple& pair = moved.field("pair").as_tuple();
  EXPECT_TRUE(pair[0].as_tensor().is_meta());
  EXPECT_EQ(pair[1].as_int(), 5);
  EXPECT_FALSE(batch.tensor("image").is_meta());
  EXPECT_EQ(moved.fields().at("n").as_int(), 1);
}

}  // namespace
}  // namespace treadle
