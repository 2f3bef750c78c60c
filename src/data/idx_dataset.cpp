#include <treadle/base/errors.hpp>
#include <treadle/data/idx_dataset.hpp>

#include <ATen/ops/empty.h>
#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>

#include "data/index_check.hpp"

namespace treadle {

namespace {

/// The uncompressed bytes of a file that may be compressed.
class GzReader {
 public:
  GzReader(const std::filesystem::path& path, const std::string& advice) : path_(path) {
    errno = 0;
    file_ = gzopen(path.c_str(), "rb");
    if (!file_) throw IoError("open", path, errno ? errno : ENOMEM, errno == ENOENT ? advice : std::string());
    gzbuffer(file_, 256 * 1024);
  }
  ~GzReader() { gzclose_r(file_); }
  GzReader(const GzReader&) = delete;
  GzReader& operator=(const GzReader&) = delete;

  std::uint64_t offset() const { return offset_; }

  /// Reads up to `count` bytes; fewer only at the end of the file.
  std::size_t read(void* to, std::size_t count) {
    std::size_t done = 0;
    while (done < count) {
      const auto wanted = static_cast<unsigned>(std::min<std::size_t>(count - done, 1U << 30));
      const int got = gzread(file_, static_cast<char*>(to) + done, wanted);
      if (got < 0) fail_reading();
      if (got == 0) break;
      done += static_cast<std::size_t>(got);
      offset_ += static_cast<std::uint64_t>(got);
    }
    return done;
  }

  /// Throws FormatError when the compressed stream stopped before its own end.
  void check_complete() {
    int code = Z_OK;
    gzerror(file_, &code);
    if (code != Z_OK && code != Z_STREAM_END) fail_reading();
  }

  [[noreturn]] void fail(const std::string& problem) const { throw FormatError(problem, path_, offset_); }
  [[noreturn]] void fail_at(std::uint64_t offset, const std::string& problem) const { throw FormatError(problem, path_, offset); }

 private:
  [[noreturn]] void fail_reading() {
    int code = Z_OK;
    const char* text = gzerror(file_, &code);
    if (code == Z_ERRNO) throw IoError("read", path_, errno);
    fail(code == Z_BUF_ERROR ? std::string("the compressed file is cut off")
                             : fmt::format("the compressed data is damaged ({})", text));
  }

