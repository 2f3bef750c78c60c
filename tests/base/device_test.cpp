#include <treadle/base/device.hpp>
#include <treadle/base/errors.hpp>

#include <gtest/gtest.h>

namespace treadle {
namespace {

TEST(Device, TextNamesADeviceThatIsThere) {
  EXPECT_TRUE(parse_device("cpu").is_cpu());
  EXPECT_THROW(parse_device("gpu"), ConfigError);
  EXPECT_THROW(parse_device("cuda:77"), ConfigError);
  EXPECT_THROW(parse_device("meta"), ConfigError);
  EXPECT_THROW(parse_device(""), ConfigError);
  EXPECT_TRUE(parse_device("cpu:0").is_cpu());
  // An index of LibTorch has 8 bits.
  for (const char* type : {"cpu", "cuda"}) {
    for (const char* index : {":128", ":255", ":256", ":65536", ":99999999999999999999"})
      EXPECT_THROW(parse_device(std::string(type) + index), ConfigError) << type << index;
  }
  EXPECT_THROW(parse_device("cpu:1"), ConfigError);
  EXPECT_THROW(parse_device("cpu:5"), ConfigError);
}

TEST(Device, DefaultIsTheAcceleratorOrTheCpu) {
  if (accelerator_count() == 0) {
    EXPECT_TRUE(default_device(0).is_cpu());
    EXPECT_TRUE(default_device(3).is_cpu());
  } else {
    EXPECT_EQ(default_device(0).index(), 0);
    EXPECT_THROW(default_device(accelerator_count()), ConfigError);
  }
  synchronize_device(default_device());
}

}  // namespace
}  // namespace treadle
