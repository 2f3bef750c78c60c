#include "checkpoint/safetensors_format.hpp"

#include "checkpoint/byte_source.hpp"
#include "checkpoint/torch_version.hpp"

#include <treadle/base/errors.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>

namespace treadle {

namespace {

using c10::ScalarType;

constexpr std::pair<std::string_view, ScalarType> kDtypes[] = {
    {"F32", ScalarType::Float},
    {"F64", ScalarType::Double},
    {"F16", ScalarType::Half},
    {"BF16", ScalarType::BFloat16},
    {"I64", ScalarType::Long},
    {"I32", ScalarType::Int},
    {"I16", ScalarType::Short},
    {"I8", ScalarType::Char},
    {"U8", ScalarType::Byte},
    {"BOOL", ScalarType::Bool},
    {"C64", ScalarType::ComplexFloat},
#if TREADLE_TORCH_AT_LEAST(2, 1)
    {"F8_E4M3", ScalarType::Float8_e4m3fn},
    {"F8_E5M2", ScalarType::Float8_e5m2},
#endif
#if TREADLE_TORCH_AT_LEAST(2, 3)
    {"U16", ScalarType::UInt16},
    {"U32", ScalarType::UInt32},
    {"U64", ScalarType::UInt64},
#endif
#if TREADLE_TORCH_AT_LEAST(2, 7)
    {"F8_E8M0", ScalarType::Float8_e8m0fnu},
#endif
};

constexpr std::size_t kMaxRank = 64;
constexpr const char* kMetadata = "__metadata__";

/// Takes the header piece by piece, so that nothing is kept that is not an entry, and nothing is nested deeper than entries are.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<SafeTensor> entries;
  std::string problem;

  bool null() override { return refuse("null"); }
  bool boolean(bool) override { return refuse("a bool"); }
  bool number_integer(number_integer_t) override { return refuse("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return refuse("a number with a fraction"); }
  bool binary(binary_t&) override { return refuse("binary data"); }

  bool number_unsigned(number_unsigned_t number) override {
    if (place_ != Place::numbers) return refuse("a number");
    if (field_ == Field::shape) {
      if (number > (std::uint64_t{1} << 60)) return fail("a size that exceeds any memory");
      if (entries.back().shape.size() == kMaxRank) return fail(fmt::format("more than {} dimensions", kMaxRank));
      entries.back().shape.push_back(static_cast<std::int64_t>(number));
    } else {
      if (offsets_ == 2) return fail("more than two offsets");
      (offsets_++ == 0 ? entries.back().begin : entries.back().end) = number;
    }
    return true;
  }

  bool string(string_t& text) override {
    if (place_ == Place::metadata) return true;
    if (place_ != Place::entry || field_ != Field::dtype) return refuse("text");
    for (const auto& [name, dtype] : kDtypes) {
      if (name == text) entries.back().dtype = dtype;
    }
    field_ = Field::none;
    return entries.back().dtype != ScalarType::Undefined ||
           fail(fmt::format("the dtype \"{}\", which is unknown here", text.substr(0, 20)));
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::start) {
      place_ = Place::top;
    } else if (place_ == Place::top) {
      place_ = metadata_ ? Place::metadata : Place::entry;
      seen_ = 0, offsets_ = 0;
    } else {
      return refuse("an object");
    }
    return true;
  }

  bool key(string_t& name) override {
    if (place_ == Place::metadata) return true;
    if (place_ == Place::top) {
      metadata_ = name == kMetadata;
      if (metadata_) return std::exchange(had_metadata_, true) ? fail("two sets of metadata") : true;
      if (!names_.insert(name).second) return fail(fmt::format("two tensors named \"{}\"", name.substr(0, 100)));
      entries.push_back({.name = name, .shape = {}});
      return true;
    }
    field_ = name == "dtype"          ? Field::dtype
             : name == "shape"        ? Field::shape
             : name == "data_offsets" ? Field::offsets
                                      : Field::none;
    const auto bit = 1u << static_cast<unsigned>(field_);
    if (field_ == Field::none || (seen_ & bit)) return fail("a key of a tensor that is unknown or stands twice");
    seen_ |= bit;
    return true;
  }

  bool end_object() override {
    const bool entry = place_ == Place::entry;
    place_ = place_ == Place::top ? Place::done : Place::top;
    return !entry || (seen_ == 0b1110 && offsets_ == 2) || fail("a tensor that lacks its dtype, shape or data_offsets");
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::entry || (field_ != Field::shape && field_ != Field::offsets)) return refuse("an array");
    place_ = Place::numbers;
    return true;
  }
  bool end_array() override {
    place_ = Place::entry;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    at_ = position;
    return fail("no JSON");
  }
  std::size_t error_position() const noexcept { return at_; }

