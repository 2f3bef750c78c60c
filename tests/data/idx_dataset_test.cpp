#include <treadle/base/errors.hpp>
#include <treadle/data/data_loader.hpp>
#include <treadle/data/dataset_catalog.hpp>
#include <treadle/data/idx_dataset.hpp>

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <iostream>

namespace treadle {
namespace {

namespace fs = std::filesystem;

class IdxFiles : public testing::Test {
 protected:
  IdxFiles() {
    std::string name = (fs::temp_directory_path() / "treadle-idx-XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("mkdtemp failed");
    folder_ = name;
  }
  ~IdxFiles() override { fs::remove_all(folder_); }

  fs::path plain(const std::string& name, const std::string& bytes) const {
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
    return folder_ / name;
  }

  fs::path compressed(const std::string& name, const std::string& bytes) const {
    const fs::path path = folder_ / name;
    gzFile file = gzopen(path.c_str(), "wb");
    gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
    gzclose(file);
    return path;
  }

  fs::path folder_;
};

std::string header(std::initializer_list<std::uint32_t> shape, char type = 8) {
  std::string bytes = {0, 0, type, static_cast<char>(shape.size())};
  for (std::uint32_t size : shape) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(size >> shift);
  }
  return bytes;
}

std::string counting(int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes += static_cast<char>(i);
  return bytes;
}

std::string read_all(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The offset of the FormatError that reading `path` throws.
std::optional<std::uint64_t> failing_offset(const fs::path& path) {
  try {
    read_idx(path);
  } catch (const FormatError& error) {
    EXPECT_EQ(error.file(), path);
    return error.offset();
  }
  ADD_FAILURE() << "read without an error";
  return {};
}

TEST_F(IdxFiles, ReadsPlainAndCompressed) {
  const std::string bytes = header({2, 2, 3}) + counting(12);
  for (const fs::path& path : {plain("a", bytes), compressed("b.gz", bytes)}) {
    at::Tensor array = read_idx(path);
    EXPECT_EQ(array.sizes(), (std::vector<std::int64_t>{2, 2, 3}));
    for (std::uint8_t i = 0; i < 12; ++i) EXPECT_EQ(array.const_data_ptr<std::uint8_t>()[i], i);
  }
  EXPECT_EQ(read_idx(plain("empty", header({0, 28, 28}))).numel(), 0);
}

TEST_F(IdxFiles, EveryCutIsFoundWhereItIs) {
  const std::string bytes = header({2, 2, 3}) + counting(12);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_EQ(failing_offset(plain("cut", bytes.substr(0, size))), size);
    EXPECT_EQ(failing_offset(compressed("cut.gz", bytes.substr(0, size))), size);
  }
  EXPECT_EQ(failing_offset(plain("long", bytes + "x")), bytes.size());
}

TEST_F(IdxFiles, ACutCompressedFileIsAnErrorWhereverTheCutIs) {
  const std::string whole = read_all(compressed("whole.gz", header({1, 100}) + counting(100)));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    SCOPED_TRACE(size);
    failing_offset(plain("cut.gz", whole.substr(0, size)));
  }
}

TEST_F(IdxFiles, EveryFlippedBitOfACompressedFileIsFoundOrHarmless) {
  const fs::path good = compressed("whole.gz", header({1, 100}) + counting(100));
  const at::Tensor array = read_idx(good);
  const std::string whole = read_all(good);
  int found = 0;
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    try {
      EXPECT_TRUE(read_idx(plain("damaged.gz", damaged)).equal(array)) << "bit " << bit;
    } catch (const FormatError&) {
      ++found;
    }
  }
  EXPECT_GT(found, static_cast<int>(whole.size() * 8 / 2));
}

TEST_F(IdxFiles, RefusesOtherFiles) {
  EXPECT_EQ(failing_offset(plain("text", "hello world")), 0u);
  EXPECT_EQ(failing_offset(plain("floats", header({1}, 13) + "aaaa")), 0u);
  EXPECT_EQ(failing_offset(plain("scalar", header({}))), 0u);
  EXPECT_EQ(failing_offset(plain("nine", header({1, 1, 1, 1, 1, 1, 1, 1, 1}) + "a")), 0u);
  EXPECT_EQ(failing_offset(plain("huge", header({0xffffffff, 0xffffffff, 0xffffffff}))), 16u);
}

TEST_F(IdxFiles, AHeaderThatLiesCostsNoMemory) {
  const fs::path path = plain("liar", header({0xffffffff, 16, 16}) + "few");
  EXPECT_EQ(failing_offset(path), 19u);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  EXPECT_LT(usage.ru_maxrss, 4 * 1024 * 1024) << "kilobytes; the header speaks of a terabyte";
}

TEST_F(IdxFiles, AMissingFileIsNamedWithItsPackage) {
  const fs::path labels = plain("labels", header({1}) + "a");
  try {
    IdxDataset({.images = folder_ / "absent", .labels = labels, .package_hint = "dataset-fashion-mnist"});
    ADD_FAILURE();
  } catch (const IoError& error) {
    EXPECT_EQ(error.path(), folder_ / "absent");
    EXPECT_EQ(error.error_number(), ENOENT);
    EXPECT_NE(std::string(error.what()).find("dataset-fashion-mnist"), std::string::npos) << error.what();
  }
  EXPECT_THROW(read_idx(folder_), IoError) << "a folder is no file";
}

