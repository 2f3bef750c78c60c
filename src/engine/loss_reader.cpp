#include "engine/loss_reader.hpp"
#include "engine/named_numbers.hpp"

#include <treadle/base/errors.hpp>

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <fmt/format.h>

#include <algorithm>

namespace treadle {
namespace {

bool all_on(c10::Device device, const LossDict& losses) {
  return std::ranges::all_of(losses, [&](const auto& loss) { return loss.second.device() == device; });
}

/// True for a float32 that lies in plain memory. What is of another kind has other keys: on a device, sparse, negated, …
bool is_plain_float(const at::Tensor& loss) {
  static const c10::DispatchKeySet plain = at::empty({0}).key_set();
  return loss.key_set() == plain && loss.dtype() == caffe2::TypeMeta::Make<float>();
}

/// Where it lies: the operators that `item` calls would take a microsecond and a tensor of their own.
double plain_float_in(const at::Tensor& loss) { return *static_cast<const float*>(loss.unsafeGetTensorImpl()->data()); }

at::Tensor pack(const LossDict& losses) {
  std::vector<at::Tensor> flat;
  flat.reserve(losses.size());
  for (const auto& [name, loss] : losses) flat.push_back(loss.detach().reshape({1}));
  return at::cat(flat);
}

}  // namespace

void LossReader::check_names(const LossDict& losses, std::int64_t iteration) const {
  if (losses.size() != sums_.size()) {
    throw Error(fmt::format("the batches of iteration {} gave {} and {} losses; all must give the same", iteration, sums_.size(),
                            losses.size()));
  }
  for (std::size_t i = 0; i < losses.size(); ++i) {
    if (losses[i].first == sums_[i].first) continue;
    throw Error(fmt::format("the batches of iteration {} gave the losses \"{}\" and \"{}\"; all must give the same", iteration,
                            sums_[i].first, losses[i].first));
  }
}

void LossReader::begin(const LossDict& losses) {
  batches_ = 0;
  on_device_.clear();
  on_host_.reset();
  sums_.resize(losses.size());
  for (std::size_t i = 0; i < losses.size(); ++i) {
    if (sums_[i].first != losses[i].first) sums_[i].first = losses[i].first;
    sums_[i].second = -0.0;  // to which every number adds up as itself, a negative zero too
  }
}

void LossReader::add(const LossDict& losses, bool first, std::int64_t iteration) {
  if (first) {
    begin(losses);
  } else {
    check_names(losses, iteration);
  }
  ++batches_;
  for (std::size_t i = 0; i < losses.size(); ++i) {
    if (!is_plain_float(losses[i].second)) return add_from(i, losses);
    sums_[i].second += plain_float_in(losses[i].second);
  }
}

void LossReader::add_from(std::size_t first, const LossDict& losses) {
  // Batches whose losses lie elsewhere than those of the first are rare, and waited for.
  const c10::Device device = on_device_.empty() ? losses.front().second.device() : on_device_.front().device();
  if (!device.is_cpu() && all_on(device, losses)) {
    on_device_.push_back(pack(losses));
    return;
  }
  for (std::size_t i = first; i < losses.size(); ++i) sums_[i].second += losses[i].second.detach().item<double>();
}

at::Tensor LossReader::packed() const { return on_device_.size() == 1 ? on_device_.front() : at::cat(on_device_); }

void LossReader::prefetch() {
  if (on_device_.empty()) return;
  const at::Tensor all = packed();
  on_host_ = at::empty(all.sizes(), all.options().device(c10::kCPU).pinned_memory(true));
  on_host_.copy_(all, /*non_blocking=*/true);
  filled_.emplace(all.device().type());
  filled_->record(c10::impl::VirtualGuardImpl(all.device().type()).getStream(all.device()));
}

void LossReader::take(const at::Tensor& numbers) {
  const at::Tensor values = numbers.to(c10::kCPU).to(at::kDouble).contiguous();
  const double* value = values.const_data_ptr<double>();
  for (std::size_t k = 0; k < on_device_.size(); ++k) {
    for (auto& [name, sum] : sums_) sum += *value++;
  }
}

void LossReader::read(NamedNumbers& means) {
  if (!on_device_.empty()) {
    if (on_host_.defined()) filled_->synchronize();
    take(on_host_.defined() ? on_host_ : packed());
    on_device_.clear();
    on_host_.reset();
  }
  assign(sums_, means);
  if (batches_ == 1) return;
  for (auto& [name, mean] : means) mean /= static_cast<double>(batches_);
}

void LossReader::set(const NamedNumbers& means) {
  sums_ = means;
  batches_ = 1;
  on_device_.clear();
}

}  // namespace treadle
