// save_async waited for the first accelerator alone, and wrote what another was still copying.
#include <checkpoint/async_writer.hpp>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/Storage.h>
#include <c10/core/TensorImpl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace treadle {
namespace {

/// A tensor without elements that says it lies on an accelerator, which need not be there.
at::Tensor tensor_on(c10::Device device) {
  c10::Storage nothing(c10::Storage::use_byte_size_t{}, 0, c10::DataPtr(nullptr, device));
  return at::detail::make_tensor<c10::TensorImpl>(std::move(nothing), c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                                  caffe2::TypeMeta::Make<float>());
}

TEST(Regressions, EveryDeviceThatHoldsAStateIsKnown) {
  const c10::Device first(c10::kCUDA, 0), second(c10::kCUDA, 1), third(c10::kCUDA, 2);
  const Value state = Dict{{"model", Dict{{"w", tensor_on(second)}, {"b", tensor_on(second)}, {"host", at::zeros({2})}}},
                           {"optimizer", List{Tuple{1, tensor_on(third)}, "text", tensor_on(first)}},
                           {"shape alone", at::empty({2}, at::TensorOptions().device(c10::kMeta))}};
  std::vector<c10::Device> devices = devices_of(state);
  std::sort(devices.begin(), devices.end(), [](c10::Device a, c10::Device b) { return a.index() < b.index(); });
  EXPECT_EQ(devices, (std::vector<c10::Device>{first, second, third}));
  EXPECT_TRUE(devices_of(Dict{{"host", at::zeros({2})}, {"iteration", 9}}).empty());
}

}  // namespace
}  // namespace treadle
