#include <treadle/base/errors.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/checkpoint/file_system.hpp>
#include <treadle/checkpoint/open_file.hpp>
#include <treadle/checkpoint/safetensors.hpp>

#include <ATen/ops/_sparse_coo_tensor_unsafe.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/checkpoint/fault_file_system.hpp"
#include "tests/checkpoint/random_value.hpp"
#include "tests/support/temporary_folder.hpp"

namespace treadle {
namespace {

Dict two_tensors() {
  return {{"model", Dict{{"a", at::arange(1000, c10::kFloat)}, {"b", at::full({1000}, 1.5f)}}}, {"iteration", 9}};
}

at::Tensor placeholder(const CheckpointFile& file, const char* name) {
  return ValueView(file.content())["model"][name].as_tensor();
}

/// Flips a bit in the content of "b".
void damage(std::string& content) {
  const float value = 1.5f;
  content[content.find(std::string(reinterpret_cast<const char*>(&value), sizeof value))] ^= 1;
}

struct OpenFile : testing::Test {
  TemporaryFolder folder;
  std::filesystem::path path = folder / "x.pth";
};

TEST_F(OpenFile, ShowsTheStructureAndReadsOneTensorAlone) {
  save_checkpoint_file(path, two_tensors());
  const CheckpointFile file(path);
  EXPECT_EQ(ValueView(file.content())["iteration"].as_int(), 9);
  const at::Tensor a = placeholder(file, "a");
  EXPECT_TRUE(a.is_meta());
  EXPECT_EQ(a.scalar_type(), c10::kFloat);
  EXPECT_EQ(a.sizes(), (std::vector<std::int64_t>{1000}));
  EXPECT_TRUE(identical(file.read(a), at::arange(1000, c10::kFloat)));
  EXPECT_TRUE(identical(file.read(file.content()), two_tensors()));
  EXPECT_TRUE(file.read(a).is_alias_of(file.read(a)));
}

TEST_F(OpenFile, EveryRecordIsVerifiedWhenItIsTouchedAndNotBefore) {
  save_checkpoint_file(path, two_tensors());
  auto files = std::make_shared<FaultFileSystem>();
  std::string content = read_small_file(*local_file_system(), path);
  damage(content);
  write_file_durably(*local_file_system(), path, content);
  files->add("x.pth", content);
  // Mapped, and from a store that cannot map.
  for (const auto& [where, store] :
       {std::pair<std::filesystem::path, std::shared_ptr<FileSystem>>{path, nullptr}, {"x.pth", files}}) {
    const CheckpointFile file(where, {.file_system = store});
    EXPECT_TRUE(identical(file.read(placeholder(file, "a")), at::arange(1000, c10::kFloat)));
    for (int time = 0; time < 2; ++time) EXPECT_THROW(file.read(placeholder(file, "b")), FormatError);
    EXPECT_THROW(file.read(file.content()), FormatError);
    const CheckpointFile unverified(where, {.verify = false, .file_system = store});
    EXPECT_EQ(unverified.read(placeholder(unverified, "b"))[1].item<float>(), 1.5f);
  }
}

TEST_F(OpenFile, ReadsNoMoreOfTheFileThanIsAskedFor) {
  Dict many;
  for (int i = 0; i < 40; ++i) many.set("t" + std::to_string(i), at::full({64}, i));
  save_checkpoint_file(path, many);
  auto files = std::make_shared<FaultFileSystem>();
  files->add("x.pth", read_small_file(*local_file_system(), path));
  const CheckpointFile file("x.pth", {.file_system = files});
  const int opened = files->calls();
  file.read(file.content().as_dict().at("t7").as_tensor());
  EXPECT_LE(files->calls() - opened, 3);
}

TEST_F(OpenFile, TensorsOutliveTheFileAndWritingToThemChangesNothing) {
  save_checkpoint_file(path, two_tensors());
  at::Tensor a;
  {
    CheckpointFile first(path);
    const CheckpointFile file(std::move(first));
    a = file.read(placeholder(file, "a"));
    a.fill_(3);
  }
  EXPECT_EQ(a.sum().item<float>(), 3000);
  EXPECT_TRUE(identical(load_checkpoint_file(path), two_tensors()));
  const CheckpointFile again(path);
  EXPECT_TRUE(identical(again.read(placeholder(again, "a")), at::arange(1000, c10::kFloat)));
}

RC_GTEST_PROP(OpenFileProperty, ReadsWhatLoadReads, (std::uint64_t seed)) {
  const TemporaryFolder folder;
  save_checkpoint_file(folder / "x.pth", RandomValue(Rng(seed)).make(), {.durable = false});
  const CheckpointFile file(folder / "x.pth");
  const Value read = file.read(file.content());
  RC_ASSERT(identical(read, load_checkpoint_file(folder / "x.pth")));
}

TEST_F(OpenFile, ViewsShareTheirStorage) {
  const auto base = at::arange(6, c10::kFloat);
  save_checkpoint_file(path, List{base, base.view({2, 3}).t()});
  const CheckpointFile file(path);
  const at::Tensor first = file.read(file.content().as_list()[0].as_tensor());
  const at::Tensor second = file.read(file.content().as_list()[1].as_tensor());
  EXPECT_TRUE(first.storage().is_alias_of(second.storage()));
  EXPECT_TRUE(second.equal(base.view({2, 3}).t()));
}

TEST_F(OpenFile, SparseTensorsAndOtherFormatsAreReadAtOnce) {
  const auto sparse = at::_sparse_coo_tensor_unsafe(at::tensor({0, 1}, c10::kLong).view({2, 1}), at::full({1}, 2.f), {2, 3});
  save_checkpoint_file(path, sparse);
  EXPECT_TRUE(CheckpointFile(path).content().as_tensor().to_dense().equal(sparse.to_dense()));
  save_safetensors_file(folder / "x.safetensors", {{"w", at::arange(3)}});
  const CheckpointFile other(folder / "x.safetensors");
  EXPECT_TRUE(identical(other.read(other.content()), Dict{{"w", at::arange(3)}}));
}

TEST_F(OpenFile, ErrorsAreThoseOfLoading) {
  EXPECT_THROW(CheckpointFile(folder / "absent.pth"), IoError);
  write_file_durably(*local_file_system(), path, "just words");
  EXPECT_THROW(CheckpointFile{path}, FormatError);
  EXPECT_THROW(CheckpointFile(path, {.max_pickle_bytes = 0}), ConfigError);
}

}  // namespace
}  // namespace treadle
