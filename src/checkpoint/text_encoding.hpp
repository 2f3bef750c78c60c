#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace treadle {

/// True for UTF-8 as Python reads and writes it in pickles: lone surrogates are allowed ("surrogatepass"), overlong forms are
/// not.
bool is_utf8(std::string_view text) noexcept;

/// The text whose characters are the given bytes.
std::string latin1_to_utf8(std::string_view bytes);

/// How many characters `text`, valid UTF-8, has when all of them are below 256.
std::optional<std::uint64_t> narrow_length(std::string_view text) noexcept;
/// Writes the characters of `text`, for which `narrow_length` gave a number, as one byte each to `out`.
void narrow(std::string_view text, char* out) noexcept;

/// The decimal digits of the little-endian two's complement number in `bytes`.
std::string decimal_digits(std::string_view bytes);

}  // namespace treadle
