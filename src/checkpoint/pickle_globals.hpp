#pragma once

#include <c10/core/ScalarType.h>

#include <optional>
#include <string>
#include <string_view>

namespace treadle {

/// The classes and functions of Python that a pickle may refer to. None is ever called: the reader knows what each would make.
enum class Global : std::uint8_t {
  ordered_dict,
  default_dict,
  counter,
  factory,
  size,
  device,
  set,
  frozen_set,
  byte_array,
  bytes,
  complex,
  encode,
  dtype,
  storage,
  untyped_storage,
  rebuild_tensor,
  rebuild_tensor_v2,
  rebuild_tensor_v3,
  rebuild_parameter,
  rebuild_parameter_with_state,
  rebuild_sparse,
  rebuild_quantized,
  rebuild_from_type,
  tensor_class,
  per_tensor_affine,
  per_channel_affine,
  per_channel_float,
  get_layout,
  numpy_reconstruct,
  numpy_array,
  numpy_dtype,
  numpy_scalar,
  numpy_from_buffer
};

struct KnownGlobal {
  Global global;
  std::uint64_t detail = 0;  // the dtype of a storage class or dtype; of the others what `qualified_name` asks for
};

/// The entry for `module.name`, or nothing.
std::optional<KnownGlobal> find_global(std::string_view module, std::string_view name);

/// The name of a known global for messages.
std::string_view to_string(Global global) noexcept;

/// "collections.OrderedDict", as Python 3 calls a global that is neither storage class nor dtype; `detail` is that of its
/// KnownGlobal.
std::string qualified_name(std::uint64_t detail);

}  // namespace treadle
