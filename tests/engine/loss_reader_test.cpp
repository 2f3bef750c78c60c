#include "engine/loss_reader.hpp"

#include <treadle/base/errors.hpp>

#include <ATen/ops/_efficientzerotensor.h>
#include <ATen/ops/_neg_view.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/scalar_tensor.h>
#include <gtest/gtest.h>

namespace treadle {
namespace {

NamedNumbers read(LossReader& reader) {
  NamedNumbers means;
  reader.read(means);
  return means;
}

TEST(LossReader, ReadsEveryKindOfTensorOfOneElement) {
  const at::Tensor third = at::arange(4, at::kFloat).add(0.1).requires_grad_()[2];
  LossReader reader;
  reader.add({{"float", at::scalar_tensor(0.1, at::kFloat)},
              {"double", at::scalar_tensor(0.1, at::kDouble)},
              {"half", at::scalar_tensor(0.1, at::kHalf)},
              {"bfloat16", at::scalar_tensor(0.1, at::kBFloat16)},
              {"integer", at::scalar_tensor(7, at::kLong)},
              {"inside of another", third},
              {"of two dimensions", at::full({1, 1}, 2.5, at::kFloat)},
              {"seen negated", at::_neg_view(at::scalar_tensor(0.25, at::kFloat))},
              {"zero without memory", at::_efficientzerotensor({}, at::kFloat)}},
             true, 0);
  EXPECT_EQ(read(reader), (NamedNumbers{{"float", 0.1F},
                                        {"double", 0.1},
                                        {"half", 0.0999755859375},
                                        {"bfloat16", 0.10009765625},
                                        {"integer", 7},
                                        {"inside of another", 2.1F},
                                        {"of two dimensions", 2.5},
                                        {"seen negated", -0.25},
                                        {"zero without memory", 0}}));
}

TEST(LossReader, ReadsWhatHasItsNumberElsewhereThoughItIsTheFirst) {
  const auto number_of = [](const at::Tensor& loss) {
    LossReader reader;
    reader.add({{"loss", loss}}, true, 0);
    return read(reader).front().second;
  };
  EXPECT_EQ(number_of(at::_neg_view(at::scalar_tensor(0.25, at::kFloat))), -0.25);
  EXPECT_EQ(number_of(at::_efficientzerotensor({}, at::kFloat)), 0);
  EXPECT_EQ(number_of(at::scalar_tensor(0.25, at::kDouble)), 0.25);
}

TEST(LossReader, GivesTheMeanOverBatchesOfTheSameNames) {
  const auto number = [](double value) { return at::scalar_tensor(value, at::kFloat); };
  LossReader reader;
  reader.add({{"a", number(1)}, {"b", number(10)}}, true, 3);
  reader.add({{"a", number(4)}, {"b", number(30)}}, false, 3);
  EXPECT_EQ(read(reader), (NamedNumbers{{"a", 2.5}, {"b", 20}}));
  EXPECT_THROW(reader.add({{"a", number(1)}}, false, 3), Error);
  EXPECT_THROW(reader.add({{"b", number(1)}, {"a", number(1)}}, false, 3), Error);
  reader.add({{"c", number(5)}}, true, 4);
  EXPECT_EQ(read(reader), (NamedNumbers{{"c", 5}}));
}

}  // namespace
}  // namespace treadle
