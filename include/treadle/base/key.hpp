#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace treadle {

[[noreturn]] void throw_beyond_int64(std::uint64_t number);

/// `number` itself. Throws Error when an unsigned one exceeds the range of int64.
template <std::integral I>
std::int64_t to_int64(I number) {
  if (!std::in_range<std::int64_t>(number)) throw_beyond_int64(static_cast<std::uint64_t>(number));
  return static_cast<std::int64_t>(number);
}

/// A key of a Dict: text or an integer. The two never compare equal ("1" is not 1), and no bool is a key.
class Key {
 public:
  Key(std::string text) : value_(std::move(text)) {}
  Key(std::string_view text) : value_(std::string(text)) {}
  Key(const char* text) : value_(std::string(text)) {}
  /// Throws Error when an unsigned number exceeds the range of int64.
  template <std::integral I>
    requires(!std::same_as<I, bool> && !std::same_as<I, char>)
  Key(I number) : value_(to_int64(number)) {}

  bool is_string() const noexcept { return value_.index() == 0; }
  /// Throws FormatError when the key is an integer.
  const std::string& string() const;
  /// Throws FormatError when the key is text.
  std::int64_t integer() const;
  /// The key as it stands in a path: `name` or `[3]`.
  std::string to_string() const;
  std::size_t hash() const noexcept;
  bool operator==(const Key&) const = default;

 private:
  std::variant<std::string, std::int64_t> value_;
};

}  // namespace treadle
