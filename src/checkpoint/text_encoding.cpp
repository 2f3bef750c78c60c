#include "checkpoint/text_encoding.hpp"

#include <algorithm>
#include <vector>

namespace treadle {

namespace {

unsigned char byte_at(std::string_view text, std::size_t i) noexcept { return static_cast<unsigned char>(text[i]); }

// The length of the character that starts at `i`, 0 when it is malformed. RFC 3629, table 3-7 of Unicode, surrogates let through.
std::size_t character_length(std::string_view text, std::size_t i) noexcept {
  unsigned char first = byte_at(text, i);
  if (first < 0x80) return 1;
  std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() - i < length) return 0;
  for (std::size_t k = 1; k < length; ++k) {
    if ((byte_at(text, i + k) & 0xc0) != 0x80) return 0;
  }
  unsigned char second = byte_at(text, i + 1);
  if (first == 0xe0 && second < 0xa0) return 0;
  if (first == 0xf0 && second < 0x90) return 0;
  if (first == 0xf4 && second > 0x8f) return 0;
  return length;
}

}  // namespace

bool is_utf8(std::string_view text) noexcept {
  for (std::size_t i = 0; i < text.size();) {
    std::size_t length = character_length(text, i);
    if (length == 0) return false;
    i += length;
  }
  return true;
}

std::string latin1_to_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (char c : bytes) {
    auto code = static_cast<unsigned char>(c);
    if (code < 0x80) {
      text.push_back(c);
    } else {
      text.push_back(static_cast<char>(0xc0 | (code >> 6)));
      text.push_back(static_cast<char>(0x80 | (code & 0x3f)));
    }
  }
  return text;
}

std::optional<std::uint64_t> narrow_length(std::string_view text) noexcept {
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < text.size(); ++length) {
    unsigned char first = byte_at(text, i);
    if (first >= 0x80 && first != 0xc2 && first != 0xc3) return std::nullopt;
    i += first < 0x80 ? 1 : 2;
  }
  return length;
}

void narrow(std::string_view text, char* out) noexcept {
  for (std::size_t i = 0; i < text.size();) {
    unsigned char first = byte_at(text, i);
    if (first < 0x80) {
      *out++ = text[i++];
    } else {
      *out++ = static_cast<char>(((first & 0x03) << 6) | (byte_at(text, i + 1) & 0x3f));
      i += 2;
    }
  }
}

std::string decimal_digits(std::string_view bytes) {
  if (bytes.empty()) return "0";
  bool negative = (byte_at(bytes, bytes.size() - 1) & 0x80) != 0;
  std::vector<unsigned char> magnitude(bytes.begin(), bytes.end());
  if (negative) {
    unsigned carry = 1;
    for (unsigned char& byte : magnitude) {
      unsigned sum = static_cast<unsigned char>(~byte) + carry;
      byte = static_cast<unsigned char>(sum);
      carry = sum >> 8;
    }
  }
  std::string digits;
  while (std::any_of(magnitude.begin(), magnitude.end(), [](unsigned char byte) { return byte != 0; })) {
    unsigned remainder = 0;
    for (auto byte = magnitude.rbegin(); byte != magnitude.rend(); ++byte) {
      unsigned value = (remainder << 8) | *byte;
      *byte = static_cast<unsigned char>(value / 10);
      remainder = value % 10;
    }
    digits.push_back(static_cast<char>('0' + remainder));
  }
  if (digits.empty()) return "0";
  if (negative) digits.push_back('-');
  std::reverse(digits.begin(), digits.end());
  return digits;
}

}  // namespace treadle
