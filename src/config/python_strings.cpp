#include "config/python_strings.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>

namespace treadle {
namespace {

void append_utf8(std::string& text, std::uint32_t code) {
  if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) throw NotPython();
  const auto put = [&](std::uint32_t byte) { text += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

/// The letters in front of the quote, in lower case; nothing when no literal starts here.
std::optional<std::string> string_prefix(std::string_view text) {
  std::string prefix;
  while (prefix.size() < 2 && prefix.size() < text.size() &&
         std::string_view("rRbBuU").find(text[prefix.size()]) != std::string_view::npos) {
    prefix += static_cast<char>(text[prefix.size()] | 0x20);
  }
  if (prefix.size() == text.size() || (text[prefix.size()] != '\'' && text[prefix.size()] != '"')) return std::nullopt;
  constexpr std::array<std::string_view, 6> known{"", "r", "b", "u", "br", "rb"};
  if (std::ranges::find(known, prefix) == known.end()) return std::nullopt;
  return prefix;
}

class StringScanner {
 public:
  StringScanner(std::string_view& rest, std::string& text, bool raw, bool bytes)
      : rest_(rest), text_(text), raw_(raw), bytes_(bytes) {}

  void take() {
    const char quote = rest_.front();
    const std::string triple(3, quote);
    const bool long_string = rest_.starts_with(triple);
    const std::string end = long_string ? triple : std::string(1, quote);
    rest_.remove_prefix(end.size());
    while (!rest_.starts_with(end)) {
      if (rest_.empty()) throw NotPython();
      const char c = rest_.front();
      if (c == '\n' && !long_string) throw NotPython();
      if (c == '\0' || (bytes_ && static_cast<unsigned char>(c) >= 0x80)) throw NotPython();
      if (c != '\\') {
        copy(1);
      } else if (rest_.size() < 2) {
        throw NotPython();
      } else if (raw_) {
        copy(2);
      } else {
        rest_.remove_prefix(1);
        escape();
      }
    }
    rest_.remove_prefix(end.size());
  }

 private:
  void copy(std::size_t count) {
    text_ += rest_.substr(0, count);
    rest_.remove_prefix(count);
  }

  void put(std::uint32_t code) {
    if (bytes_) {
      text_ += static_cast<char>(code & 0xFF);
    } else {
      append_utf8(text_, code);
    }
  }

  std::uint32_t digits(std::size_t at_least, std::size_t at_most, int base) {
    std::uint32_t code = 0;
    const char* const limit = rest_.data() + std::min(at_most, rest_.size());
    const auto [end, error] = std::from_chars(rest_.data(), limit, code, base);
    const std::size_t count = static_cast<std::size_t>(end - rest_.data());
    if (error != std::errc() || count < at_least) throw NotPython();
    rest_.remove_prefix(count);
    return code;
  }

  void escape() {
    constexpr std::string_view letters = "\\'\"abfnrtv";
    constexpr std::string_view meanings = "\\'\"\a\b\f\n\r\t\v";
    const char c = rest_.front();
    if (c >= '0' && c <= '7') return put(digits(1, 3, 8));
    rest_.remove_prefix(1);
    if (c == '\n') return;
    if (const std::size_t i = letters.find(c); i != std::string_view::npos) {
      text_ += meanings[i];
    } else if (c == 'x') {
      put(digits(2, 2, 16));
    } else if (!bytes_ && (c == 'u' || c == 'U')) {
      const std::size_t count = c == 'u' ? 4 : 8;
      put(digits(count, count, 16));
    } else if (!bytes_ && c == 'N') {
      throw NotPython();  // characters by name would need the Unicode database
    } else {
      text_ += '\\';
      text_ += c;
    }
  }

  std::string_view& rest_;
  std::string& text_;
  bool raw_;
  bool bytes_;
};

}  // namespace

bool starts_python_string(std::string_view text) { return string_prefix(text).has_value(); }

bool take_python_string(std::string_view& text, std::string& content) {
  const std::optional<std::string> prefix = string_prefix(text);
  if (!prefix) throw NotPython();
  text.remove_prefix(prefix->size());
  const bool bytes = prefix->find('b') != std::string::npos;
  StringScanner(text, content, prefix->find('r') != std::string::npos, bytes).take();
  return bytes;
}

}  // namespace treadle
