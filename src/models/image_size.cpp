#include <models/image_size.hpp>
#include <treadle/base/errors.hpp>

#include <fmt/format.h>

namespace treadle {

void throw_wrong_size(const at::Tensor& image, std::int64_t expected) {
  throw FormatError(fmt::format("the images have {} x {} pixels, but the network was built for {} x {} (image_size)",
                                image.size(2), image.size(3), expected, expected));
}

}  // namespace treadle
