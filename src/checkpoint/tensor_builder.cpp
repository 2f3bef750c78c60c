#include "checkpoint/tensor_builder.hpp"

#include "checkpoint/dtype_names.hpp"
#include "checkpoint/text_encoding.hpp"
#include "checkpoint/torch_version.hpp"
#include "checkpoint/unpickler.hpp"

#include <ATen/ops/_empty_affine_quantized.h>
#include <ATen/ops/_empty_per_channel_affine_quantized.h>
#include <ATen/ops/_sparse_coo_tensor_unsafe.h>
#include <ATen/ops/_validate_sparse_coo_tensor_args.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <limits>

namespace treadle {

static_assert(std::endian::native == std::endian::little, "tensors are read into memory as they stand in the file");

namespace {

// What LibTorch's kernels can walk over.
constexpr std::size_t kMaxRank = 64;
// A TensorImpl with its storage's bookkeeping, about, and what each dimension takes there and in a Geometry.
constexpr std::uint64_t kTensorHeap = 480;
constexpr std::uint64_t kDimensionHeap = 48;
constexpr std::uint64_t kPlaceholderHeap = 64;

bool multiply(std::uint64_t a, std::uint64_t b, std::uint64_t& product) { return !__builtin_mul_overflow(a, b, &product); }
bool add(std::uint64_t a, std::uint64_t b, std::uint64_t& sum) { return !__builtin_add_overflow(a, b, &sum); }

/// What `make` returns; what LibTorch refuses to make is a fault of the file. Memory for contents is taken outside of it: there
/// may be too little for a good file.
template <class Make>
at::Tensor accepted(const ByteSource& source, std::uint64_t position, const Make& make) {
  try {
    return make();
  } catch (const c10::Error& error) {
    source.fail(fmt::format("a tensor that cannot be made: {}", error.what_without_backtrace()), position);
  }
}

}  // namespace

void reverse_bytes(void* data, std::size_t nbytes, std::size_t unit) noexcept {
  if (unit < 2) return;
  auto* bytes = static_cast<unsigned char*>(data);
  for (std::size_t i = 0; i + unit <= nbytes; i += unit) std::reverse(bytes + i, bytes + i + unit);
}

TensorBuilder::TensorBuilder(PickleGraph& graph, const ByteSource& source, StorageReader* storages,
                             const ConversionOptions& options)
    : graph_(graph), source_(source), storages_(storages), options_(options), array_bytes_left_(source.limit()) {
  graph_.charge(8 * (graph.tensors.size() + graph.arrays.size() + graph.storages.size()));
  tensors_.resize(graph.tensors.size());
  arrays_.resize(graph.arrays.size());
  storage_cache_.resize(graph.storages.size());
}

std::vector<std::int64_t> TensorBuilder::numbers(NodeId tuple, const char* what, std::uint64_t position) const {
  if (graph_.count(tuple) > kMaxRank) fail(fmt::format("a tensor of more than {} dimensions", kMaxRank), position);
  std::vector<std::int64_t> values;
  for (NodeId item : graph_.items(tuple)) {
    const Node& node = graph_[item];
    if (node.kind != NodeKind::integer) fail(fmt::format("a {} of a tensor is no integer of 64 bits", what), position);
    values.push_back(static_cast<std::int64_t>(node.wide));
    if (values.back() < 0) fail(fmt::format("a {} of a tensor is negative", what), position);
  }
  return values;
}

void TensorBuilder::check_extent(Geometry& geometry, std::uint64_t position) const {
  bool empty = std::find(geometry.sizes.begin(), geometry.sizes.end(), 0) != geometry.sizes.end();
  bool fits = true;
  std::uint64_t last = 0;
  for (std::size_t i = 0; i < geometry.sizes.size(); ++i) {
    auto size = static_cast<std::uint64_t>(geometry.sizes[i]);
    std::uint64_t step = 0;
    fits = fits && multiply(geometry.count, std::max<std::uint64_t>(size, 1), geometry.count);
    if (!empty) fits = fits && multiply(size - 1, static_cast<std::uint64_t>(geometry.strides[i]), step) && add(last, step, last);
  }
  if (!fits || geometry.count > (std::uint64_t{1} << 60) || last > (std::uint64_t{1} << 60)) {
    fail("the sizes and strides of a tensor exceed any memory", position);
  }
  if (empty) geometry.count = 0;
  geometry.reach = empty ? 0 : last + 1;
}

at::Tensor TensorBuilder::tensor(std::uint64_t number) {
  at::Tensor& cached = tensors_[number];
  if (!cached.defined()) {
    graph_.charge(kTensorHeap + kDimensionHeap * graph_.count(graph_.tensors[number].sizes));
    if (options_.placeholders) graph_.charge(kPlaceholderHeap);
    cached = build(graph_.tensors[number], options_.read_tensors && !options_.placeholders);
    if (options_.placeholders) options_.placeholders->emplace(cached.unsafeGetTensorImpl(), number);
  }
  return cached;
}

at::Tensor TensorBuilder::build(const TensorSpec& spec, bool with_data) {
  Geometry geometry{.sizes = numbers(spec.sizes, "size", spec.position),
                    .strides = numbers(spec.strides, "stride", spec.position)};
  if (geometry.sizes.size() != geometry.strides.size()) fail("a tensor has not as many strides as sizes", spec.position);
  check_extent(geometry, spec.position);
  const StorageView& view = graph_.views[spec.view];
  std::uint64_t size = c10::elementSize(spec.dtype);
  std::uint64_t available = view.nbytes / size;
  const std::uint64_t first = view.first_byte / size;
  if (spec.offset < 0) fail("the offset of a tensor is negative", spec.position);
  auto offset = static_cast<std::uint64_t>(spec.offset);
  // A view without elements may begin behind the end, as a slice of an empty tensor does; it refers to nothing.
  const bool nothing = geometry.reach == 0 && offset <= std::numeric_limits<std::int64_t>::max() / size - first;
  if (!nothing && (offset > available || geometry.reach > available - offset)) {
    fail(fmt::format("a tensor reaches to element {} of a storage that has {}", offset + geometry.reach, available),
         spec.position);
  }
  std::uint64_t nbytes = 0;
  if (!multiply(geometry.count, size, nbytes)) fail("the sizes of a tensor exceed any memory", spec.position);
  if (nbytes > options_.file_size && !options_.allow_expanded) {
    fail(fmt::format("a tensor stands for {} bytes in a file of {}; load it with allow_expanded if that is intended", nbytes,
                     options_.file_size),
         spec.position);
  }
  auto options = at::TensorOptions().dtype(spec.dtype);
  // There is no quantized meta tensor: the whole numbers stand for it.
  if (!with_data) {
    const auto meta = options.dtype(c10::toUnderlying(spec.dtype)).device(c10::kMeta);
    return accepted(source_, spec.position, [&] { return at::empty_strided(geometry.sizes, geometry.strides, meta); });
  }
  if (view.first_byte % size != 0) fail("a tensor starts within an element of its storage", spec.position);
  if (spec.conjugate && !c10::isComplexType(spec.dtype)) fail("a conjugate tensor of a dtype that is not complex", spec.position);
  auto result = spec.quantizer == kNotQuantized ? at::empty({0}, options) : quantized_shell(spec, geometry.sizes);
  const c10::Storage& content = storage(view.storage);
  return accepted(source_, spec.position, [&] {
    result.set_(content, static_cast<std::int64_t>(offset + first), geometry.sizes, geometry.strides);
    if (spec.conjugate) result._set_conj(true);
    if (spec.negative) result._set_neg(true);
    return result;
  });
}

/// A quantized tensor without elements, of as many dimensions as `sizes` has.
at::Tensor TensorBuilder::quantized_shell(const TensorSpec& spec, const std::vector<std::int64_t>& sizes) {
  const QuantizerSpec& quantizer = graph_.quantizers[spec.quantizer];
  const std::vector<std::int64_t> empty(std::max<std::size_t>(sizes.size(), 1), 0);
  const auto options = at::TensorOptions().dtype(spec.dtype);
  try {
    if (!quantizer.per_channel) return at::_empty_affine_quantized(empty, options, quantizer.scale, quantizer.zero_point);
    if (quantizer.axis < 0 || quantizer.axis >= std::ssize(sizes)) {
      fail(fmt::format("the axis {} of a quantized tensor of {} dimensions", quantizer.axis, sizes.size()), spec.position);
    }
    const std::int64_t channels = sizes[static_cast<std::size_t>(quantizer.axis)];
    const at::Tensor scales = channel_numbers(quantizer.scales, channels, "scales", spec.position);
    const at::Tensor zero_points = channel_numbers(quantizer.zero_points, channels, "zero points", spec.position);
    if (!scales.is_floating_point()) fail("the scales of a quantized tensor are no floats", spec.position);
    // Whole zero points go with scales of 64 bits, others with 32.
    const bool whole = zero_points.scalar_type() == at::kLong && scales.scalar_type() == at::kDouble;
    const bool other = zero_points.scalar_type() == at::kFloat && scales.scalar_type() == at::kFloat;
    if (!whole && !other) fail("the scales and zero points of a quantized tensor have strange dtypes", spec.position);
    return at::_empty_per_channel_affine_quantized(empty, scales, zero_points, quantizer.axis, options);
  } catch (const c10::Error& error) {
    fail(fmt::format("a quantized tensor does not fit together: {}", error.what_without_backtrace()), spec.position);
  }
}

at::Tensor TensorBuilder::channel_numbers(NodeId node, std::int64_t count, const char* what, std::uint64_t position) {
  const TensorSpec& spec = graph_.tensors[graph_[node].wide];
  if (spec.quantizer != kNotQuantized) fail(fmt::format("the {} of a quantized tensor are quantized", what), position);
  at::Tensor numbers = part(node);
  if (numbers.dim() != 1 || numbers.numel() != count) {
    fail(fmt::format("a quantized tensor with {} channels and {} {}", count, numbers.numel(), what), position);
  }
  return numbers.contiguous();
}

const c10::Storage& TensorBuilder::storage(std::uint32_t number) {
  c10::Storage& cached = storage_cache_[number];
  if (!cached) {
    graph_.charge(kTensorHeap);
    cached = storages_->read(number);
  }
  return cached;
}

/// A tensor that a sparse or quantized one is made of.
at::Tensor TensorBuilder::part(NodeId node) {
  if (!options_.placeholders) return tensor(graph_[node].wide);
  const TensorSpec& spec = graph_.tensors[graph_[node].wide];
  graph_.charge(kTensorHeap + kDimensionHeap * graph_.count(spec.sizes));
  return build(spec, true);
}

at::Tensor TensorBuilder::sparse(NodeId node) {
  auto parts = graph_.items(node);
  auto indices = part(parts[0]);
  auto values = part(parts[1]);
  std::uint64_t position = graph_.tensors[graph_[parts[0]].wide].position;
  Geometry geometry{.sizes = numbers(parts[2], "size", position), .strides = {}};
  geometry.strides.assign(geometry.sizes.size(), 0);
  check_extent(geometry, position);
  if (!options_.read_tensors)
    return accepted(source_, position, [&] { return at::empty(geometry.sizes, values.options().device(c10::kMeta)); });
  std::optional<bool> coalesced;
  if (parts.size() == 4) coalesced = graph_[parts[3]].wide != 0;
  try {
    at::_validate_sparse_coo_tensor_args(indices, values, geometry.sizes, coalesced);
    return at::_sparse_coo_tensor_unsafe(indices, values, geometry.sizes, {}, {}, {}, {}, coalesced);
  } catch (const c10::Error& error) {
    fail(fmt::format("a sparse tensor does not fit together: {}", error.what_without_backtrace()), position);
  }
}

Value TensorBuilder::array(std::uint64_t number) {
  const ArraySpec& spec = graph_.arrays[number];
  at::Tensor& cached = arrays_[number];
  if (!cached.defined()) {
    if (!spec.built) fail("a numpy array without content", spec.position);
    graph_.charge(kTensorHeap + kDimensionHeap * graph_.count(spec.shape));
    cached = array_tensor(spec);
  }
  return spec.scalar ? scalar(cached) : Value(cached);
}

at::Tensor TensorBuilder::array_tensor(const ArraySpec& spec) {
  Geometry geometry{.sizes = numbers(spec.shape, "size", spec.position), .strides = {}};
  geometry.strides.resize(geometry.sizes.size());
  std::int64_t step = 1;
  bool fits = true;
  for (std::size_t k = 0; k < geometry.sizes.size(); ++k) {
    std::size_t i = spec.fortran ? k : geometry.sizes.size() - 1 - k;
    geometry.strides[i] = step;
    fits = fits && !__builtin_mul_overflow(step, std::max<std::int64_t>(geometry.sizes[i], 1), &step);
  }
  if (!fits) fail("the shape of a numpy array exceeds any memory", spec.position);
  check_extent(geometry, spec.position);

  const Node& data = graph_[spec.data];
  bool owned = data.form == TextForm::owned;
  std::string_view stored =
      owned ? std::string_view(graph_.strings[data.wide]) : source_.read_so_far().substr(data.wide, data.small);
  // Text of Python 2 is bytes; text of Python 3 that stands for bytes was marked by its encoding.
  bool decode = data.form == TextForm::narrow;
  if (data.kind == NodeKind::text && data.form != TextForm::latin1) fail("the content of a numpy array is text", spec.position);
  std::uint64_t nbytes = decode ? *narrow_length(stored) : stored.size();
  std::uint64_t size = c10::elementSize(spec.type.dtype), wanted = 0;
  if (!multiply(geometry.count, size, wanted) || wanted != nbytes) {
    fail(fmt::format("a numpy array of {} elements of {} bytes has a content of {} bytes", geometry.count, size, nbytes),
         spec.position);
  }
  auto options = at::TensorOptions().dtype(spec.type.dtype);
  auto permuted = [&](const at::Tensor& array) { return spec.axes == kNoNode ? array : array.permute(permutation(spec)); };
  if (!options_.read_tensors && !spec.scalar)
    return permuted(at::empty_strided(geometry.sizes, geometry.strides, options.device(c10::kMeta)));
  if (nbytes > array_bytes_left_) fail("the numpy arrays hold more bytes than the file", spec.position);
  array_bytes_left_ -= nbytes;
  auto result = at::empty_strided(geometry.sizes, geometry.strides, options);
  auto* out = static_cast<char*>(result.mutable_data_ptr());
  if (nbytes > 0 && decode) narrow(stored, out);
  if (nbytes > 0 && !decode) std::memcpy(out, stored.data(), nbytes);
  if (spec.type.swapped) reverse_bytes(out, nbytes, swap_unit(spec.type.dtype));
  if (spec.type.dtype == c10::ScalarType::Bool) {
    for (std::uint64_t i = 0; i < nbytes; ++i) out[i] = out[i] != 0;
  }
  return permuted(result);
}

std::vector<std::int64_t> TensorBuilder::permutation(const ArraySpec& spec) const {
  auto axes = numbers(spec.axes, "axis", spec.position);
  std::vector<bool> seen(graph_.count(spec.shape), false);
  bool valid = axes.size() == seen.size();
  for (std::int64_t axis : axes) {
    valid = valid && static_cast<std::size_t>(axis) < seen.size() && !seen[static_cast<std::size_t>(axis)];
    if (valid) seen[static_cast<std::size_t>(axis)] = true;
  }
  if (!valid) fail("the axes of a numpy array are no permutation", spec.position);
  return axes;
}

Value TensorBuilder::scalar(const at::Tensor& tensor) const {
  auto dtype = tensor.scalar_type();
  if (dtype == c10::ScalarType::Bool) return tensor.item().toBool();
#if TREADLE_TORCH_AT_LEAST(2, 3)
  if (dtype == c10::ScalarType::UInt64) {
    auto value = *static_cast<const std::uint64_t*>(tensor.const_data_ptr());
    return std::in_range<std::int64_t>(value) ? Value(value) : Value(std::to_string(value));
  }
#endif
  if (c10::isIntegralType(dtype, false)) return tensor.item().toLong();
  if (c10::isFloatingType(dtype)) return tensor.item().toDouble();
  auto value = tensor.item().toComplexDouble();
  return Tuple{value.real(), value.imag()};
}

}  // namespace treadle
