#include <treadle/base/device.hpp>

#include <ATen/DeviceAccelerator.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "data/batch_task.hpp"

namespace treadle {

namespace {

template <class Visit>
void for_each_tensor(const Value& value, const Visit& visit) {
  if (value.is(Value::Type::tensor)) {
    visit(value.as_tensor());
  } else if (value.is(Value::Type::list)) {
    for (const Value& item : value.as_list()) for_each_tensor(item, visit);
  } else if (value.is(Value::Type::tuple)) {
    for (const Value& item : value.as_tuple()) for_each_tensor(item, visit);
  } else if (value.is(Value::Type::dict)) {
    for (const Dict::Entry& entry : value.as_dict()) for_each_tensor(entry.value, visit);
  }
}

}  // namespace

bool wants_pinned_memory(c10::Device device) { return accelerator_count() > 0 && at::getAccelerator(false) == device.type(); }

Batch copy_to_device(const Batch& batch, c10::Device device) {
  if (!wants_pinned_memory(device)) return batch.to(device);
  const c10::impl::VirtualGuardImpl guard(device.type());
  const c10::Stream stream = guard.getStreamFromGlobalPool(device);
  const c10::StreamGuard on_stream(stream);
  Batch copied = batch.to(device);
  stream.synchronize();
  return copied;
}

// The allocator gives a freed tensor's memory at once to the queue it was allocated on, unless it knows that another still uses
// it: a worker's next copy would overwrite a batch that the trainer's kernels have not read yet.
void use_on_current_stream(const Batch& batch, c10::Device device) {
  if (!wants_pinned_memory(device)) return;
  const c10::Stream stream = c10::impl::VirtualGuardImpl(device.type()).getStream(device);
  for (const Dict::Entry& entry : batch.fields()) {
    for_each_tensor(entry.value, [&](const at::Tensor& tensor) {
      if (tensor.device().type() == device.type()) tensor.record_stream(stream);
    });
  }
}

}  // namespace treadle