  std::filesystem::path path_;
  gzFile file_;
  std::uint64_t offset_ = 0;
};

std::uint32_t big_endian(const std::uint8_t* bytes) {
  return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 | std::uint32_t{bytes[2]} << 8 | std::uint32_t{bytes[3]};
}

std::vector<std::int64_t> read_header(GzReader& reader) {
  std::array<std::uint8_t, 4> magic{};
  if (reader.read(magic.data(), magic.size()) < magic.size())
    reader.fail("expected an IDX file, found its end in the first 4 bytes");
  constexpr int most_dimensions = 8;
  if (std::memcmp(magic.data(), "vers", magic.size()) == 0)
    reader.fail_at(0, "expected an IDX file, found text like a Git LFS pointer's; run \"git lfs pull\"");
  if (magic[0] != 0 || magic[1] != 0 || magic[2] != 8 || magic[3] == 0 || magic[3] > most_dimensions) {
    reader.fail_at(
        0,
        fmt::format(
            "expected an IDX file of unsigned bytes (00 00 08 and the number of dimensions), found {:02x} {:02x} {:02x} {:02x}",
            magic[0], magic[1], magic[2], magic[3]));
  }
  std::vector<std::int64_t> shape;
  for (int i = 0; i < magic[3]; ++i) {
    std::array<std::uint8_t, 4> size{};
    if (reader.read(size.data(), size.size()) < size.size()) reader.fail("the file is cut off in the list of dimensions");
    shape.push_back(big_endian(size.data()));
  }
  return shape;
}

std::uint64_t count_elements(const std::vector<std::int64_t>& shape, const GzReader& reader) {
  std::uint64_t count = 1;
  for (std::int64_t size : shape) {
    const auto factor = static_cast<std::uint64_t>(size);
    if (factor != 0 && count > std::numeric_limits<std::int64_t>::max() / factor)
      reader.fail("the dimensions are impossibly large");
    count *= factor;
  }
  return count;
}

// Grows as the bytes arrive, so that a header which lies cannot take more memory than a small multiple of the real content.
std::vector<std::uint8_t> read_elements(GzReader& reader, std::uint64_t count) {
  constexpr std::uint64_t chunk = 64 << 20;
  std::vector<std::uint8_t> bytes;
  while (bytes.size() < count) {
    const std::size_t begin = bytes.size();
    bytes.resize(begin + std::min(chunk, count - begin));
    const std::size_t got = reader.read(bytes.data() + begin, bytes.size() - begin);
    if (begin + got < bytes.size()) {
      reader.check_complete();
      reader.fail(fmt::format("the file is cut off: {} elements follow from its dimensions, it holds {}", count, begin + got));
    }
  }
  return bytes;
}

}  // namespace

at::Tensor read_idx(const std::filesystem::path& path, const std::string& advice) {
  GzReader reader(path, advice);
  const std::vector<std::int64_t> shape = read_header(reader);
  const std::vector<std::uint8_t> bytes = read_elements(reader, count_elements(shape, reader));
  const std::uint64_t end = reader.offset();
  // Reading on to the end also makes zlib compare the checksum.
  std::uint8_t extra = 0;
  if (reader.read(&extra, 1) != 0) throw FormatError("the file goes on after its last element", path, end);
  reader.check_complete();
  at::Tensor tensor = at::empty(shape, at::kByte);
  if (!bytes.empty()) std::memcpy(tensor.mutable_data_ptr(), bytes.data(), bytes.size());
  return tensor;
}

void validate(const IdxOptions& options) {
  if (options.images.empty()) throw ConfigError("IdxOptions.images must name a file", "IdxOptions.images");
  if (options.labels.empty()) throw ConfigError("IdxOptions.labels must name a file", "IdxOptions.labels");
  if (options.num_classes < 0 || options.num_classes > 256) {
    throw ConfigError(fmt::format("IdxOptions.num_classes must be in [0, 256], found {}", options.num_classes),
                      "IdxOptions.num_classes");
  }
}

IdxDataset::IdxDataset(const IdxOptions& options) {
  validate(options);
  const std::string advice =
      options.package_hint.empty() ? "" : fmt::format("install the Debian package {}, which holds it", options.package_hint);
  images_ = read_idx(options.images, advice);
  labels_ = read_idx(options.labels, advice);
  if (images_.dim() != 3)
    throw FormatError(fmt::format("expected images with 3 dimensions, found {}", images_.dim()), options.images, 3);
  if (labels_.dim() != 1)
    throw FormatError(fmt::format("expected labels with 1 dimension, found {}", labels_.dim()), options.labels, 3);
  if (images_.size(0) != labels_.size(0)) {
    throw FormatError(
        fmt::format("it holds {} labels, but \"{}\" holds {} images", labels_.size(0), options.images.string(), images_.size(0)),
        options.labels, 4);
  }
  if (options.num_classes == 0) return;
  constexpr std::uint64_t header = 8;
  const std::uint8_t* label = labels_.const_data_ptr<std::uint8_t>();
  for (std::int64_t i = 0; i < labels_.size(0); ++i) {
    if (label[i] < options.num_classes) continue;
    throw FormatError(fmt::format("label {} is {}, out of [0, {})", i, label[i], options.num_classes), options.labels,
                      header + static_cast<std::uint64_t>(i));
  }
}

std::int64_t IdxDataset::size() const { return images_.size(0); }

Sample IdxDataset::get(std::int64_t index, Rng&) const {
  check_index(index, size());
  at::Tensor image = at::empty({1, images_.size(1), images_.size(2)}, at::kByte);
  const std::size_t bytes = image.nbytes();
  if (bytes != 0)
    std::memcpy(image.mutable_data_ptr(), images_.const_data_ptr<std::uint8_t>() + static_cast<std::size_t>(index) * bytes,
                bytes);
  return {{"image", std::move(image)}, {"label", labels_.const_data_ptr<std::uint8_t>()[index]}};
}

std::optional<Dict> IdxDataset::get_batch(std::span<const std::int64_t> indices, BatchMemory* memory) const {
  const auto count = static_cast<std::int64_t>(indices.size());
  const std::int64_t height = images_.size(1), width = images_.size(2);
  const auto bytes = static_cast<std::size_t>(height * width);
  at::Tensor images = empty_in(memory, {count, 1, height, width}, at::kByte);
  at::Tensor labels = at::empty({count}, at::kLong);
  auto* image = images.mutable_data_ptr<std::uint8_t>();
  auto* label = labels.mutable_data_ptr<std::int64_t>();
  for (std::int64_t index : indices) {
    check_index(index, size());
    if (bytes != 0) std::memcpy(image, images_.const_data_ptr<std::uint8_t>() + static_cast<std::size_t>(index) * bytes, bytes);
    *label++ = labels_.const_data_ptr<std::uint8_t>()[index];
    image += bytes;
  }
  return Dict{{"image", images}, {"label", labels}};
}

std::optional<std::int64_t> IdxDataset::label(std::int64_t index) const {
  check_index(index, size());
  return labels_.const_data_ptr<std::uint8_t>()[index];
}

std::optional<ImageSize> IdxDataset::image_size(std::int64_t index) const {
  check_index(index, size());
  return ImageSize{images_.size(1), images_.size(2)};
}

}  // namespace treadle
