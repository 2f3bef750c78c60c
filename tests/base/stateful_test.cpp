#include <treadle/base/errors.hpp>
#include <treadle/base/stateful.hpp>
#include <treadle/base/value_view.hpp>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace treadle {
namespace {

struct Counter final : Stateful {
  std::int64_t count = 0;
  int loads = 0;
  Dict state_dict() const override { return {{"count", count}}; }
  void check_state_dict(const Dict& state) const override {
    if (ValueView(state)["count"].as_int() < 0) throw FormatError("a count is never negative");
  }
  void load_state_dict(const Dict& state) override {
    count = state.at("count").as_int();
    ++loads;
  }
};

TEST(Stateful, CollectsAndLoadsByName) {
  Counter a, b;
  a.count = 3;
  b.count = 5;
  const Dict state = collect_state({{"a", &a}, {"b", &b}});
  Counter c, d, e;
  EXPECT_EQ(load_state({{"b", &d}, {"a", &c}, {"e", &e}}, state), std::vector<std::string>{"e"});
  EXPECT_EQ(c.count, 3);
  EXPECT_EQ(d.count, 5);
  EXPECT_EQ(e.loads, 0);
}

RC_GTEST_PROP(StatefulProperties, ALoadIsAllOrNothing, (std::vector<std::int64_t> counts)) {
  std::vector<Counter> parts(counts.size());
  std::vector<NamedStateful> tree;
  Dict state;
  bool good = true;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    parts[i].count = -7;
    tree.push_back({"part" + std::to_string(i), &parts[i]});
    state.set(tree.back().name, Dict{{"count", counts[i]}});
    good = good && counts[i] >= 0;
  }
  if (good) {
    load_state(tree, state);
  } else {
    RC_ASSERT_THROWS_AS(load_state(tree, state), FormatError);
  }
  for (std::size_t i = 0; i < parts.size(); ++i) {
    RC_ASSERT(parts[i].count == (good ? counts[i] : -7));
    RC_ASSERT(parts[i].loads == (good ? 1 : 0));
  }
}

TEST(Stateful, TheErrorNamesThePart) {
  Counter counter;
  try {
    load_state({{"trainer", &counter}}, {{"trainer", Dict{{"count", -1}}}});
    FAIL();
  } catch (const FormatError& error) {
    EXPECT_STREQ(error.what(), "trainer: a count is never negative");
  }
  try {
    load_state({{"trainer", &counter}}, {{"trainer", 3}});
    FAIL();
  } catch (const FormatError& error) {
    EXPECT_STREQ(error.what(), "trainer: the state is no Dict but int");
  }
}

TEST(Stateful, FunctionsServeForAClass) {
  int value = 4;
  StatefulFunctions part({.state_dict = [&] { return Dict{{"v", value}}; },
                          .check_state_dict = [](const Dict& state) { ValueView(state)["v"].as_int(); },
                          .load_state_dict = [&](const Dict& state) { value = static_cast<int>(state.at("v").as_int()); }});
  const Dict saved = part.state_dict();
  value = 0;
  EXPECT_THROW(part.check_state_dict({}), FormatError);
  part.load_state_dict(saved);
  EXPECT_EQ(value, 4);
  EXPECT_THROW(StatefulFunctions({}), Error);
}

}  // namespace
}  // namespace treadle
