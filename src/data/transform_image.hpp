#pragma once

#include <treadle/base/errors.hpp>
#include <treadle/data/transforms.hpp>

#include <ATen/ops/stack.h>
#include <fmt/format.h>

#include <string>
#include <vector>

namespace treadle {

/// The image of a sample, whatever its strides.
at::Tensor image_of(const Sample& sample, const std::string& field);

/// Throws a ConfigError of `key`, which must be in `range`, unless `good`.
void require_option(bool good, const char* key, const std::string& range, double found);

/// The boxes of a sample in the type they come out with, whatever becomes of them; undefined when it has none.
at::Tensor boxes_of(const Sample& sample, const std::string& field);

/// For a transform that leaves the image as it is.
Sample with_boxes_kept(Sample sample, const std::string& field);

/// Replaces the boxes of a sample, if it has any, by what `move` makes of the columns x0, y0, x1, y1.
template <class Move>
void move_boxes(Sample& sample, const std::string& field, const Move& move) {
  const at::Tensor boxes = boxes_of(sample, field);
  if (!boxes.defined()) return;
  std::vector<at::Tensor> columns;
  for (std::int64_t i = 0; i < 4; ++i) columns.push_back(boxes.select(1, i));
  move(columns);
  sample.set(field, at::stack(columns, 1));
}

}  // namespace treadle