 private:
  enum class Place { start, top, entry, numbers, metadata, done };
  enum class Field { none, dtype, shape, offsets };

  bool fail(const std::string& message) {
    problem = message;
    return false;
  }
  bool refuse(const std::string& what) { return fail(what + " where it must not stand"); }

  Place place_ = Place::start;
  Field field_ = Field::none;
  bool metadata_ = false, had_metadata_ = false;
  unsigned seen_ = 0;
  int offsets_ = 0;
  std::size_t at_ = 0;
  std::unordered_set<std::string> names_;
};

void check_extent(const SafeTensor& entry, const std::filesystem::path& path) {
  const auto fail = [&](const char* problem) {
    throw FormatError(fmt::format("tensor \"{}\" has {}", entry.name.substr(0, 100), problem), path, kSafetensorsPrefix);
  };
  auto bytes = static_cast<std::int64_t>(c10::elementSize(entry.dtype));
  bool fits = true, empty = false;
  for (std::int64_t size : entry.shape) {
    empty = empty || size == 0;
    // The strides of an empty tensor are those of one with 1 in place of 0, and must be numbers of 64 bits too.
    fits = fits && !__builtin_mul_overflow(bytes, std::max<std::int64_t>(size, 1), &bytes);
  }
  if (!fits) fail("a shape that exceeds any memory");
  if (empty) bytes = 0;
  if (entry.begin > entry.end || entry.end - entry.begin != static_cast<std::uint64_t>(bytes))
    fail("offsets that do not fit its shape");
}

/// Every byte of the data belongs to exactly one tensor.
void check_cover(const std::vector<SafeTensor>& entries, std::uint64_t data_size, const std::filesystem::path& path) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
  ranges.reserve(entries.size());
  for (const SafeTensor& entry : entries) ranges.emplace_back(entry.begin, entry.end);
  std::sort(ranges.begin(), ranges.end());
  std::uint64_t at = 0;
  for (const auto& [begin, end] : ranges) {
    if (begin != at) throw FormatError("the tensors overlap or leave bytes that belong to none", path, kSafetensorsPrefix);
    at = end;
  }
  if (at != data_size) {
    throw FormatError(fmt::format("the tensors take {} bytes, the file holds {}", at, data_size), path, kSafetensorsPrefix);
  }
}

}  // namespace

bool looks_like_safetensors(std::string_view head, std::uint64_t size) {
  return head.size() > kSafetensorsPrefix && head[kSafetensorsPrefix] == '{' &&
         read_little<std::uint64_t>(head) <= size - kSafetensorsPrefix;
}

std::vector<SafeTensor> parse_safetensors_header(const std::string& header, std::uint64_t data_size,
                                                 const std::filesystem::path& path) {
  HeaderReader reader;
  if (!nlohmann::json::sax_parse(header, &reader)) {
    throw FormatError(fmt::format("the header of a safetensors file holds {}", reader.problem), path,
                      kSafetensorsPrefix + reader.error_position());
  }
  for (const SafeTensor& entry : reader.entries) check_extent(entry, path);
  check_cover(reader.entries, data_size, path);
  return std::move(reader.entries);
}

std::string_view safetensors_dtype(c10::ScalarType dtype) {
  for (const auto& [name, known] : kDtypes) {
    if (known == dtype) return name;
  }
  return {};
}

}  // namespace treadle
