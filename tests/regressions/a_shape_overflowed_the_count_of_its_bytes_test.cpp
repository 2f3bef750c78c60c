// Files of some hundred bytes whose shapes make a product or a sum of 64 bits overflow: LibTorch's own error came out, which
// names no file, and whoever verified a folder did not get to the files behind it.
#include <tests/support/temporary_folder.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/checkpoint/file.hpp>

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>

namespace treadle {
namespace {

template <class Number>
std::string bytes(Number number) {
  return {reinterpret_cast<const char*>(&number), sizeof number};
}

// Opcodes of a pickle.
std::string text(const std::string& content) { return "X" + bytes(static_cast<std::uint32_t>(content.size())) + content; }
std::string integer(std::int64_t number) { return "\x8a\x08" + bytes(number); }
std::string global(const std::string& module, const std::string& name) { return "c" + module + "\n" + name + "\n"; }
std::string tuple(const std::string& items) { return "(" + items + "t"; }
std::string pickle(const std::string& object) { return "\x80\x02" + object + "."; }
const std::string kFalse = "\x89", kCall = "R", kBuild = "b", kPersistent = "Q", kNone = "N";

/// What the FormatError says that reading the file throws, which must name it and a place in it.
std::string refusal_of(const std::filesystem::path& file, const LoadOptions& options = {}) {
  try {
    load_checkpoint_file(file, options);
  } catch (const FormatError& error) {
    EXPECT_EQ(error.file(), file);
    EXPECT_TRUE(error.offset().has_value());
    return error.what();
  }
  return "it was read";
}

bool contains(const std::string& whole, const std::string& part) { return whole.find(part) != std::string::npos; }

struct OverflowingFile : testing::Test {
  TemporaryFolder folder;
  std::filesystem::path file = folder / "hostile";
};

/// {"w": a numpy array of 2^60 complex numbers of 16 bytes, whose content is empty}
std::string array_without_content() {
  const std::string array =
      global("numpy.core.multiarray", "_reconstruct") + tuple(global("numpy", "ndarray") + tuple(integer(0)) + text("b")) + kCall;
  const std::string dtype = global("numpy", "dtype") + tuple(text("c16") + integer(0) + integer(1)) + kCall +
                            tuple(integer(3) + text("<") + kNone + kNone + kNone + integer(-1) + integer(-1) + integer(0)) +
                            kBuild;
  const std::string content = global("_codecs", "encode") + tuple(text("") + text("latin1")) + kCall;
  const std::string state = tuple(integer(1) + tuple(integer(std::int64_t{1} << 60)) + dtype + kFalse + content);
  return pickle("}" + text("w") + array + state + kBuild + "s");
}

TEST_F(OverflowingFile, AnArrayOf2To64BytesWithoutContent) {
  write_text(file, array_without_content());
  for (const bool read_tensors : {true, false})
    EXPECT_TRUE(contains(refusal_of(file, {.read_tensors = read_tensors}), "has a content of 0 bytes"));
}

TEST_F(OverflowingFile, AnExpandedTensorThatStandsFor2To64Bytes) {
  save_checkpoint_file(file, at::zeros({1}, at::kComplexDouble).expand({std::int64_t{1} << 60}));
  EXPECT_TRUE(contains(refusal_of(file), "exceed any memory"));
  EXPECT_TRUE(contains(refusal_of(file, {.allow_expanded = true}), "exceed any memory"));
}

TEST_F(OverflowingFile, AnEmptyTensorOfSafetensorsWhoseStridesNeed64Bits) {
  std::string header = R"({"a":{"dtype":"U8","shape":[0,1152921504606846976,8],"data_offsets":[0,0]}})";
  header.append((8 - header.size() % 8) % 8, ' ');
  write_text(file, bytes(std::uint64_t{header.size()}) + header);
  for (const bool read_tensors : {true, false})
    EXPECT_TRUE(contains(refusal_of(file, {.read_tensors = read_tensors}), "\"a\" has a shape that exceeds any memory"));
}

/// As torch.save wrote before 1.6: an empty tensor at the last offset of all, in the second half of a storage of 16 bytes.
std::string legacy_file_with_an_offset_beyond_all() {
  const std::string magic = "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
  const std::string storage = tuple(text("storage") + global("torch", "ByteStorage") + text("0") + text("cpu") + integer(16) +
                                    tuple(text("1") + integer(8) + integer(8))) +
                              kPersistent;
  const std::string tensor = global("torch._utils", "_rebuild_tensor_v2") +
                             tuple(storage + integer(std::numeric_limits<std::int64_t>::max()) + tuple(integer(0)) +
                                   tuple(integer(1)) + kFalse + kNone) +
                             kCall;
  return pickle(magic) + pickle(integer(1001)) + pickle("}") + pickle(tensor) + pickle("]" + text("0") + "a") +
         bytes(std::uint64_t{16}) + std::string(16, '\0');
}

TEST_F(OverflowingFile, AnEmptyTensorThatBeginsBehindAllMemory) {
  write_text(file, legacy_file_with_an_offset_beyond_all());
  EXPECT_TRUE(contains(refusal_of(file), "a tensor reaches to element"));
}

}  // namespace
}  // namespace treadle
