#pragma once

#include <treadle/base/value.hpp>

#include <c10/core/Device.h>

#include <string_view>
#include <vector>

namespace treadle {

/// One example of a data set: named fields, for instance "image" (a tensor) and "label" (an integer).
using Sample = Dict;

/// What a loader hands to a model: named fields, each holding all samples of the batch. Equal-shaped fields are one tensor whose
/// first dimension is the batch; ragged ones are a List with an element per sample. A value type; copies share tensors.
class Batch {
 public:
  Batch() = default;
  /// `ids[i]` is the index of sample i in its data set. The size is the number of ids, so 0 when there are none; the fields are
  /// not compared with it.
  Batch(Dict fields, std::vector<std::int64_t> ids);
  /// Without ids: the size is that of the first field. Throws FormatError when that is neither a tensor with a dimension nor a
  /// List.
  explicit Batch(Dict fields);

  std::int64_t size() const noexcept { return size_; }
  /// Empty when the batch was made without ids.
  const std::vector<std::int64_t>& ids() const noexcept { return ids_; }
  const Dict& fields() const noexcept { return fields_; }
  Dict& fields() noexcept { return fields_; }

  /// The field `name`. Throws FormatError that says which fields there are, or what the field holds instead of a tensor.
  const Value& field(std::string_view name) const;
  const at::Tensor& tensor(std::string_view name) const;
  const List& list(std::string_view name) const;

  /// The same batch with every tensor on `device`; tensors already there are shared.
  Batch to(c10::Device device) const;

 private:
  Dict fields_;
  std::vector<std::int64_t> ids_;
  std::int64_t size_ = 0;
};

}  // namespace treadle
