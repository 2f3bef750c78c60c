#include "checkpoint/crc32.hpp"

#include <zlib.h>

namespace treadle {

std::uint32_t crc32(std::uint32_t crc, std::span<const std::byte> bytes) noexcept {
  return static_cast<std::uint32_t>(::crc32_z(crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

}  // namespace treadle
