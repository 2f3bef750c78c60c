#include "checkpoint/async_writer.hpp"

#include <treadle/base/device.hpp>

#include <ATen/core/Tensor.h>
#include <ATen/ops/_empty_affine_quantized.h>
#include <ATen/ops/_empty_per_channel_affine_quantized.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <unordered_map>

namespace treadle {

namespace {

at::Tensor bytes_of(const c10::Storage& storage) {
  auto bytes = at::empty({0}, at::TensorOptions().dtype(c10::kByte).device(storage.device()));
  bytes.set_(storage, 0, {static_cast<std::int64_t>(storage.nbytes())}, {1});
  return bytes;
}

/// A tensor of the same dtype on the CPU, and quantized alike, without elements.
at::Tensor shell_like(const at::Tensor& tensor) {
  const auto options = at::TensorOptions().dtype(tensor.dtype());
  if (!tensor.is_quantized()) return at::empty({0}, options);
  if (tensor.qscheme() == c10::kPerTensorAffine)
    return at::_empty_affine_quantized({0}, options, tensor.q_scale(), tensor.q_zero_point());
  return at::_empty_per_channel_affine_quantized(std::vector<std::int64_t>(static_cast<std::size_t>(tensor.dim()), 0),
                                                 tensor.q_per_channel_scales().cpu(), tensor.q_per_channel_zero_points().cpu(),
                                                 tensor.q_per_channel_axis(), options);
}

/// Calls `visit` with every value that is a tensor.
template <class AnyValue, class Visit>
void visit_tensors(AnyValue& root, const Visit& visit) {
  std::vector<AnyValue*> pending{&root};
  while (!pending.empty()) {
    AnyValue& value = *pending.back();
    pending.pop_back();
    if (value.is(Value::Type::tensor)) visit(value);
    if (value.is(Value::Type::list)) {
      for (auto& item : value.as_list()) pending.push_back(&item);
    }
    if (value.is(Value::Type::tuple)) {
      for (auto& item : value.as_tuple()) pending.push_back(&item);
    }
    if (value.is(Value::Type::dict)) {
      for (auto& entry : value.as_dict()) pending.push_back(&entry.value);
    }
  }
}

}  // namespace

std::vector<c10::Device> devices_of(const Value& state) {
  std::vector<c10::Device> devices;
  visit_tensors(state, [&](const Value& value) {
    const c10::Device device = value.as_tensor().device();
    if (device.is_cpu() || device.is_meta()) return;  // no work waits there
    if (std::find(devices.begin(), devices.end(), device) == devices.end()) devices.push_back(device);
  });
  return devices;
}

Checkpointer::AsyncWriter::~AsyncWriter() { wait(); }

void Checkpointer::AsyncWriter::start(const Value& state, std::function<void(const Value&)> write) {
  wait();
  try {
    copy_ = snapshot(state);
    busy_ = true;
    thread_ = std::thread([this, write = std::move(write)] {
      try {
        write(copy_);
      } catch (...) {
        error_ = std::current_exception();
      }
      busy_ = false;
    });
  } catch (...) {
    error_ = std::current_exception();
    busy_ = false;
  }
}

std::exception_ptr Checkpointer::AsyncWriter::wait() {
  if (thread_.joinable()) thread_.join();
  copy_ = nullptr;
  return std::exchange(error_, nullptr);
}

// Every storage is copied whole, once, so that views go on sharing it and keep their strides.
Value Checkpointer::AsyncWriter::snapshot(const Value& state) {
  std::unordered_map<c10::StorageImpl*, std::size_t> numbers;
  std::vector<at::Tensor> buffers;
  bool pin = accelerator_count() > 0;
  auto copied = [&](const at::Tensor& tensor) -> at::Tensor {
    if (tensor.layout() != c10::kStrided || !tensor.has_storage()) return tensor.clone();
    const c10::Storage& storage = tensor.storage();
    auto [number, added] = numbers.try_emplace(storage.unsafeGetStorageImpl(), buffers.size());
    if (added) {
      auto nbytes = static_cast<std::int64_t>(storage.nbytes());
      bool fits = number->second < buffers_.size() && buffers_[number->second].numel() == nbytes;
      buffers.push_back(fits ? buffers_[number->second]
                             : at::empty({nbytes}, at::TensorOptions().dtype(c10::kByte).pinned_memory(pin)));
      if (nbytes > 0) buffers.back().copy_(bytes_of(storage), /*non_blocking=*/pin);
    }
    auto result = shell_like(tensor);
    result.set_(buffers[number->second].storage(), tensor.storage_offset(), tensor.sizes(), tensor.strides());
    if (tensor.is_conj()) result._set_conj(true);
    if (tensor.is_neg()) result._set_neg(true);
    return result;
  };
  Value copy = state;
  visit_tensors(copy, [&](Value& value) { value = copied(value.as_tensor()); });
  for (const c10::Device device : devices_of(state)) synchronize_device(device);
  buffers_ = std::move(buffers);
  return copy;
}

}  // namespace treadle
