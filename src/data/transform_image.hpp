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

/// Replaces the boxes of a sample, if it has any, by what `move` makes of the columns x0, y0, x1, y1.
template <class Move>
void move_boxes(Sample& sample, const std::string& field, const Move& move) {
  const Value* value = sample.find(field);
  if (!value) return;
  if (!value->is(Value::Type::tensor) || value->as_tensor().dim() != 2 || value->as_tensor().size(1) != 4) {
    throw FormatError(fmt::format("the field \"{}\" must be a tensor of shape (N, 4), found {}", field, describe(*value)));
  }
  const at::Tensor& boxes = value->as_tensor();
  const at::Tensor corners = boxes.is_floating_point() ? boxes : boxes.to(at::kFloat);
  std::vector<at::Tensor> columns;
  for (std::int64_t i = 0; i < 4; ++i) columns.push_back(corners.select(1, i));
  move(columns);
  sample.set(field, at::stack(columns, 1));
}

}  // namespace treadle