TEST_F(IdxFiles, TheDataSetPairsImagesAndLabels) {
  IdxDataset dataset({.images = plain("i", header({3, 1, 2}) + counting(6)),
                      .labels = plain("l", header({3}) + std::string{2, 0, 1}),
                      .num_classes = 3});
  EXPECT_EQ(dataset.size(), 3);
  Rng rng;
  Sample sample = dataset.get(1, rng);
  EXPECT_EQ(sample.at("image").as_tensor().sizes(), (std::vector<std::int64_t>{1, 1, 2}));
  EXPECT_EQ(sample.at("image").as_tensor().scalar_type(), at::kByte);
  EXPECT_EQ(sample.at("image").as_tensor().flatten()[1].item<int>(), 3);
  EXPECT_EQ(sample.at("label").as_int(), 0);
  EXPECT_EQ(dataset.label(1), 0);
  EXPECT_EQ(dataset.image_size(1), (ImageSize{1, 2}));
  std::vector<std::int64_t> indices = {2, 0, 2};
  std::vector<Sample> samples;
  for (std::int64_t index : indices) samples.push_back(dataset.get(index, rng));
  EXPECT_TRUE(identical(dataset.get_batch(indices).value(), collate(samples)));
  EXPECT_THROW(dataset.get(3, rng), Error);
  EXPECT_THROW(dataset.get_batch(std::vector<std::int64_t>{-1}), Error);
}

TEST_F(IdxFiles, RefusesFilesThatDoNotBelongTogether) {
  const fs::path images = plain("i", header({2, 1, 1}) + "ab"), labels = plain("l", header({2}) + std::string{0, 7});
  EXPECT_NO_THROW(IdxDataset({.images = images, .labels = labels}));
  EXPECT_NO_THROW(IdxDataset({.images = images, .labels = labels, .num_classes = 8}));
  try {
    IdxDataset({.images = images, .labels = labels, .num_classes = 7});
    ADD_FAILURE();
  } catch (const FormatError& error) {
    EXPECT_EQ(error.file(), labels);
    EXPECT_EQ(error.offset(), 9u);
  }
  EXPECT_THROW(IdxDataset({.images = images, .labels = plain("l3", header({3}) + "abc")}), FormatError);
  EXPECT_THROW(IdxDataset({.images = labels, .labels = labels}), FormatError);
  EXPECT_THROW(IdxDataset({.images = images, .labels = images}), FormatError);
}

TEST_F(IdxFiles, ValidatesItsOptions) {
  EXPECT_THROW(validate(IdxOptions{.labels = "l"}), ConfigError);
  EXPECT_THROW(validate(IdxOptions{.images = "i"}), ConfigError);
  EXPECT_THROW(validate(IdxOptions{.images = "i", .labels = "l", .num_classes = -1}), ConfigError);
  EXPECT_THROW(validate(IdxOptions{.images = "i", .labels = "l", .num_classes = 257}), ConfigError);
}

TEST_F(IdxFiles, TheCatalogReadsTheFolderItIsTold) {
  for (const std::string part : {"train", "t10k"}) {
    compressed(part + "-images-idx3-ubyte.gz", header({part == "train" ? 2u : 1u, 1, 1}) + (part == "train" ? "ab" : "c"));
    compressed(part + "-labels-idx1-ubyte.gz", header({part == "train" ? 2u : 1u}) + std::string(part == "train" ? 2 : 1, '\0'));
  }
  EXPECT_EQ(make_dataset("fashion_mnist_train", {.root = folder_})->size(), 2);
  EXPECT_EQ(make_dataset("fashion_mnist_test", {.root = folder_})->size(), 1);
  compressed("t10k-labels-idx1-ubyte.gz", header({1}) + std::string{10});
  EXPECT_THROW(make_dataset("fashion_mnist_test", {.root = folder_}), FormatError) << "ten classes";
}

// The counts of the real data set: 6000 and 1000 images of each class (its README).
TEST(FashionMnist, HasAllImagesOfAllClasses) {
  if (!fs::exists("/usr/share/datasets/fashion-mnist"))
    GTEST_SKIP() << "the Debian package dataset-fashion-mnist is not installed";
  for (auto [name, each] : {std::pair("fashion_mnist_train", 6000), std::pair("fashion_mnist_test", 1000)}) {
    auto dataset = make_dataset(name);
    ASSERT_EQ(dataset->size(), each * 10);
    std::vector<std::int64_t> all;
    for (std::int64_t i = 0; i < dataset->size(); ++i) all.push_back(i);
    Dict batch = dataset->get_batch(all).value();
    EXPECT_EQ(batch.at("image").as_tensor().sizes(), (std::vector<std::int64_t>{each * 10, 1, 28, 28}));
    for (int label = 0; label < 10; ++label) EXPECT_EQ(batch.at("label").as_tensor().eq(label).sum().item<int>(), each);
  }
}

}  // namespace
}  // namespace treadle
