#include <treadle/base/errors.hpp>
#include <treadle/data/data_loader.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

namespace treadle {
namespace {

std::vector<Sample> samples_of(std::string field, std::vector<Value> values) {
  std::vector<Sample> samples;
  for (Value& value : values) samples.push_back({{field, std::move(value)}});
  return samples;
}

TEST(Collate, StacksTensorsOfEqualForm) {
  for (at::ScalarType type : {at::kByte, at::kFloat, at::kDouble, at::kBool, at::kHalf, at::kComplexFloat}) {
    at::Tensor a = at::arange(6).view({2, 3}).to(type), b = at::full({2, 3}, 7).to(type);
    Dict batch = collate(samples_of("x", {a, b}));
    EXPECT_EQ(batch.at("x").as_tensor().scalar_type(), type);
    EXPECT_TRUE(at::equal(batch.at("x").as_tensor(), at::stack({a, b})));
  }
}

TEST(Collate, TakesStridedScalarAndEmptyTensors) {
  at::Tensor a = at::arange(6).view({2, 3}).t(), b = at::zeros({3, 2}, at::kLong);
  EXPECT_TRUE(at::equal(collate(samples_of("x", {a, b})).at("x").as_tensor(), at::stack({a, b})));
  at::Tensor scalars = collate(samples_of("x", {at::full({}, 3), at::full({}, 4)})).at("x").as_tensor();
  EXPECT_TRUE(at::equal(scalars, at::tensor({3, 4}, scalars.options())));
  EXPECT_EQ(collate(samples_of("x", {at::zeros({0, 5}), at::zeros({0, 5})})).at("x").as_tensor().sizes(),
            (std::vector<std::int64_t>{2, 0, 5}));
}

TEST(Collate, ABatchIsContiguousWhateverItsSamplesAre) {
  const at::Tensor pixels = at::arange(2 * 4 * 5 * 3).view({2, 4, 5, 3});
  BatchMemory memory;
  const at::Tensor batch =
      collate_into(samples_of("x", {pixels[0].permute({2, 0, 1}), pixels[1].permute({2, 0, 1}).contiguous()}), &memory)
          .at("x")
          .as_tensor();
  EXPECT_TRUE(batch.is_contiguous());
  EXPECT_TRUE(at::equal(batch, pixels.permute({0, 3, 1, 2})));
  EXPECT_TRUE(
      collate(samples_of("x", {pixels[0].permute({2, 0, 1}), pixels[1].permute({2, 0, 1})})).at("x").as_tensor().is_contiguous());
}

TEST(Collate, KeepsGradientsAndLazyConjugates) {
  at::Tensor leaf = at::zeros({2}).requires_grad_();
  EXPECT_TRUE(collate(samples_of("x", {leaf, at::zeros({2})})).at("x").as_tensor().requires_grad());
  at::Tensor complex = at::full({2}, c10::complex<float>(1, 2), at::kComplexFloat);
  at::Tensor lazy = complex.conj();
  EXPECT_TRUE(at::equal(collate(samples_of("x", {complex, lazy})).at("x").as_tensor(), at::stack({complex, lazy})));
}

TEST(Collate, MakesTensorsOfNumbers) {
  at::Tensor ints = collate(samples_of("x", {3, -4})).at("x").as_tensor();
  EXPECT_EQ(ints.scalar_type(), at::kLong);
  EXPECT_TRUE(at::equal(ints, at::tensor({3, -4}, at::kLong)));
  at::Tensor reals = collate(samples_of("x", {0.5, 0.25})).at("x").as_tensor();
  EXPECT_EQ(reals.scalar_type(), at::kDouble);
  EXPECT_TRUE(at::equal(reals, at::tensor({0.5, 0.25}, at::kDouble)));
  at::Tensor bools = collate(samples_of("x", {true, false})).at("x").as_tensor();
  EXPECT_EQ(bools.scalar_type(), at::kBool);
  EXPECT_EQ(bools.sum().item<int>(), 1);
}

TEST(Collate, MakesListsOfWhatDoesNotFitTogether) {
  const std::vector<std::vector<Value>> ragged = {{at::zeros({2}), at::zeros({3})},
                                                  {at::zeros({2}), at::zeros({2}, at::kLong)},
                                                  {at::zeros({2}), 1},
                                                  {1, 2.0},
                                                  {2.0, 1},
                                                  {true, 1},
                                                  {"a", "b"},
                                                  {nullptr, nullptr}};
  for (const auto& values : ragged) {
    Dict batch = collate(samples_of("x", values));
    ASSERT_TRUE(batch.at("x").is(Value::Type::list)) << describe(values[0]) << " " << describe(values[1]);
    EXPECT_TRUE(identical(batch.at("x"), List{values[0], values[1]}));
  }
}

TEST(Collate, FieldsAreFoundByNameInTheOrderOfTheFirst) {
  Dict batch = collate({{{"a", 1}, {"b", 2}}, {{"b", 4}, {"a", 3}}});
  EXPECT_EQ(batch.begin()->key, Key("a"));
  EXPECT_TRUE(at::equal(batch.at("a").as_tensor(), at::tensor({1, 3}, at::kLong)));
  EXPECT_TRUE(at::equal(batch.at("b").as_tensor(), at::tensor({2, 4}, at::kLong)));
  EXPECT_TRUE(collate({}).empty());
}

TEST(Collate, RefusesSamplesThatDifferInTheirFields) {
  EXPECT_THROW(collate({{{"a", 1}}, {{"b", 1}}}), FormatError);
  EXPECT_THROW(collate({{{"a", 1}}, {{"a", 1}, {"b", 1}}}), FormatError);
  EXPECT_THROW(collate({{{"a", 1}, {"b", 1}}, {{"a", 1}}}), FormatError);
}

}  // namespace
}  // namespace treadle
