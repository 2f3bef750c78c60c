#include "checkpoint/pickle_globals.hpp"

#include "checkpoint/dtype_names.hpp"

#include <iterator>

namespace treadle {

namespace {

struct Entry {
  std::string_view module;
  std::string_view name;
  Global global;
};

// Python 2 called the module of built-in names __builtin__, and numpy moved its core.
constexpr Entry kEntries[] = {
    {"collections", "OrderedDict", Global::ordered_dict},
    {"collections", "defaultdict", Global::default_dict},
    {"collections", "Counter", Global::counter},
    {"builtins", "set", Global::set},
    {"builtins", "frozenset", Global::frozen_set},
    {"builtins", "bytearray", Global::byte_array},
    {"builtins", "bytes", Global::bytes},
    {"builtins", "complex", Global::complex},
    {"builtins", "list", Global::factory},
    {"builtins", "dict", Global::factory},
    {"builtins", "tuple", Global::factory},
    {"builtins", "int", Global::factory},
    {"builtins", "bool", Global::factory},
    {"builtins", "float", Global::factory},
    {"builtins", "str", Global::factory},
    {"_codecs", "encode", Global::encode},
    {"torch", "Size", Global::size},
    {"torch", "device", Global::device},
    {"torch.storage", "UntypedStorage", Global::untyped_storage},
    {"torch", "UntypedStorage", Global::untyped_storage},
    {"torch._utils", "_rebuild_tensor", Global::rebuild_tensor},
    {"torch._utils", "_rebuild_tensor_v2", Global::rebuild_tensor_v2},
    {"torch._utils", "_rebuild_tensor_v3", Global::rebuild_tensor_v3},
    {"torch._utils", "_rebuild_parameter", Global::rebuild_parameter},
    {"torch._utils", "_rebuild_parameter_with_state", Global::rebuild_parameter_with_state},
    {"torch._utils", "_rebuild_sparse_tensor", Global::rebuild_sparse},
    {"torch._utils", "_rebuild_qtensor", Global::rebuild_quantized},
    {"torch._tensor", "_rebuild_from_type_v2", Global::rebuild_from_type},
    {"torch", "Tensor", Global::tensor_class},
    {"torch.nn.parameter", "Parameter", Global::tensor_class},
    {"torch", "per_tensor_affine", Global::per_tensor_affine},
    {"torch", "per_channel_affine", Global::per_channel_affine},
    {"torch", "per_channel_affine_float_qparams", Global::per_channel_float},
    {"torch.serialization", "_get_layout", Global::get_layout},
    {"numpy._core.multiarray", "_reconstruct", Global::numpy_reconstruct},
    {"numpy._core.multiarray", "scalar", Global::numpy_scalar},
    {"numpy._core.numeric", "_frombuffer", Global::numpy_from_buffer},
    {"numpy", "ndarray", Global::numpy_array},
    {"numpy", "dtype", Global::numpy_dtype},
};

std::string_view modern_name(std::string_view module, std::string_view name) {
  if (module != "__builtin__") return name;
  return name == "long" ? "int" : name == "unicode" ? "str" : name;
}

std::string_view modern_module(std::string_view module) {
  if (module == "__builtin__") return "builtins";
  if (module == "numpy.core.multiarray") return "numpy._core.multiarray";
  if (module == "numpy.core.numeric") return "numpy._core.numeric";
  return module;
}

}  // namespace

std::optional<KnownGlobal> find_global(std::string_view module, std::string_view name) {
  name = modern_name(module, name);
  module = modern_module(module);
  for (std::size_t i = 0; i < std::size(kEntries); ++i) {
    if (kEntries[i].module == module && kEntries[i].name == name) return KnownGlobal{kEntries[i].global, i};
  }
  if (module != "torch") return std::nullopt;
  const auto with_dtype = [](Global global, c10::ScalarType dtype) {
    return KnownGlobal{global, static_cast<std::uint64_t>(dtype)};
  };
  if (auto dtype = dtype_of_storage_class(name)) return with_dtype(Global::storage, *dtype);
  if (auto dtype = dtype_of_name(name)) return with_dtype(Global::dtype, *dtype);
  return std::nullopt;
}

std::string_view to_string(Global global) noexcept {
  for (const Entry& entry : kEntries) {
    if (entry.global == global) return entry.name;
  }
  return global == Global::dtype ? "dtype" : "storage class";
}

std::string qualified_name(std::uint64_t detail) {
  const Entry& entry = kEntries[detail];
  return std::string(entry.module) + "." + std::string(entry.name);
}

}  // namespace treadle
