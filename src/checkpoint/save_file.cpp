#include "checkpoint/pickle_writer.hpp"
#include "checkpoint/zip_writer.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/checkpoint/file_system.hpp>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

namespace treadle {

namespace {

/// The bytes of a storage in host memory; `kept` owns them when they had to be copied.
std::span<const std::byte> host_bytes(const c10::Storage& storage, at::Tensor& kept) {
  if (storage.nbytes() == 0) return {};
  if (storage.device().is_cpu()) return {static_cast<const std::byte*>(storage.data()), storage.nbytes()};
  auto bytes = at::empty({0}, at::TensorOptions().dtype(c10::kByte).device(storage.device()));
  bytes.set_(storage, 0, {static_cast<std::int64_t>(storage.nbytes())}, {1});
  kept = bytes.to(c10::kCPU);
  return {static_cast<const std::byte*>(kept.const_data_ptr()), storage.nbytes()};
}

}  // namespace

// The order of the records, and the small ones, are those of torch 2.13.
void save_checkpoint_file(const std::filesystem::path& path, const Value& value, const SaveOptions& options) {
  PickledValue pickled = pickle_value(value);
  auto files = options.file_system ? options.file_system : local_file_system();
  commit_file(*files, path, options.durable, [&](WritableFile& file) {
    ZipWriter zip(file);
    zip.add("archive/data.pkl", pickled.pickle);
    zip.add("archive/.format_version", "1");
    zip.add("archive/.storage_alignment", "64");
    zip.add("archive/byteorder", "little");
    for (std::size_t i = 0; i < pickled.storages.size(); ++i) {
      at::Tensor kept;
      zip.add("archive/data/" + std::to_string(i), host_bytes(pickled.storages[i], kept));
    }
    zip.add("archive/version", "3\n");
    zip.add("archive/.data/serialization_id", zip.fingerprint());
    zip.finish();
  });
}

}  // namespace treadle
