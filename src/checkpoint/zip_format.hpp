#pragma once

#include <cstdint>
#include <string_view>

namespace treadle::zip {

// The parts of PKWARE's APPNOTE 6.3 that stored archives need. All numbers are little-endian.
inline constexpr std::string_view kMagic = "PK\x03\x04";      // how an archive that holds a file begins: a local header
inline constexpr std::uint32_t kLocalHeader = 0x04034b50;     // section 4.3.7, 30 bytes
inline constexpr std::uint32_t kDataDescriptor = 0x08074b50;  // 4.3.9
inline constexpr std::uint32_t kCentralHeader = 0x02014b50;   // 4.3.12, 46 bytes
inline constexpr std::uint32_t kEnd64 = 0x06064b50;           // 4.3.14, 56 bytes
inline constexpr std::uint32_t kEnd64Locator = 0x07064b50;    // 4.3.15, 20 bytes
inline constexpr std::uint32_t kEnd = 0x06054b50;             // 4.3.16, 22 bytes
inline constexpr std::uint16_t kExtra64 = 1;                  // 4.5.3

inline constexpr std::uint64_t kLocalSize = 30;
inline constexpr std::uint64_t kCentralSize = 46;
inline constexpr std::uint64_t kEnd64Size = 56;
inline constexpr std::uint64_t kEnd64LocatorSize = 20;
inline constexpr std::uint64_t kEndSize = 22;

inline constexpr std::uint16_t kEncrypted = 1;
inline constexpr std::uint16_t kHasDescriptor = 1 << 3;
inline constexpr std::uint16_t kUtf8Name = 1 << 11;

}  // namespace treadle::zip
