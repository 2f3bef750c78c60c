#include "checkpoint/dtype_names.hpp"

#include "checkpoint/torch_version.hpp"

#include <array>
#include <utility>

namespace treadle {

using c10::ScalarType;

namespace {

// The first name of a dtype is the one Python prints.
constexpr std::pair<std::string_view, ScalarType> kNames[] = {
    {"float32", ScalarType::Float},
    {"float64", ScalarType::Double},
    {"float16", ScalarType::Half},
    {"bfloat16", ScalarType::BFloat16},
    {"int64", ScalarType::Long},
    {"int32", ScalarType::Int},
    {"int16", ScalarType::Short},
    {"int8", ScalarType::Char},
    {"uint8", ScalarType::Byte},
    {"bool", ScalarType::Bool},
    {"complex64", ScalarType::ComplexFloat},
    {"complex128", ScalarType::ComplexDouble},
    {"complex32", ScalarType::ComplexHalf},
    {"bits8", ScalarType::Bits8},
    {"bits16", ScalarType::Bits16},
    {"bits1x8", ScalarType::Bits1x8},
    {"bits2x4", ScalarType::Bits2x4},
    {"bits4x2", ScalarType::Bits4x2},
    {"qint8", ScalarType::QInt8},
    {"quint8", ScalarType::QUInt8},
    {"qint32", ScalarType::QInt32},
#if TREADLE_TORCH_AT_LEAST(2, 1)
    {"float8_e4m3fn", ScalarType::Float8_e4m3fn},
    {"float8_e5m2", ScalarType::Float8_e5m2},
#endif
#if TREADLE_TORCH_AT_LEAST(2, 2)
    {"float8_e4m3fnuz", ScalarType::Float8_e4m3fnuz},
    {"float8_e5m2fnuz", ScalarType::Float8_e5m2fnuz},
#endif
#if TREADLE_TORCH_AT_LEAST(2, 3)
    {"uint16", ScalarType::UInt16},
    {"uint32", ScalarType::UInt32},
    {"uint64", ScalarType::UInt64},
#endif
#if TREADLE_TORCH_AT_LEAST(2, 7)
    {"float8_e8m0fnu", ScalarType::Float8_e8m0fnu},
#endif
#if TREADLE_TORCH_AT_LEAST(2, 8)
    {"float4_e2m1fn_x2", ScalarType::Float4_e2m1fn_x2},
#endif
    {"float", ScalarType::Float},
    {"double", ScalarType::Double},
    {"half", ScalarType::Half},
    {"long", ScalarType::Long},
    {"int", ScalarType::Int},
    {"short", ScalarType::Short},
    {"cfloat", ScalarType::ComplexFloat},
    {"cdouble", ScalarType::ComplexDouble},
    {"chalf", ScalarType::ComplexHalf},
};

constexpr std::pair<std::string_view, ScalarType> kStorages[] = {
    {"FloatStorage", ScalarType::Float},
    {"DoubleStorage", ScalarType::Double},
    {"HalfStorage", ScalarType::Half},
    {"BFloat16Storage", ScalarType::BFloat16},
    {"LongStorage", ScalarType::Long},
    {"IntStorage", ScalarType::Int},
    {"ShortStorage", ScalarType::Short},
    {"CharStorage", ScalarType::Char},
    {"ByteStorage", ScalarType::Byte},
    {"BoolStorage", ScalarType::Bool},
    {"ComplexFloatStorage", ScalarType::ComplexFloat},
    {"ComplexDoubleStorage", ScalarType::ComplexDouble},
    {"QInt8Storage", ScalarType::QInt8},
    {"QUInt8Storage", ScalarType::QUInt8},
    {"QInt32Storage", ScalarType::QInt32},
};

constexpr std::pair<std::string_view, ScalarType> kNumpy[] = {
    {"f4", ScalarType::Float},  {"f8", ScalarType::Double},       {"f2", ScalarType::Half},           {"i8", ScalarType::Long},
    {"i4", ScalarType::Int},    {"i2", ScalarType::Short},        {"i1", ScalarType::Char},           {"u1", ScalarType::Byte},
    {"b1", ScalarType::Bool},   {"c8", ScalarType::ComplexFloat}, {"c16", ScalarType::ComplexDouble},
#if TREADLE_TORCH_AT_LEAST(2, 3)
    {"u2", ScalarType::UInt16}, {"u4", ScalarType::UInt32},       {"u8", ScalarType::UInt64},
#endif
};

template <std::size_t N>
std::optional<ScalarType> by_name(const std::pair<std::string_view, ScalarType> (&table)[N], std::string_view name) {
  for (const auto& [known, dtype] : table) {
    if (known == name) return dtype;
  }
  return std::nullopt;
}

template <std::size_t N>
std::string_view by_dtype(const std::pair<std::string_view, ScalarType> (&table)[N], ScalarType dtype) {
  for (const auto& [name, known] : table) {
    if (known == dtype) return name;
  }
  return {};
}

}  // namespace

std::optional<ScalarType> dtype_of_name(std::string_view name) { return by_name(kNames, name); }
std::string_view name_of_dtype(ScalarType dtype) { return by_dtype(kNames, dtype); }
std::optional<ScalarType> dtype_of_storage_class(std::string_view name) { return by_name(kStorages, name); }
std::string_view storage_class_of_dtype(ScalarType dtype) { return by_dtype(kStorages, dtype); }
std::optional<ScalarType> dtype_of_numpy(std::string_view name) { return by_name(kNumpy, name); }

std::size_t swap_unit(ScalarType dtype) {
  return c10::isComplexType(dtype) ? c10::elementSize(dtype) / 2 : c10::elementSize(dtype);
}

}  // namespace treadle
