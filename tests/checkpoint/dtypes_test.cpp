// Every dtype of the LibTorch that this was compiled with.
#include <treadle/base/errors.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/checkpoint/open_file.hpp>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/ScalarType.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

#include "checkpoint/dtype_names.hpp"
#include "tests/support/source_folder.hpp"
#include "tests/support/temporary_folder.hpp"

namespace treadle {
namespace {

constexpr int kDtypes = static_cast<int>(c10::ScalarType::NumOptions);

/// What torch.save refuses as well: quantized tensors, which carry scales, and the numbers of 1 to 7 bits, which are
/// placeholders.
bool cannot_be_saved(c10::ScalarType dtype) {
  const std::string name = c10::toString(dtype);
  const bool narrow = (name.starts_with("UInt") || name.starts_with("Int")) && name.back() >= '1' && name.back() <= '7' &&
                      name.find_first_of("0123456789") == name.size() - 1;
  return dtype == c10::ScalarType::Undefined || c10::isQIntType(dtype) || narrow;
}

/// Eight elements whose bytes are 0, 1, 2, …; booleans are 0 and 1.
at::Tensor numbered(c10::ScalarType dtype) {
  at::Tensor tensor = at::empty({8}, at::TensorOptions().dtype(dtype));
  auto* bytes = static_cast<std::uint8_t*>(tensor.mutable_data_ptr());
  for (std::size_t i = 0; i < tensor.nbytes(); ++i) bytes[i] = static_cast<std::uint8_t>(dtype == c10::kBool ? i % 2 : i);
  return tensor;
}

Dict all_dtypes() {
  Dict tensors;
  for (int i = 0; i < kDtypes; ++i) {
    const auto dtype = static_cast<c10::ScalarType>(i);
    if (!cannot_be_saved(dtype)) tensors.set(std::string(name_of_dtype(dtype)), numbered(dtype));
  }
  return tensors;
}

TEST(Dtypes, EveryOneComesBack) {
  const TemporaryFolder folder;
  const Dict tensors = all_dtypes();
  EXPECT_GE(tensors.size(), 20u);
  EXPECT_FALSE(tensors.contains("")) << "a dtype without a name";
  save_checkpoint_file(folder / "x.pth", tensors);
  EXPECT_TRUE(identical(load_checkpoint_file(folder / "x.pth"), tensors));
  const CheckpointFile file(folder / "x.pth");
  EXPECT_TRUE(identical(file.read(file.content()), tensors));
}

TEST(Dtypes, WhatCannotBeSavedIsNamed) {
  const TemporaryFolder folder;
  int refused = 0;
  for (int i = 0; i < kDtypes; ++i) {
    const auto dtype = static_cast<c10::ScalarType>(i);
    if (!cannot_be_saved(dtype) || dtype == c10::ScalarType::Undefined || c10::isQIntType(dtype)) continue;
    try {
      save_checkpoint_file(folder / "x.pth", at::empty({8}, at::TensorOptions().dtype(dtype)));
      ADD_FAILURE() << c10::toString(dtype);
    } catch (const FormatError& error) {
      EXPECT_NE(std::string(error.what()).find(c10::toString(dtype)), std::string::npos) << error.what();
      ++refused;
    }
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  EXPECT_TRUE(refused == 0 || refused == 14) << refused;  // LibTorch has them since 2.6
}

TEST(Dtypes, PythonReadsEveryOne) {
  const char* chosen = std::getenv("TREADLE_PYTHON");
  const std::string python = chosen ? chosen : source_folder() + "/.venv/bin/python";
  if (std::system((python + " -c 'import torch' >/dev/null 2>&1").c_str()) != 0)
    GTEST_SKIP() << "no Python with torch: set TREADLE_PYTHON";
  const TemporaryFolder folder;
  save_checkpoint_file(folder / "x.pth", all_dtypes());
  std::ofstream(folder / "check.py") << R"(import sys, torch
tensors = torch.load(sys.argv[1], weights_only=True)
for name, tensor in tensors.items():
    assert str(tensor.dtype) == "torch." + name and tensor.shape == (8,), name
    expected = [i % 2 if name == "bool" else i for i in range(8 * tensor.element_size())]
    assert list(tensor.untyped_storage()) == expected, name
torch.save(tensors, sys.argv[1] + ".copy")
)";
  ASSERT_EQ(std::system((python + " " + (folder / "check.py") + " " + (folder / "x.pth")).c_str()), 0);
  EXPECT_TRUE(identical(load_checkpoint_file(folder / "x.pth.copy"), all_dtypes()));
}

}  // namespace
}  // namespace treadle
