#include <treadle/base/errors.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/checkpoint/file_system.hpp>

#include <ATen/ops/_sparse_coo_tensor_unsafe.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/complex.h>
#include <ATen/ops/full.h>
#include <ATen/ops/imag.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iostream>

#include "tests/checkpoint/fault_file_system.hpp"
#include "tests/checkpoint/random_value.hpp"
#include "tests/support/source_folder.hpp"
#include "tests/support/temporary_folder.hpp"

namespace treadle {
namespace {

std::string file_of(const Value& value) {
  auto files = std::make_shared<FaultFileSystem>();
  save_checkpoint_file("x.pth", value, {.file_system = files});
  return files->content("x.pth");
}

Value value_of(const std::string& file, LoadOptions options = {}) {
  auto files = std::make_shared<FaultFileSystem>();
  files->add("x.pth", file);
  options.file_system = files;
  return load_checkpoint_file("x.pth", options);
}

/// A pickle of one protocol 2 object in a zip file that is right in everything else.
std::string file_with_pickle(const std::string& pickle) {
  // The pickle of a text is replaced by one of the same length: the archive around it stays valid but for the checksum.
  EXPECT_GE(pickle.size(), 12u);
  std::string filler(pickle.size() - 10, 'x');
  std::string file = file_of(filler);
  std::size_t at = file.find(std::string("\x80\x02X", 3));
  return file.replace(at, pickle.size(), pickle);
}

/// Every tensor in the order of its occurrence.
void collect(const Value& value, std::vector<at::Tensor>& tensors) {
  if (value.is(Value::Type::tensor)) tensors.push_back(value.as_tensor());
  if (value.is(Value::Type::list)) {
    for (const Value& item : value.as_list()) collect(item, tensors);
  }
  if (value.is(Value::Type::tuple)) {
    for (const Value& item : value.as_tuple()) collect(item, tensors);
  }
  if (value.is(Value::Type::dict)) {
    for (const auto& entry : value.as_dict()) collect(entry.value, tensors);
  }
}

/// Strides, offsets and sharing, which `identical` does not look at.
bool same_layout(const Value& a, const Value& b) {
  std::vector<at::Tensor> left, right;
  collect(a, left);
  collect(b, right);
  if (left.size() != right.size()) return false;
  for (std::size_t i = 0; i < left.size(); ++i) {
    if (left[i].strides() != right[i].strides() || left[i].storage_offset() != right[i].storage_offset()) return false;
    // Python splits a storage without bytes that two tensors share; nobody can see the difference.
    for (std::size_t k = 0; k < i && left[i].storage().nbytes() > 0; ++k) {
      if (left[i].storage().is_alias_of(left[k].storage()) != right[i].storage().is_alias_of(right[k].storage())) return false;
    }
  }
  return true;
}

RC_GTEST_PROP(Codec, EveryValueComesBack, (std::uint64_t seed)) {
  Value value = RandomValue(Rng(seed)).make();
  Value back = value_of(file_of(value));
  RC_ASSERT(identical(value, back));
  RC_ASSERT(same_layout(value, back));
}

TEST(Codec, LargeContainersAndDeepOnesComeBack) {
  List many;
  Dict numbered;
  for (int i = 0; i < 2500; ++i) many.push_back(i), numbered.set(i, "n" + std::to_string(i));
  Value deep = 1;
  for (int i = 0; i < 30000; ++i) {
    List list;
    Dict dict;
    i % 2 ? list.push_back(std::move(deep)) : dict.set("k", std::move(deep));
    deep = i % 2 ? Value(std::move(list)) : Value(std::move(dict));
  }
  Dict all{{"many", many}, {"numbered", numbered}};
  all.set("deep", std::move(deep));
  Value value = std::move(all);
  EXPECT_TRUE(identical(value, value_of(file_of(value))));
}

TEST(Codec, ViewsOfTwoDtypesShareOneStorage) {
  auto floats = at::rand({4});
  Value value = List{floats, floats.view(c10::kInt), floats.view(c10::kDouble)};
  Value back = value_of(file_of(value));
  EXPECT_TRUE(identical(value, back));
  EXPECT_TRUE(same_layout(value, back));
}

TEST(Codec, ConjugateAndNegativeTensorsKeepTheirFlag) {
  auto numbers = at::complex(at::arange(3.0), at::arange(1.0, 4.0));
  Value back = value_of(file_of(List{numbers.conj(), at::imag(numbers.conj())}));
  EXPECT_TRUE(back.as_list()[0].as_tensor().is_conj());
  EXPECT_TRUE(back.as_list()[0].as_tensor().equal(numbers.conj()));
  EXPECT_TRUE(back.as_list()[1].as_tensor().equal(at::imag(numbers.conj())));
}

TEST(Codec, SparseTensorsComeBack) {
  auto sparse = at::_sparse_coo_tensor_unsafe(at::tensor({0, 1, 1, 0}, c10::kLong).view({2, 2}), at::rand({2}), {2, 3});
  Value back = value_of(file_of(sparse));
  EXPECT_TRUE(back.as_tensor().is_sparse());
  EXPECT_TRUE(back.as_tensor().to_dense().equal(sparse.to_dense()));
}

TEST(Codec, RefusesWhatTheFormatCannotHold) {
  EXPECT_THROW(file_of("\xff"), FormatError);
  EXPECT_THROW(file_of(at::empty({2}, at::TensorOptions().device(c10::kMeta))), FormatError);
}

TEST(Codec, ContentsStartAtMultiplesOf64) {
  std::string file = file_of(List{at::full({5}, 1.5f), at::full({3}, 2.5f)});
  float first = 1.5f;
  std::size_t at = file.find(std::string(reinterpret_cast<const char*>(&first), 4));
  EXPECT_EQ(at % 64, 0u);
  EXPECT_EQ(file.find(std::string("\x80\x02", 2)) % 64, 0u);
}

TEST(Codec, EqualValuesGiveEqualFiles) {
  auto make = [] { return file_of(Dict{{"a", at::full({5}, 1.5f)}, {"b", 1}}); };
  EXPECT_EQ(make(), make());
}

const Value& small_value() {
  static const Value value = Dict{{"w", at::arange(6, c10::kFloat).view({2, 3})}, {"n", 3}, {"l", List{1.5, "t", Bytes{"b"}}}};
  return value;
}

TEST(Codec, EveryTruncationIsNoticed) {
  std::string file = file_of(small_value());
  for (std::size_t length = 0; length < file.size(); ++length) {
    for (bool verify : {true, false}) EXPECT_THROW(value_of(file.substr(0, length), {.verify = verify}), FormatError) << length;
  }
}

TEST(Codec, EveryFlippedBitIsNoticedOrHarmless) {
  std::string file = file_of(small_value());
  int noticed = 0;
  for (std::size_t i = 0; i < 8 * file.size(); ++i) {
    std::string damaged = file;
    damaged[i / 8] = static_cast<char>(damaged[i / 8] ^ (1 << (i % 8)));
    try {
      EXPECT_TRUE(identical(value_of(damaged), small_value())) << "byte " << i / 8;
    } catch (const FormatError&) {
      ++noticed;
    }
  }
  EXPECT_GT(noticed, 1000);
}

TEST(Codec, VerifyingIsWhatFindsAFlippedBitInATensor) {
  std::string file = file_of(at::full({64}, 1.5f));
  float first = 1.5f;
  file[file.find(std::string(reinterpret_cast<const char*>(&first), 4))] ^= 1;
  EXPECT_THROW(value_of(file), FormatError);
  EXPECT_NO_THROW(value_of(file, {.verify = false}));
}

TEST(Codec, ErrorsNameFileAndOffset) {
  std::string file = file_of(small_value());
  try {
    value_of(file.substr(0, file.size() - 1));
    FAIL();
  } catch (const FormatError& error) {
    EXPECT_EQ(error.file(), "x.pth");
    EXPECT_TRUE(error.offset().has_value());
  }
}

TEST(Codec, MetaTensorsAreReadWithoutData) {
  Value back = value_of(file_of(small_value()), {.read_tensors = false});
  EXPECT_TRUE(back.as_dict().at("w").as_tensor().is_meta());
  EXPECT_EQ(back.as_dict().at("w").as_tensor().sizes(), (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(back.as_dict().at("n").as_int(), 3);
}

TEST(Codec, ASparseTensorWithoutItsDataIsAsLargeAsItIs) {
  const auto sparse =
      at::_sparse_coo_tensor_unsafe(at::tensor({0, 2, 1, 0}, at::kLong).view({2, 2}), at::full({2}, 1.5f), {3, 4});
  const Value back = value_of(file_of(Dict{{"s", sparse}, {"n", 3}}), {.read_tensors = false});
  const at::Tensor& found = back.as_dict().at("s").as_tensor();
  EXPECT_TRUE(found.is_meta());
  EXPECT_EQ(found.sizes(), (std::vector<std::int64_t>{3, 4}));
  EXPECT_EQ(found.scalar_type(), at::kFloat);
  EXPECT_EQ(back.as_dict().at("n").as_int(), 3);
}

TEST(Codec, ExpandedTensorsNeedPermission) {
  std::string file = file_of(at::full({1}, 1.f).expand({1 << 20}));
  EXPECT_THROW(value_of(file), FormatError);
  EXPECT_EQ(value_of(file, {.allow_expanded = true}).as_tensor().numel(), 1 << 20);
}

TEST(Codec, UnknownClassesAreNamedOrKeptInert) {
  std::string file = file_with_pickle(std::string("\x80\x02", 2) +
                                      "cmy.module\nThing\nK\x01\x85R}U\x01"
                                      "aK\x02sb.");
  try {
    value_of(file, {.verify = false});
    FAIL();
  } catch (const FormatError& error) {
    EXPECT_NE(std::string(error.what()).find("my.module.Thing"), std::string::npos);
  }
  Value kept = value_of(file, {.unknown = UnknownGlobals::keep_opaque, .verify = false});
  EXPECT_TRUE(identical(kept, Dict{{"__opaque__", "my.module.Thing"}, {"args", Tuple{1}}, {"state", Dict{{"a", 2}}}}))
      << describe(kept);
}

TEST(Codec, SharedObjectsCannotMultiplyWithoutBound) {
  // Each list holds the one before ten times: 10^30 items from some hundred bytes.
  std::string pickle("\x80\x02]q\0", 5);
  for (char i = 1; i <= 30; ++i) {
    pickle += "0](";
    for (int k = 0; k < 10; ++k) pickle += std::string("h") + static_cast<char>(i - 1);
    pickle += std::string("eq") + i;
  }
  pickle += ".";
  EXPECT_THROW(value_of(file_with_pickle(pickle), {.verify = false}), FormatError);
}

TEST(Codec, PickleLimitAndOptionsAreHeeded) {
  EXPECT_THROW(value_of(file_of(std::string(2000, 'x')), {.max_pickle_bytes = 1000}), FormatError);
  EXPECT_THROW(validate(LoadOptions{.max_pickle_bytes = 0}), ConfigError);
}

TEST(Codec, TheContentOfABarePickleDoesNotCountAgainstItsLimit) {
  using namespace std::string_literals;
  const std::string text(2000, 'x');  // 0x7d0
  const Value back = value_of("\x80\x02}X\x01\0\0\0aX\xd0\x07\0\0"s + text + "s.", {.max_pickle_bytes = 1000});
  EXPECT_EQ(back.as_dict().at("a").as_string(), text);
  std::string nones = "\x80\x02}X\x01\0\0\0a("s + std::string(2000, 'N') + "ts.";
  EXPECT_NO_THROW(value_of(nones));
  try {
    value_of(nones, {.max_pickle_bytes = 1000});
    FAIL();
  } catch (const FormatError& error) {
    EXPECT_NE(std::string(error.what()).find("max_pickle_bytes, which is 1000"), std::string::npos) << error.what();
  }
}

TEST(Codec, SaysWhatAFileLooksLike) {
  auto message = [](const std::string& content) -> std::string {
    try {
      value_of(content);
    } catch (const FormatError& error) {
      return error.what();
    }
    return "nothing";
  };
  EXPECT_NE(message("").find("empty"), std::string::npos);
  EXPECT_NE(message("\x1f\x8b\x08 and so on").find("gzip"), std::string::npos);
  EXPECT_NE(message("version https://git-lfs.github.com/spec/v1\n").find("Git LFS"), std::string::npos);
  EXPECT_NE(message("<!DOCTYPE html>").find("web page"), std::string::npos);
  EXPECT_NE(message("just words").find("text"), std::string::npos);
  EXPECT_THROW(load_checkpoint_file("/nonexistent/x.pth"), IoError);
}

TEST(Codec, DurableIsWhatAsksForSyncing) {
  auto count = [](bool durable) {
    auto files = std::make_shared<FaultFileSystem>();
    save_checkpoint_file("x.pth", 1, {.durable = durable, .file_system = files});
    return files->calls();
  };
  EXPECT_EQ(count(true), count(false) + 2);
}

std::string python() {
  if (const char* chosen = std::getenv("TREADLE_PYTHON")) return chosen;
  return source_folder() + "/.venv/bin/python";
}

bool has_torch() { return std::system((python() + " -c 'import torch' >/dev/null 2>&1").c_str()) == 0; }

// Python reads what we write with the strictest setting, writes it again, and we read that: every bit is what it was.
TEST(Codec, PythonReadsWhatWeWrite) {
  if (!has_torch()) GTEST_SKIP() << "no Python with torch: set TREADLE_PYTHON";
  TemporaryFolder folder;
  constexpr int kFiles = 60;
  std::vector<Value> values;
  for (int i = 0; i < kFiles; ++i) {
    values.push_back(i == 0 ? small_value() : RandomValue(Rng(static_cast<std::uint64_t>(i))).make());
    if (i == 1) {
      auto numbers = at::complex(at::arange(3.0), at::arange(1.0, 4.0));
      values[1] = List{numbers.conj(), numbers.resolve_conj()};
    }
    save_checkpoint_file(folder / (std::to_string(i) + ".pth"), values.back());
  }
  auto floats = at::rand({4});
  save_checkpoint_file(folder / "mixed.pth", List{floats, floats.view(c10::kInt)});
  std::ofstream(folder / "rewrite_files.py") << R"(import sys, torch
folder = sys.argv[1]
floats, ints = torch.load(f"{folder}/mixed.pth", weights_only=True)  # which Python itself refuses to write
assert ints.dtype == torch.int32 and floats.view(torch.int32).equal(ints) and floats.data_ptr() == ints.data_ptr()
for i in range(int(sys.argv[2])):
    value = torch.load(f"{folder}/{i}.pth", weights_only=True)
    torch.save(value, f"{folder}/{i}.copy.pth")
    if i == 0:
        assert value["n"] == 3 and value["l"] == [1.5, "t", b"b"], value
        assert value["w"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], value
)";
  std::string command =
      python() + " " + (folder / "rewrite_files.py") + " " + folder.path().string() + " " + std::to_string(kFiles);
  ASSERT_EQ(std::system(command.c_str()), 0);
  for (int i = 0; i < kFiles; ++i) {
    const Value& value = values[static_cast<std::size_t>(i)];
    Value back = load_checkpoint_file(folder / (std::to_string(i) + ".copy.pth"), {.unknown = UnknownGlobals::keep_opaque});
    EXPECT_TRUE(same_layout(value, back)) << i;
    // The second holds a conjugate, whose bytes are those of its opposite: that is what the layout is compared for.
    EXPECT_TRUE(i == 1 || identical(value, back)) << i << "\n" << describe(value) << "\n" << describe(back);
  }
}

}  // namespace
}  // namespace treadle
