#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/checkpoint/detection_checkpointer.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/checkpoint/safetensors.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/complex.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/checkpoint/fault_file_system.hpp"
#include "tests/checkpoint/small_model.hpp"
#include "tests/support/source_folder.hpp"
#include "tests/support/temporary_folder.hpp"

namespace treadle {
namespace {

std::string file_of(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

Dict read(const std::string& content, LoadOptions options = {}) {
  auto files = std::make_shared<FaultFileSystem>();
  files->add("x.safetensors", content);
  options.file_system = files;
  return load_safetensors_file("x.safetensors", options);
}

std::string written(const Dict& tensors) {
  auto files = std::make_shared<FaultFileSystem>();
  save_safetensors_file("x.safetensors", tensors, {.file_system = files});
  return files->content("x.safetensors");
}

const std::string kTwoFloats("\0\0\0\x3f\0\0\xc0\x3f", 8);  // 0.5, 1.5

TEST(Safetensors, ReadsAFileWrittenByHand) {
  const std::string header =
      R"({"__metadata__":{"format":"pt","k":"v"},"b":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
      R"( "a":{"data_offsets":[8,16],"shape":[2,1],"dtype":"F32"},"e":{"dtype":"F16","shape":[0,3],"data_offsets":[8,8]}}   )";
  const std::string seven("\x07\0\0\0\0\0\0\0", 8);
  const Dict tensors = read(file_of(header, seven + kTwoFloats));
  EXPECT_TRUE(identical(tensors, Dict{{"b", at::full({}, 7, c10::kLong)},
                                      {"a", at::tensor({0.5f, 1.5f}).view({2, 1})},
                                      {"e", at::empty({0, 3}, at::TensorOptions().dtype(c10::kHalf))}}));
  EXPECT_TRUE(read(file_of("{}", "")).empty());
}

TEST(Safetensors, EveryDtypeComesBack) {
  Dict tensors;
  for (auto dtype : {c10::kFloat, c10::kDouble, c10::kHalf, c10::kBFloat16, c10::kLong, c10::kInt, c10::kShort, c10::kChar,
                     c10::kByte, c10::kUInt16, c10::kUInt32, c10::kUInt64, c10::kFloat8_e4m3fn, c10::kFloat8_e5m2,
                     c10::ScalarType::Float8_e8m0fnu, c10::kComplexFloat}) {
    auto tensor = at::empty({3, 2}, at::TensorOptions().dtype(dtype));
    for (std::size_t i = 0; i < tensor.nbytes(); ++i)
      static_cast<std::uint8_t*>(tensor.mutable_data_ptr())[i] = static_cast<std::uint8_t>(37 * i);
    tensors.set(std::string(c10::toString(dtype)), tensor);
  }
  tensors.set("bool", at::tensor({1, 0, 1}).to(c10::kBool));
  EXPECT_TRUE(identical(read(written(tensors)), tensors));
}

// The layout of the format's specification: 8 bytes of length, a header padded with blanks, data without holes, aligned.
TEST(Safetensors, WritesWhatTheFormatDemands) {
  const std::string content = written({{"byte", at::full({3}, 1, c10::kByte)},
                                       {"w", at::arange(4, c10::kFloat).view({2, 2})},
                                       {"n", at::full({}, 5, c10::kLong)}});
  std::uint64_t length = 0;
  std::memcpy(&length, content.data(), 8);
  EXPECT_EQ(length % 8, 0u);
  ASSERT_LE(8 + length, content.size());
  const auto header = nlohmann::json::parse(content.substr(8, length));
  EXPECT_EQ(header["__metadata__"], (nlohmann::json{{"format", "pt"}}));
  EXPECT_EQ(header["n"], (nlohmann::json{{"dtype", "I64"}, {"shape", nlohmann::json::array()}, {"data_offsets", {0, 8}}}));
  EXPECT_EQ(header["w"], (nlohmann::json{{"dtype", "F32"}, {"shape", {2, 2}}, {"data_offsets", {8, 24}}}));
  EXPECT_EQ(header["byte"], (nlohmann::json{{"dtype", "U8"}, {"shape", {3}}, {"data_offsets", {24, 27}}}));
  EXPECT_EQ(content.size(), 8 + length + 27);
  const float values[] = {0, 1, 2, 3};
  EXPECT_EQ(content.substr(8 + length + 8, 16), std::string(reinterpret_cast<const char*>(values), 16));
}

TEST(Safetensors, ViewsAreWrittenAsTheyLook) {
  const auto base = at::arange(6, c10::kFloat).view({2, 3});
  const auto numbers = at::complex(at::arange(2, c10::kFloat), at::full({2}, 1.f));
  const Dict back =
      read(written({{"t", base.t()}, {"expanded", at::full({1}, 2.f).expand({4})}, {"conj", numbers.conj()}, {"base", base}}));
  EXPECT_TRUE(back.at("t").as_tensor().equal(base.t()) && back.at("t").as_tensor().is_contiguous());
  EXPECT_TRUE(back.at("expanded").as_tensor().equal(at::full({4}, 2.f)));
  EXPECT_TRUE(back.at("conj").as_tensor().equal(numbers.conj().resolve_conj()) && !back.at("conj").as_tensor().is_conj());
  EXPECT_FALSE(back.at("t").as_tensor().storage().is_alias_of(back.at("base").as_tensor().storage()));
}

TEST(Safetensors, RefusesWhatTheFormatCannotHold) {
  EXPECT_THROW(written({{"n", 1}}), FormatError);
  EXPECT_THROW(written({{1, at::arange(2)}}), FormatError);
  EXPECT_THROW(written({{"__metadata__", at::arange(2)}}), FormatError);
  EXPECT_THROW(written({{"\xff", at::arange(2)}}), FormatError);
  EXPECT_THROW(written({{"sparse", at::arange(4).view({2, 2}).to_sparse()}}), FormatError);
  EXPECT_THROW(written({{"meta", at::empty({2}, at::TensorOptions().device(c10::kMeta))}}), FormatError);
  EXPECT_THROW(written({{"bits", at::empty({2}, at::TensorOptions().dtype(c10::ScalarType::ComplexDouble))}}), FormatError);
}

TEST(Safetensors, EveryLieOfAHeaderIsAnError) {
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  ASSERT_NO_THROW(read(file_of(good, kTwoFloats)));
  const std::vector<std::string> headers = {
      "",
      "[]",
      "null",
      "{",
      R"({"a":1})",
      R"({"a":[]})",
      R"({"a":{}})",
      R"({"a":{"dtype":"F32","shape":[2]}})",
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})",
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}})",
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})",
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})",
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
      R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
      R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"F32","shape":{"x":2},"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}})",
      R"({"a":{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"F32","shape":[0,18446744073709551615],"data_offsets":[0,0]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[0],"data_offsets":[8,8]}})",
      R"({"__metadata__":{},"__metadata__":{},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
      R"({"__metadata__":{"k":1},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}} x)",
      std::string(100'000, '['),
      "{\"a\":" + std::string(100'000, '{'),
      R"({"a":{"dtype":"F32","shape":[2)" +
          [] {
            std::string ones;
            for (int i = 0; i < 64; ++i) ones += ",1";
            return ones;
          }() +
          R"(],"data_offsets":[0,8]}})",
  };
  for (const std::string& header : headers) {
    try {
      read(file_of(header, kTwoFloats));
      ADD_FAILURE() << header.substr(0, 200);
    } catch (const FormatError& error) {
      EXPECT_FALSE(error.file().empty()) << header.substr(0, 200);
    }
  }
}

TEST(Safetensors, EveryTruncationIsNoticed) {
  const std::string content = written({{"a", at::arange(4, c10::kFloat)}});
  for (std::size_t length = 0; length < content.size(); ++length)
    EXPECT_THROW(read(content.substr(0, length)), FormatError) << length;
  EXPECT_THROW(read(content + "x"), FormatError);
  std::string huge = content;
  std::memset(huge.data(), 0xff, 8);
  EXPECT_THROW(read(huge), FormatError);
}

TEST(Safetensors, OptionsAreHeeded) {
  const std::string content = written({{"a", at::arange(4, c10::kFloat)}});
  EXPECT_THROW(read(content, {.max_pickle_bytes = 10}), FormatError);
  EXPECT_TRUE(read(content, {.read_tensors = false}).at("a").as_tensor().is_meta());
  auto calls = [](bool durable) {
    auto files = std::make_shared<FaultFileSystem>();
    save_safetensors_file("x", {{"a", at::arange(4)}}, {.durable = durable, .file_system = files});
    return files->calls();
  };
  EXPECT_EQ(calls(true), calls(false) + 2);
}

// The library that defines the format reads what is written here, and writes what is read here.
TEST(Safetensors, TheFormatsOwnLibraryAgrees) {
  const char* chosen = std::getenv("TREADLE_PYTHON");
  const std::string python = chosen ? chosen : source_folder() + "/.venv/bin/python";
  if (std::system((python + " -c 'import torch, safetensors.torch' >/dev/null 2>&1").c_str()) != 0) {
    GTEST_SKIP() << "no Python with torch and safetensors: set TREADLE_PYTHON";
  }
  const TemporaryFolder folder;
  const Dict tensors{{"w", at::arange(6, c10::kFloat).view({2, 3})},
                     {"n", at::full({}, 7, c10::kLong)},
                     {"bytes", at::arange(5).to(c10::kByte)},
                     {"none", at::empty({0, 3}, at::TensorOptions().dtype(c10::kHalf))}};
  save_safetensors_file(folder / "x.safetensors", tensors);
  std::ofstream(folder / "check.py") << R"(import sys, torch
from safetensors.torch import load_file, save_file
tensors = load_file(sys.argv[1])
assert tensors["w"].equal(torch.arange(6.0).view(2, 3)) and tensors["n"].equal(torch.tensor(7)), tensors
assert tensors["bytes"].tolist() == [0, 1, 2, 3, 4] and tensors["none"].shape == (0, 3), tensors
save_file(tensors, sys.argv[1] + ".copy")
)";
  ASSERT_EQ(std::system((python + " " + (folder / "check.py") + " " + (folder / "x.safetensors")).c_str()), 0);
  const Dict back = load_safetensors_file(folder / "x.safetensors.copy");
  ASSERT_EQ(back.size(), tensors.size());
  for (const auto& [key, value] : tensors) EXPECT_TRUE(identical(back.at(key), value)) << key.string();
}

TEST(Safetensors, LoadersKnowTheFormat) {
  const LogCapture quiet([](LogLevel, std::string_view) {});
  const TemporaryFolder folder;
  SmallModel model(4), fresh(0);
  save_safetensors_file(folder / "w.safetensors", module_state_dict(model));
  EXPECT_TRUE(identical(load_checkpoint_file(folder / "w.safetensors"), module_state_dict(model)));
  DetectionCheckpointer(fresh).load(folder / "w.safetensors");
  EXPECT_EQ(fresh.value(), 4);
}

}  // namespace
}  // namespace treadle
