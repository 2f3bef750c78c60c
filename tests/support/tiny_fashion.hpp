#pragma once

#include <zlib.h>

#include <cstdint>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace treadle {

inline void write_gzip(const std::filesystem::path& file, const std::string& bytes) {
  gzFile out = gzopen(file.c_str(), "wb");
  if (out == nullptr) throw std::runtime_error("cannot write " + file.string());
  gzwrite(out, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(out);
}

/// The bytes of an IDX file of unsigned bytes: magic, sizes, data.
inline std::string idx_bytes(const std::vector<std::uint32_t>& sizes, const std::string& data) {
  std::string bytes{0, 0, 8, static_cast<char>(sizes.size())};
  for (std::uint32_t size : sizes) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(size >> shift & 0xff);
  }
  return bytes + data;
}

/// Writes the four files of Fashion-MNIST with few images: class c is a bright row c among noise, so that a network can learn it.
inline void write_tiny_fashion(const std::filesystem::path& folder, std::uint32_t train = 256, std::uint32_t test = 64) {
  std::mt19937 random(7);
  const auto write = [&](const std::string& part, std::uint32_t count) {
    std::string images, labels;
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::uint32_t label = i % 10;
      labels += static_cast<char>(label);
      for (std::uint32_t row = 0; row < 28; ++row) {
        for (std::uint32_t column = 0; column < 28; ++column) {
          images += static_cast<char>(row / 2 == label + 2 ? 200 + random() % 50 : random() % 60);
        }
      }
    }
    write_gzip(folder / (part + "-images-idx3-ubyte.gz"), idx_bytes({count, 28, 28}, images));
    write_gzip(folder / (part + "-labels-idx1-ubyte.gz"), idx_bytes({count}, labels));
  };
  write("train", train);
  write("t10k", test);
}

}  // namespace treadle
