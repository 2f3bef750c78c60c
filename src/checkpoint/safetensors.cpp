#include "checkpoint/archive.hpp"
#include "checkpoint/safetensors_format.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/checkpoint/file_system.hpp>
#include <treadle/checkpoint/safetensors.hpp>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

namespace treadle {

namespace {

struct Part {
  std::string name;
  at::Tensor tensor;
  std::uint64_t begin = 0;
};

std::vector<Part> parts_of(const Dict& tensors) {
  std::vector<Part> parts;
  for (const auto& [key, value] : tensors) {
    const std::string name = key.is_string() ? key.string() : key.to_string();
    if (!key.is_string() || !value.is(Value::Type::tensor)) {
      throw FormatError(fmt::format("a safetensors file holds tensors by name: \"{}\" is a {}", name, to_string(value.type())));
    }
    const at::Tensor& tensor = value.as_tensor();
    if (tensor.layout() != c10::kStrided || tensor.is_meta() || safetensors_dtype(tensor.scalar_type()).empty()) {
      throw FormatError(fmt::format("a safetensors file cannot hold \"{}\", a tensor of dtype {}, layout number {}, on {}", name,
                                    c10::toString(tensor.scalar_type()), static_cast<int>(tensor.layout()),
                                    tensor.device().str()));
    }
    if (name == "__metadata__") throw FormatError("a safetensors file cannot hold a tensor named \"__metadata__\"");
    parts.push_back({name, tensor});
  }
  return parts;
}

/// The largest elements first, so that each tensor starts at a multiple of its element's size.
std::vector<Part*> placed(std::vector<Part>& parts) {
  std::vector<Part*> order;
  for (Part& part : parts) order.push_back(&part);
  std::stable_sort(order.begin(), order.end(),
                   [](const Part* a, const Part* b) { return a->tensor.element_size() > b->tensor.element_size(); });
  std::uint64_t at = 0;
  for (Part* part : order) part->begin = std::exchange(at, at + part->tensor.nbytes());
  return order;
}

std::string header_of(const std::vector<Part>& parts) {
  nlohmann::ordered_json header = {{"__metadata__", {{"format", "pt"}}}};
  for (const Part& part : parts) {
    header[part.name] = {{"dtype", safetensors_dtype(part.tensor.scalar_type())},
                         {"shape", part.tensor.sizes().vec()},
                         {"data_offsets", {part.begin, part.begin + part.tensor.nbytes()}}};
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception&) {
    throw FormatError("a tensor's name that is not UTF-8 cannot be saved");
  }
  return text.append((8 - text.size() % 8) % 8, ' ');
}

/// The tensor of `entry` over `content`; without one it lies on the meta device.
at::Tensor tensor_of(const SafeTensor& entry, const c10::Storage& content, const std::filesystem::path& path) {
  const auto options = at::TensorOptions().dtype(entry.dtype);
  std::vector<std::int64_t> strides(entry.shape.size(), 1);
  for (std::size_t i = strides.size(); i-- > 1;) strides[i - 1] = strides[i] * std::max<std::int64_t>(entry.shape[i], 1);
  try {
    if (!content) return at::empty(entry.shape, options.device(c10::kMeta));
    return at::empty({0}, options).set_(content, 0, entry.shape, strides);
  } catch (const c10::Error& error) {
    // No memory is taken here, of which there may be too little for a good file.
    throw FormatError(fmt::format("tensor \"{}\" cannot be made: {}", entry.name.substr(0, 100), error.what_without_backtrace()),
                      path, kSafetensorsPrefix);
  }
}

}  // namespace

Dict read_safetensors(const ReadableFile& file, const std::filesystem::path& path, std::uint64_t max_header, bool read_tensors) {
  std::uint64_t length = 0;
  if (file.size() < kSafetensorsPrefix) throw FormatError("the file ends within its first 8 bytes", path, file.size());
  file.read(0, std::as_writable_bytes(std::span(&length, 1)));
  if (length > file.size() - kSafetensorsPrefix) {
    throw FormatError(fmt::format("a header of {} bytes is announced, but the file is shorter", length), path, 0);
  }
  if (length > max_header) throw FormatError(fmt::format("a header of {} bytes; {} are allowed", length, max_header), path, 0);
  std::string header(length, '\0');
  file.read(kSafetensorsPrefix, std::as_writable_bytes(std::span(header)));
  const std::uint64_t data = kSafetensorsPrefix + length;
  Dict tensors;
  for (const SafeTensor& entry : parse_safetensors_header(header, file.size() - data, path)) {
    c10::Storage content;
    if (read_tensors) content = allocate_storage(entry.end - entry.begin);
    if (read_tensors && entry.end > entry.begin) file.read(data + entry.begin, bytes_of(content));
    tensors.set(entry.name, tensor_of(entry, content, path));
  }
  return tensors;
}

Dict load_safetensors_file(const std::filesystem::path& path, const LoadOptions& options) {
  validate(options);
  auto files = options.file_system ? options.file_system : local_file_system();
  return read_safetensors(*files->open(path), path, options.max_pickle_bytes, options.read_tensors);
}

void save_safetensors_file(const std::filesystem::path& path, const Dict& tensors, const SaveOptions& options) {
  std::vector<Part> parts = parts_of(tensors);
  const std::vector<Part*> order = placed(parts);
  const std::string header = header_of(parts);
  auto files = options.file_system ? options.file_system : local_file_system();
  commit_file(*files, path, options.durable, [&](WritableFile& file) {
    const std::uint64_t length = header.size();
    file.write(std::as_bytes(std::span(&length, 1)));
    file.write(std::as_bytes(std::span(header)));
    for (const Part* part : order) {
      const at::Tensor plain = part->tensor.detach().resolve_conj().resolve_neg().cpu().contiguous();
      if (plain.nbytes() > 0) file.write({static_cast<const std::byte*>(plain.const_data_ptr()), plain.nbytes()});
    }
  });
}

}  // namespace treadle
