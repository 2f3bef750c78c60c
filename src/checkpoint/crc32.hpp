#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace treadle {

/// The CRC-32 of zip files over `bytes`, continuing from `crc` (0 to begin).
std::uint32_t crc32(std::uint32_t crc, std::span<const std::byte> bytes) noexcept;

}  // namespace treadle
