#pragma once

#include <treadle/base/value.hpp>
#include <treadle/checkpoint/file_system.hpp>

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace treadle {

/// One entry of the header of a safetensors file.
struct SafeTensor {
  std::string name;
  c10::ScalarType dtype = c10::ScalarType::Undefined;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;  // of its bytes, from the start of the data
};

/// Eight bytes with the length of the header, little-endian, stand before it.
inline constexpr std::uint64_t kSafetensorsPrefix = 8;

/// True when a file of `size` bytes that starts with `head` can only be a safetensors file.
bool looks_like_safetensors(std::string_view head, std::uint64_t size);

/// The entries of a header in their order. Throws FormatError for anything the format does not allow; `data_size` bytes follow.
std::vector<SafeTensor> parse_safetensors_header(const std::string& header, std::uint64_t data_size,
                                                 const std::filesystem::path& path);

/// The name of a dtype ("F32"); empty when the format has none.
std::string_view safetensors_dtype(c10::ScalarType dtype);

/// `load_safetensors_file` of an open file.
Dict read_safetensors(const ReadableFile& file, const std::filesystem::path& path, std::uint64_t max_header, bool read_tensors);

}  // namespace treadle
