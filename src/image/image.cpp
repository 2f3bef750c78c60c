#include <treadle/base/errors.hpp>
#include <treadle/base/value.hpp>
#include <treadle/image/image.hpp>

#include <ATen/ops/empty.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "image/codecs.hpp"

namespace treadle {

Image::Image() : pixels_(at::empty({0, 0, 3}, at::kByte)) {}

Image::Image(at::Tensor pixels) {
  const bool good = pixels.defined() && pixels.scalar_type() == at::kByte && pixels.dim() == 3 && pixels.device().is_cpu() &&
                    (pixels.size(2) == 1 || pixels.size(2) == 3 || pixels.size(2) == 4);
  if (!good) {
    throw FormatError(
        fmt::format("an Image needs a uint8 tensor of shape (height, width, 1, 3 or 4) on the CPU, found {}", describe(pixels)));
  }
  pixels_ = pixels.contiguous();
}

Image::Image(std::int64_t height, std::int64_t width, std::initializer_list<std::uint8_t> colour)
    : Image(at::empty({height, width, static_cast<std::int64_t>(colour.size())}, at::kByte)) {
  auto* to = pixels_.mutable_data_ptr<std::uint8_t>();
  for (std::int64_t i = 0; i < height * width; ++i) to = std::copy(colour.begin(), colour.end(), to);
}

std::uint8_t* Image::at(std::int64_t row, std::int64_t column) {
  return pixels_.mutable_data_ptr<std::uint8_t>() + (row * width() + column) * channels();
}

const std::uint8_t* Image::at(std::int64_t row, std::int64_t column) const {
  return pixels_.const_data_ptr<std::uint8_t>() + (row * width() + column) * channels();
}

void validate(const DecodeOptions& options) {
  if (options.max_pixels < 1) {
    throw ConfigError(fmt::format("DecodeOptions.max_pixels must be at least 1, found {}", options.max_pixels),
                      "DecodeOptions.max_pixels");
  }
  if (options.least_side < 0) {
    throw ConfigError(fmt::format("DecodeOptions.least_side must be at least 0, found {}", options.least_side),
                      "DecodeOptions.least_side");
  }
}

void check_image_size(std::uint64_t height, std::uint64_t width, const DecodeOptions& options,
                      const std::filesystem::path& source) {
  const auto most = static_cast<std::uint64_t>(options.max_pixels);
  if (height == 0 || width == 0 || height > most / width) {
    throw FormatError(
        fmt::format("the picture is said to have {} x {} pixels; between 1 and {} are allowed", height, width, most), source);
  }
}

Image make_image(std::uint64_t height, std::uint64_t width, int channels, const DecodeOptions& options,
                 const std::filesystem::path& source) {
  check_image_size(height, width, options, source);
  return Image(at::empty({static_cast<std::int64_t>(height), static_cast<std::int64_t>(width), channels}, at::kByte));
}

Image grey_of(const Image& rgb) {
  Image grey(at::empty({rgb.height(), rgb.width(), 1}, at::kByte));
  const std::uint8_t* from = rgb.pixels().const_data_ptr<std::uint8_t>();
  std::uint8_t* to = grey.at(0, 0);
  for (std::int64_t i = rgb.height() * rgb.width(); i > 0; --i, from += 3)
    *to++ = static_cast<std::uint8_t>((from[0] * 19595 + from[1] * 38470 + from[2] * 7471 + 0x8000) >> 16);
  return grey;
}

namespace {

enum class Format { png, jpeg };

Format format_of(std::string_view bytes, const std::filesystem::path& source) {
  using namespace std::string_view_literals;
  if (bytes.starts_with("\x89PNG\r\n\x1a\n"sv)) return Format::png;
  if (bytes.starts_with("\xff\xd8\xff"sv)) return Format::jpeg;
  throw FormatError(bytes.empty() ? "the file is empty" : "neither a PNG nor a JPEG file", source, 0);
}

}  // namespace

Image decode_image(std::string_view bytes, const DecodeOptions& options, const std::filesystem::path& source) {
  validate(options);
  return format_of(bytes, source) == Format::png ? decode_png(bytes, options, source) : decode_jpeg(bytes, options, source);
}

namespace {

/// Closes a file descriptor.
struct Descriptor {
  int number;
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
};

/// The first `most` bytes of a file, or all.
std::string read_file(const std::filesystem::path& path, std::size_t most = std::string::npos) {
  Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.number < 0) throw IoError("open", path, errno);
  std::string bytes;
  struct stat status{};
  // At once where the size is known; growing a string clears what it grows by.
  const std::size_t expected =
      ::fstat(file.number, &status) == 0 && status.st_size > 0 ? static_cast<std::size_t>(status.st_size) : 0;
  for (;;) {
    const std::size_t size = bytes.size();
    if (size >= most) return bytes;
    const std::size_t next = expected > size ? expected - size : 1 << 16;
    bytes.resize(size + std::min(next, most - size));
    const ssize_t got = ::read(file.number, bytes.data() + size, bytes.size() - size);
    if (got < 0 && errno != EINTR) throw IoError("read", path, errno);
    bytes.resize(size + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if (got == 0) return bytes;
  }
}

void write_file(const std::filesystem::path& path, const std::string& bytes) {
  Descriptor file{::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)};
  if (file.number < 0) throw IoError("create", path, errno);
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t wrote = ::write(file.number, bytes.data() + done, bytes.size() - done);
    if (wrote < 0 && errno != EINTR) throw IoError("write", path, errno);
    done += static_cast<std::size_t>(std::max<ssize_t>(wrote, 0));
  }
  const int number = std::exchange(file.number, -1);
  if (::close(number) != 0) throw IoError("close", path, errno);
}

}  // namespace

Image load_image(const std::filesystem::path& path, const DecodeOptions& options) {
  validate(options);
  return decode_image(read_file(path), options, path);
}

ImageSize read_image_size(const std::filesystem::path& path, std::int64_t max_pixels) {
  const DecodeOptions options{.max_pixels = max_pixels};
  validate(options);
  const auto size_of = [&](const std::string& bytes) {
    return format_of(bytes, path) == Format::png ? png_size(bytes, options, path) : jpeg_size(bytes, options, path);
  };
  constexpr std::size_t usual_head = 1 << 16;
  const std::string head = read_file(path, usual_head);
  try {
    return size_of(head);
  } catch (const FormatError&) {
    if (head.size() < usual_head) throw;
  }
  return size_of(read_file(path));
}

void save_png(const Image& image, const std::filesystem::path& path) {
  const std::string bytes = encode_png(image);
  std::filesystem::path temporary = path;
  temporary += fmt::format(".{}.tmp", ::getpid());
  std::error_code ignored;
  try {
    write_file(temporary, bytes);
  } catch (...) {
    std::filesystem::remove(temporary, ignored);
    throw;
  }
  if (std::rename(temporary.c_str(), path.c_str()) != 0) {
    const int error = errno;
    std::filesystem::remove(temporary, ignored);
    throw IoError("rename to", path, error);
  }
}

}  // namespace treadle
