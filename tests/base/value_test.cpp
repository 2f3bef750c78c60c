#include <treadle/base/errors.hpp>
#include <treadle/base/value.hpp>
#include <treadle/base/value_view.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/complex.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <limits>

namespace treadle {
namespace {

template <class Call>
std::string message_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "(nothing thrown)";
}

Value random_value(int depth);

List random_items(int depth) {
  List items;
  for (int n = *rc::gen::inRange(0, 4); n > 0; --n) items.push_back(random_value(depth - 1));
  return items;
}

Dict random_dict(int depth) {
  Dict dict;
  for (int n = *rc::gen::inRange(0, 4); n > 0; --n) {
    const auto key =
        *rc::gen::arbitrary<bool>() ? Key(*rc::gen::arbitrary<std::string>()) : Key(*rc::gen::arbitrary<std::int64_t>());
    dict.set(key, random_value(depth - 1));
  }
  return dict;
}

Value random_value(int depth) {
  switch (*rc::gen::inRange(0, depth > 0 ? 10 : 7)) {
    case 0:
      return nullptr;
    case 1:
      return *rc::gen::arbitrary<bool>();
    case 2:
      return *rc::gen::arbitrary<std::int64_t>();
    case 3:
      return *rc::gen::arbitrary<double>();
    case 4:
      return *rc::gen::arbitrary<std::string>();
    case 5:
      return Bytes{*rc::gen::arbitrary<std::string>()};
    case 6:
      return at::arange(*rc::gen::inRange<std::int64_t>(0, 5));
    case 7:
      return random_items(depth);
    case 8: {
      Tuple tuple;
      for (const Value& item : random_items(depth)) tuple.push_back(item);
      return tuple;
    }
    default:
      return random_dict(depth);
  }
}

Value nested_lists(int depth) {
  Value value;
  for (int i = 0; i < depth; ++i) {
    List list;
    list.push_back(std::move(value));
    value = std::move(list);
  }
  return value;
}

TEST(Value, HoldsEachTypeAndSaysWhich) {
  EXPECT_TRUE(Value().is_null());
  EXPECT_EQ(Value(true).type(), Value::Type::boolean);
  EXPECT_EQ(Value(7).as_int(), 7);
  EXPECT_EQ(Value(7u).as_int(), 7);
  EXPECT_EQ(Value(2.5f).as_double(), 2.5);
  EXPECT_EQ(Value("text").as_string(), "text");
  EXPECT_EQ(Value(Bytes{"\0x"}).type(), Value::Type::bytes);
  EXPECT_EQ(Value(List{1, "two"}).as_list().size(), 2u);
  EXPECT_EQ(Value(Tuple{1, "two"}).as_tuple()[1].as_string(), "two");
  EXPECT_EQ(Value(Dict{{"k", 1}}).as_dict().at("k").as_int(), 1);
  EXPECT_EQ(Value(at::zeros({2})).as_tensor().numel(), 2);
  EXPECT_TRUE(Value(at::Tensor()).is_null());
}

TEST(Value, IntegersBeyondTheRangeAreRefused) {
  EXPECT_THROW(Value made(std::numeric_limits<std::uint64_t>::max()), Error);
  EXPECT_EQ(Value(std::numeric_limits<std::int64_t>::min()).as_int(), std::numeric_limits<std::int64_t>::min());
}

TEST(Value, AccessorsRefuseOtherTypes) {
  EXPECT_EQ(message_of([] { Value("x").as_tensor(); }), "expected a Tensor, found string");
  EXPECT_EQ(message_of([] { Value(1).as_dict(); }), "expected a Dict, found int");
  EXPECT_EQ(message_of([] { Value(true).as_int(); }), "expected an int, found bool");
  EXPECT_EQ(message_of([] { Value(1.0).as_int(); }), "expected an int, found float");
  EXPECT_EQ(Value(3).as_double(), 3.0);
}

TEST(Value, KeysOfTextAndNumberAreDistinct) {
  Dict dict{{"1", "text"}, {1, "number"}};
  EXPECT_EQ(dict.size(), 2u);
  EXPECT_EQ(dict.at("1").as_string(), "text");
  EXPECT_EQ(dict.at(1).as_string(), "number");
}

TEST(Value, DictKeepsInsertionOrderBeyondTheIndexThreshold) {
  Dict dict;
  for (int i = 0; i < 100; ++i) dict.set("k" + std::to_string(99 - i), i);
  dict.set("k50", "changed in place");
  EXPECT_TRUE(dict.erase("k10"));
  EXPECT_FALSE(dict.erase("k10"));
  ASSERT_EQ(dict.size(), 99u);
  EXPECT_EQ(dict.begin()->key.string(), "k99");
  EXPECT_EQ(dict.begin()[49].value.as_string(), "changed in place");
  EXPECT_EQ(dict.at("k0").as_int(), 99);
  EXPECT_FALSE(dict.contains("k10"));
  EXPECT_EQ(dict.begin()[90].key.string(), "k8");
}

TEST(Value, MissingKeyNamesThosePresent) {
  EXPECT_EQ(message_of([] { Dict{{"model", 1}, {"trainer", 2}}.at("optimizer"); }),
            "no key \"optimizer\"; present: \"model\" and \"trainer\"");
}

TEST(Value, CopiesAreDeepButShareTensors) {
  Value original = Dict{{"list", List{1, 2}}, {"tensor", at::zeros({2})}};
  Value copy = original;
  copy.as_dict()["list"].as_list()[0] = 99;
  EXPECT_EQ(original.as_dict().at("list").as_list()[0].as_int(), 1);
  EXPECT_TRUE(copy.as_dict().at("tensor").as_tensor().is_same(original.as_dict().at("tensor").as_tensor()));
}

TEST(Value, DeepCloneSharesNothingAndKeepsTies) {
  const at::Tensor tensor = at::zeros({2});
  const Dict original{{"a", tensor}, {"b", tensor}};
  const Dict clone = deep_clone(original);
  EXPECT_FALSE(clone.at("a").as_tensor().is_same(tensor));
  EXPECT_TRUE(clone.at("a").as_tensor().is_same(clone.at("b").as_tensor()));
  at::Tensor(tensor).fill_(1);
  EXPECT_EQ(clone.at("a").as_tensor().sum().item<double>(), 0);
}

TEST(Value, AMillionLevelsCopyCompareAndDie) {
  Value deep = nested_lists(1'000'000);
  const Value copy = deep;
  EXPECT_TRUE(identical(deep, copy));
  deep.as_list().push_back(1);
  EXPECT_FALSE(identical(deep, copy));
  deep = nullptr;
  EXPECT_FALSE(describe(copy).empty());
}

TEST(Value, IdenticalGoesByBits) {
  const double nan = std::nan("");
  EXPECT_TRUE(identical(nan, nan));
  EXPECT_FALSE(identical(0.0, -0.0));
  EXPECT_FALSE(identical(1, 1.0));
  EXPECT_FALSE(identical(1, true));
  EXPECT_FALSE(identical(List{1}, Tuple{1}));
  EXPECT_FALSE(identical(Dict{{"a", 1}, {"b", 2}}, Dict{{"b", 2}, {"a", 1}}));
  EXPECT_TRUE(identical(at::arange(4), at::arange(4)));
  const auto numbers = at::complex(at::arange(3.0), at::arange(1.0, 4.0));
  EXPECT_FALSE(identical(numbers, numbers.conj()));
  EXPECT_TRUE(identical(numbers.conj(), numbers.conj().resolve_conj()));
  const auto sparse = at::arange(4).view({2, 2}).to_sparse();
  EXPECT_TRUE(identical(sparse, sparse.clone()));
  EXPECT_FALSE(identical(sparse, at::arange(1, 5).view({2, 2}).to_sparse()));
  EXPECT_FALSE(identical(at::arange(4), at::arange(4).to(at::kInt)));
  EXPECT_FALSE(identical(at::arange(4), at::arange(4).reshape({2, 2})));
  EXPECT_TRUE(identical(at::arange(6).reshape({2, 3}).t(), at::arange(6).reshape({2, 3}).t().contiguous()));
}

TEST(Value, DescribeAbbreviates) {
  const Value value = Dict{{"t", at::zeros({2, 3})}, {"n", nullptr}, {"l", List{1, 2.5, "x"}}};
  EXPECT_EQ(describe(value), "{t: Tensor(Float, [2, 3]), n: null, l: [1, 2.5, \"x\"]}");
}

RC_GTEST_PROP(ValueProperties, CopyAndCloneAreIdenticalAndMovesAreExact, ()) {
  const Value value = random_value(4);
  Value copy = value;
  RC_ASSERT(identical(value, copy));
  RC_ASSERT(identical(value, deep_clone(value)));
  Value moved = std::move(copy);
  RC_ASSERT(identical(value, moved));
  copy = moved;
  RC_ASSERT(identical(value, copy));
}

RC_GTEST_PROP(ValueProperties, DictBehavesAsAnAssociationList, ()) {
  std::vector<std::pair<int, int>> model;
  Dict dict;
  for (int step = *rc::gen::inRange(0, 120); step > 0; --step) {
    const int key = *rc::gen::inRange(0, 40);
    auto found = std::find_if(model.begin(), model.end(), [&](const auto& entry) { return entry.first == key; });
    if (*rc::gen::inRange(0, 4) == 0) {
      RC_ASSERT(dict.erase(key) == (found != model.end()));
      if (found != model.end()) model.erase(found);
    } else {
      const int value = *rc::gen::arbitrary<int>();
      dict.set(key, value);
      if (found != model.end()) {
        found->second = value;
      } else {
        model.emplace_back(key, value);
      }
    }
  }
  RC_ASSERT(dict.size() == model.size());
  for (std::size_t i = 0; i < model.size(); ++i) {
    RC_ASSERT(dict.begin()[i].key == Key(model[i].first));
    RC_ASSERT(dict.at(model[i].first).as_int() == model[i].second);
  }
}

TEST(ValueView, ErrorsSayWhere) {
  const Value state = Dict{{"trainer", Dict{{"hooks", Dict{{"LRScheduler", "oops"}}}, {"list", List{1, Dict{}}}}}};
  const ValueView view(state, "model.pth");
  EXPECT_EQ(message_of([&] { view["trainer"]["hooks"]["LRScheduler"].as_tensor(); }),
            "model.pth: expected a Tensor, found string at \"trainer.hooks.LRScheduler\"");
  EXPECT_EQ(message_of([&] { view["trainer"]["list"].item(1)["x"]; }),
            "model.pth: no key \"x\" (present: none) at \"trainer.list[1]\"");
  EXPECT_EQ(message_of([&] { view["trainer"]["list"].item(2); }),
            "model.pth: expected at least 3 elements, found 2 at \"trainer.list\"");
  EXPECT_EQ(message_of([&] { ValueView(Value(1))["k"]; }), "expected a Dict, found int at the top");
}

TEST(ValueView, ReadsEveryType) {
  const Dict state{{"b", true},       {"i", 3},       {"d", 0.5},      {"s", "x"},
                   {"y", Bytes{"z"}}, {"l", List{1}}, {"t", Tuple{2}}, {"x", at::zeros({1})}};
  const ValueView view(state);
  EXPECT_TRUE(view["b"].as_bool());
  EXPECT_EQ(view["i"].as_int(), 3);
  EXPECT_EQ(view["i"].as_double(), 3.0);
  EXPECT_EQ(view["d"].as_double(), 0.5);
  EXPECT_EQ(view["s"].as_string(), "x");
  EXPECT_EQ(view["y"].as_bytes().data, "z");
  EXPECT_EQ(view["l"].as_list().size(), 1u);
  EXPECT_EQ(view["t"].item(0).as_int(), 2);
  EXPECT_EQ(view["t"].as_tuple().size(), 1u);
  EXPECT_EQ(view["x"].as_tensor().numel(), 1);
  EXPECT_EQ(view.as_dict().size(), view.size());
  EXPECT_FALSE(view.contains("absent"));
  EXPECT_THROW(view["s"].as_bool(), FormatError);
  EXPECT_THROW(view["s"].as_bytes(), FormatError);
  EXPECT_THROW(view["s"].as_list(), FormatError);
  EXPECT_THROW(view["l"].as_tuple(), FormatError);
  EXPECT_THROW(view["l"].as_string(), FormatError);
}

/// The first element of a value that holds some.
Value& first_of(Value& whole) {
  if (whole.is(Value::Type::list)) return whole.as_list()[0];
  if (whole.is(Value::Type::tuple)) return whole.as_tuple()[0];
  return whole.as_dict().begin()->value;
}

TEST(Value, MayBeAssignedAPartOfItself) {
  const at::Tensor tensor = at::zeros({1});
  const std::string text = "longer than what a string holds in itself";
  for (const Value& part : std::vector<Value>{Value(), true, 7, 0.5, text, Bytes{text}, tensor, List{}, List{text, tensor},
                                              Tuple{text, tensor}, Dict{{"a", text}, {"b", tensor}}}) {
    for (const Value& whole : std::vector<Value>{List{part, 1}, Tuple{part, 1}, Dict{{"part", part}, {"rest", 1}}}) {
      Value copied = whole, moved = whole;
      copied = std::as_const(first_of(copied));
      EXPECT_TRUE(identical(copied, part)) << describe(part) << " of " << describe(whole);
      moved = std::move(first_of(moved));
      EXPECT_TRUE(identical(moved, part)) << describe(part) << " of " << describe(whole);
    }
  }
  EXPECT_EQ(tensor.use_count(), 1) << "nothing that owns itself is left";
}

TEST(Value, AContainerMayBeAssignedAPartOfItself) {
  const at::Tensor tensor = at::zeros({1});
  const auto check = [](auto whole, const auto& inner, const auto& part_of) {
    auto copied = whole, moved = whole;
    copied = std::as_const(part_of(copied));
    EXPECT_TRUE(identical(copied, inner)) << describe(copied);
    moved = std::move(part_of(moved));
    EXPECT_TRUE(identical(moved, inner)) << describe(moved);
    moved = std::move(*&moved);
    EXPECT_TRUE(identical(moved, inner)) << describe(moved);
  };
  for (const int size : {1, 40}) {
    List list;
    Tuple tuple;
    Dict dict;
    for (int i = 0; i < size; ++i) {
      list.push_back(tensor);
      tuple.push_back(tensor);
      dict.set(i, tensor);
    }
    check(List{tensor, list}, list, [](List& whole) -> List& { return whole[1].as_list(); });
    check(Tuple{tensor, tuple}, tuple, [](Tuple& whole) -> Tuple& { return whole[1].as_tuple(); });
    check(Dict{{"a", tensor}, {"b", dict}}, dict, [](Dict& whole) -> Dict& { return whole.at("b").as_dict(); });
  }
  EXPECT_EQ(tensor.use_count(), 1) << "nothing that owns itself is left";
}

TEST(Key, RefusesWhatNoInt64Holds) {
  const std::uint64_t most = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(Key(most).integer(), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(message_of([&] { Key key(most + 1); }), message_of([&] { Value value(most + 1); }));
  EXPECT_EQ(message_of([&] { Key key(most + 1); }), "9223372036854775808 does not fit a signed 64-bit integer");
}

}  // namespace
}  // namespace treadle
