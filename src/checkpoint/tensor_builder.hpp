#pragma once

#include "checkpoint/pickle_values.hpp"

#include <vector>

namespace treadle {

/// Makes the tensors of a pickle, each once, after checking that they lie within their storages.
class TensorBuilder {
 public:
  TensorBuilder(PickleGraph& graph, const ByteSource& source, StorageReader* storages, const ConversionOptions& options);

  at::Tensor tensor(std::uint64_t number);
  at::Tensor sparse(NodeId node);
  /// A numpy array; a scalar becomes a number.
  Value array(std::uint64_t number);

 private:
  struct Geometry {
    std::vector<std::int64_t> sizes;
    std::vector<std::int64_t> strides;
    std::uint64_t count = 1;
    std::uint64_t reach = 0;  // elements from the first to the last, that one included; 0 for an empty tensor
  };
  std::vector<std::int64_t> numbers(NodeId tuple, const char* what, std::uint64_t position) const;
  void check_extent(Geometry& geometry, std::uint64_t position) const;
  at::Tensor build(const TensorSpec& spec, bool with_data);
  at::Tensor part(NodeId node);
  at::Tensor quantized_shell(const TensorSpec& spec, const std::vector<std::int64_t>& sizes);
  at::Tensor channel_numbers(NodeId node, std::int64_t count, const char* what, std::uint64_t position);
  const c10::Storage& storage(std::uint32_t number);
  at::Tensor array_tensor(const ArraySpec& spec);
  std::vector<std::int64_t> permutation(const ArraySpec& spec) const;
  Value scalar(const at::Tensor& tensor) const;
  [[noreturn]] void fail(const std::string& message, std::uint64_t position) const { source_.fail(message, position); }

  PickleGraph& graph_;
  const ByteSource& source_;
  StorageReader* storages_;
  ConversionOptions options_;
  std::vector<at::Tensor> tensors_;
  std::vector<at::Tensor> arrays_;
  std::vector<c10::Storage> storage_cache_;
  std::uint64_t array_bytes_left_;
};

}  // namespace treadle
