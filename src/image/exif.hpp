#pragma once

#include <treadle/image/image.hpp>

#include <string_view>

namespace treadle {

/// The orientation (1 to 8) in Exif data, which is a TIFF file: byte order, 42, and a directory of tags (Exif 2.32, 4.6.2). 1,
/// "as it is", when the data does not say or is damaged: a picture is worth more than its description.
int exif_orientation(std::string_view tiff);

/// True when height and width change places.
inline bool is_turned(int orientation) { return orientation >= 5; }

/// The picture as a viewer shall see it. `orientation` says at which side of that the first row and the first column of `image`
/// stand (Exif 2.32, tag 274): 1 top, left; 2 top, right; 3 bottom, right; 4 bottom, left; 5 left, top; 6 right, top;
/// 7 right, bottom; 8 left, bottom.
Image oriented(const Image& image, int orientation);

}  // namespace treadle
