#include <treadle/base/errors.hpp>
#include <treadle/base/registry.hpp>
#include <treadle/base/text.hpp>

#include <gtest/gtest.h>

#include <cmath>

#include <cerrno>

namespace treadle {
namespace {

const std::vector<std::string> kKeys = {"BASE_LR", "MAX_ITER", "MOMENTUM", "WEIGHT_DECAY"};

TEST(Text, FindsWhatATypingErrorMayHaveMeant) {
  EXPECT_EQ(nearest_names("BASE_LT", kKeys), std::vector<std::string>{"BASE_LR"});
  EXPECT_EQ(nearest_names("base_lr", kKeys), std::vector<std::string>{"BASE_LR"});
  EXPECT_EQ(nearest_names("MAX_ITRE", kKeys), std::vector<std::string>{"MAX_ITER"});
  EXPECT_EQ(nearest_names("MAXITER", kKeys), std::vector<std::string>{"MAX_ITER"});
  EXPECT_TRUE(nearest_names("COLOUR", kKeys).empty());
}

TEST(Text, TheLastPartOfANameIsEnough) {
  const std::vector<std::string> names = {"SOLVER.MAX_ITER", "classification/accuracy", "accuracy_of_all"};
  EXPECT_EQ(nearest_names("max_iter", names), std::vector<std::string>{"SOLVER.MAX_ITER"});
  EXPECT_EQ(nearest_names("accuracy", names), std::vector<std::string>{"classification/accuracy"});
}

TEST(Text, NearestComesFirstAndTheCountIsKept) {
  const std::vector<std::string> names = {"abcdxx", "abcdex", "abcdef"};
  EXPECT_EQ(nearest_names("abcdef", names, 2), (std::vector<std::string>{"abcdef", "abcdex"}));
  EXPECT_EQ(did_you_mean("abcdef", names), " (did you mean \"abcdef\", \"abcdex\" or \"abcdxx\"?)");
  EXPECT_EQ(did_you_mean("zzzzzz", names), "");
}

TEST(Text, ListsNamesInQuotes) {
  EXPECT_EQ(quoted_list({}), "none");
  const std::vector<std::string> one = {"a"}, three = {"a", "b", "c"};
  EXPECT_EQ(quoted_list(one), "\"a\"");
  EXPECT_EQ(quoted_list(three), "\"a\", \"b\" and \"c\"");
}

TEST(Text, WritesDurationsAsPythonDoes) {
  EXPECT_EQ(format_duration(0), "0:00:00");
  EXPECT_EQ(format_duration(7.9), "0:00:07");
  EXPECT_EQ(format_duration(3723), "1:02:03");
  EXPECT_EQ(format_duration(86400), "1 day, 0:00:00");
  EXPECT_EQ(format_duration(2 * 86400 + 61), "2 days, 0:01:01");
  EXPECT_EQ(format_duration(-3), "0:00:00");
  EXPECT_EQ(format_duration(std::nan("")), "0:00:00");
  for (const double seconds : {999'999'999 * 86400.0 + 86399, 1e300, HUGE_VAL})
    EXPECT_EQ(format_duration(seconds), "999999999 days, 23:59:59") << "timedelta.max";
}

TEST(Registry, FindsRefusesAndLists) {
  Registry<int> registry("model");
  registry.add("SmallCnn", 1);
  registry.add("ResNet", 2);
  EXPECT_EQ(registry.get("ResNet"), 2);
  EXPECT_TRUE(registry.contains("SmallCnn"));
  EXPECT_FALSE(registry.contains("smallcnn"));
  EXPECT_EQ(registry.names(), (std::vector<std::string>{"ResNet", "SmallCnn"}));
  EXPECT_THROW(registry.add("ResNet", 3), Error);
  try {
    registry.get("SmalCnn");
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(),
                 "there is no model named \"SmalCnn\" (did you mean \"SmallCnn\"?); registered: \"ResNet\" and \"SmallCnn\"");
    EXPECT_EQ(error.key(), "SmalCnn");
  }
}

TEST(Errors, SayWhatWhereAndWhy) {
  EXPECT_STREQ(IoError("open", "/a/b", ENOENT, "create it").what(), "cannot open \"/a/b\": No such file or directory; create it");
  EXPECT_EQ(IoError("open", "/a/b", EACCES).error_number(), EACCES);
  EXPECT_EQ(IoError("open", "/a/b", EACCES).path(), "/a/b");
  const FormatError format("expected 4 bytes, found 2", "x.idx", 12);
  EXPECT_STREQ(format.what(), "\"x.idx\" at byte 12: expected 4 bytes, found 2");
  EXPECT_EQ(format.file(), "x.idx");
  EXPECT_EQ(format.offset(), 12u);
  EXPECT_STREQ(FormatError("is empty", "x.idx").what(), "\"x.idx\": is empty");
  const CommError comm("rank 2 did not arrive within 30 s", 0, "all_gather");
  EXPECT_STREQ(comm.what(), "rank 0, all_gather: rank 2 did not arrive within 30 s");
  EXPECT_EQ(comm.rank(), 0);
  EXPECT_EQ(comm.operation(), "all_gather");
  const NonFiniteError nonfinite(7, {{"loss_cls", 1.5}, {"loss_box", std::numeric_limits<double>::quiet_NaN()}});
  EXPECT_STREQ(nonfinite.what(), "a loss or gradient is not finite in iteration 7: loss_cls = 1.5 loss_box = nan");
  EXPECT_EQ(nonfinite.iteration(), 7);
  EXPECT_EQ(nonfinite.losses().size(), 2u);
  EXPECT_TRUE(nonfinite.ids().empty());
  const NonFiniteError with_ids(7, {{"loss", 1.5}}, {3, 1, 4, 1, 5, 9, 2, 6, 5, 3});
  EXPECT_STREQ(with_ids.what(),
               "a loss or gradient is not finite in iteration 7: loss = 1.5; samples 3, 1, 4, 1, 5, 9, 2, 6 and 2 more");
  EXPECT_EQ(with_ids.ids().size(), 10u);
  EXPECT_EQ(with_ids.ids().back(), 3);
}

}  // namespace
}  // namespace treadle
