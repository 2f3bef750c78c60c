#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace treadle {

/// SHA-256 (FIPS 180-4) of bytes that come in pieces, as lower-case hexadecimal. Not for several threads at a time.
class Sha256 {
 public:
  void update(const void* data, std::size_t size);
  /// The sum of all bytes so far; nothing may be added afterwards.
  std::string hex();

 private:
  void take_block(const std::uint8_t* block);

  std::array<std::uint32_t, 8> hash_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::uint8_t, 64> block_{};
  std::size_t filled_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace treadle
