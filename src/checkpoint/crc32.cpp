#include "checkpoint/crc32.hpp"

#include <zlib.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define TREADLE_CRC32_FOLDING 1
#endif

namespace treadle {

namespace {

std::uint32_t crc32_plain(std::uint32_t crc, std::span<const std::byte> bytes) noexcept {
  return static_cast<std::uint32_t>(::crc32_z(crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

#ifdef TREADLE_CRC32_FOLDING

// Folding with carry-less multiplication: V. Gopal et al., "Fast CRC computation for generic polynomials using PCLMULQDQ
// instruction", Intel 2009. The constants are x^n mod P for the reflected polynomial of zip, as in its section on bit-reflected
// data: n = 544 and 480 to fold by 64 bytes, 160 and 96 by 16, 64 for the last step; then the Barrett pair.
constexpr long long kBy64[] = {0x154442bd4, 0x1c6e41596};
constexpr long long kBy16[] = {0x1751997d0, 0x0ccaa009e};
constexpr long long kBy8 = 0x163cd6124;
constexpr long long kPolynomial = 0x1db710641, kInverse = 0x1f7011641;

#define TREADLE_FOLDING_TARGET __attribute__((target("pclmul,sse4.1")))

TREADLE_FOLDING_TARGET inline __m128i load(const std::byte* bytes) noexcept {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
}

TREADLE_FOLDING_TARGET inline __m128i fold(__m128i value, __m128i constants, __m128i next) noexcept {
  __m128i low = _mm_clmulepi64_si128(value, constants, 0x00);
  __m128i high = _mm_clmulepi64_si128(value, constants, 0x11);
  return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

TREADLE_FOLDING_TARGET inline std::uint32_t reduce(__m128i value) noexcept {
  const __m128i mask = _mm_setr_epi32(-1, 0, -1, 0);
  __m128i by16 = _mm_set_epi64x(kBy16[1], kBy16[0]);
  value = _mm_xor_si128(_mm_srli_si128(value, 8), _mm_clmulepi64_si128(value, by16, 0x10));
  __m128i upper = _mm_srli_si128(value, 4);
  value = _mm_xor_si128(_mm_clmulepi64_si128(_mm_and_si128(value, mask), _mm_set_epi64x(0, kBy8), 0x00), upper);
  __m128i barrett = _mm_set_epi64x(kInverse, kPolynomial);
  __m128i quotient = _mm_clmulepi64_si128(_mm_and_si128(value, mask), barrett, 0x10);
  __m128i product = _mm_clmulepi64_si128(_mm_and_si128(quotient, mask), barrett, 0x00);
  return static_cast<std::uint32_t>(_mm_extract_epi32(_mm_xor_si128(value, product), 1));
}

/// At least 64 bytes, a multiple of 16.
TREADLE_FOLDING_TARGET std::uint32_t crc32_folded(std::uint32_t crc, const std::byte* bytes, std::size_t size) noexcept {
  __m128i lanes[4];
  for (std::size_t i = 0; i < 4; ++i) lanes[i] = load(bytes + 16 * i);
  lanes[0] = _mm_xor_si128(lanes[0], _mm_cvtsi32_si128(static_cast<int>(~crc)));
  bytes += 64, size -= 64;
  __m128i by64 = _mm_set_epi64x(kBy64[1], kBy64[0]);
  for (; size >= 64; bytes += 64, size -= 64) {
    for (std::size_t i = 0; i < 4; ++i) lanes[i] = fold(lanes[i], by64, load(bytes + 16 * i));
  }
  __m128i by16 = _mm_set_epi64x(kBy16[1], kBy16[0]);
  __m128i value = lanes[0];
  for (int i = 1; i < 4; ++i) value = fold(value, by16, lanes[i]);
  for (; size >= 16; bytes += 16, size -= 16) value = fold(value, by16, load(bytes));
  return ~reduce(value);
}

#undef TREADLE_FOLDING_TARGET

bool can_fold() noexcept {
  static const bool can = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
  return can;
}

#endif

}  // namespace

std::uint32_t crc32(std::uint32_t crc, std::span<const std::byte> bytes) noexcept {
#ifdef TREADLE_CRC32_FOLDING
  if (bytes.size() >= 64 && can_fold()) {
    std::size_t whole = bytes.size() / 16 * 16;
    crc = crc32_folded(crc, bytes.data(), whole);
    bytes = bytes.subspan(whole);
  }
#endif
  return crc32_plain(crc, bytes);
}

}  // namespace treadle
