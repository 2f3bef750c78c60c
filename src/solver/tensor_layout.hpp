#pragma once

#include <ATen/core/Tensor.h>

namespace treadle {

/// True for a tensor in memory whose numbers are what lies there: not a view that negates them, nor zeros that lie nowhere.
inline bool is_plain_memory(const at::Tensor& tensor) {
  return tensor.is_cpu() && tensor.layout() == at::kStrided && !tensor.is_neg() && !tensor._is_zerotensor();
}

/// True for a tensor whose numbers a CPU kernel can walk through as one array: float or double, strided, dense, nothing
/// overlapping.
inline bool kernel_can_walk(const at::Tensor& tensor) {
  at::ScalarType type = tensor.scalar_type();
  return is_plain_memory(tensor) && (type == at::kFloat || type == at::kDouble) && tensor.is_non_overlapping_and_dense();
}

/// True when `other` holds its numbers in the memory order of `tensor`, which a kernel can walk through, and has its dtype.
inline bool same_walk(const at::Tensor& tensor, const at::Tensor& other) {
  if (!is_plain_memory(other) || other.scalar_type() != tensor.scalar_type()) return false;
  if (tensor.sizes() != other.sizes()) return false;
  return (tensor.is_contiguous() && other.is_contiguous()) || tensor.strides() == other.strides();
}

/// True when ATen's fused kernels, which ignore strides and negation, may take both: dense, in one memory order, of one dtype and
/// device.
inline bool same_layout(const at::Tensor& tensor, const at::Tensor& other) {
  if (tensor.layout() != at::kStrided || other.layout() != at::kStrided || !tensor.is_non_overlapping_and_dense()) return false;
  if (tensor.is_neg() || other.is_neg() || other._is_zerotensor()) return false;
  if (tensor.device() != other.device() || tensor.scalar_type() != other.scalar_type() || tensor.sizes() != other.sizes())
    return false;
  return (tensor.is_contiguous() && other.is_contiguous()) || tensor.strides() == other.strides();
}

/// True when the kernel of norms sums the numbers of `tensor` in ATen's order.
inline bool kernel_can_sum(const at::Tensor& tensor) {
  return is_plain_memory(tensor) && tensor.scalar_type() == at::kFloat && tensor.is_contiguous();
}

/// Tells autograd that the numbers of `tensor` were written behind its back.
inline void mark_written(const at::Tensor& tensor) {
  if (!tensor.is_inference()) tensor.unsafeGetTensorImpl()->bump_version();
}

}  // namespace treadle
