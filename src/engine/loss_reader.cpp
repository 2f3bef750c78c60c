#include "engine/loss_reader.hpp"

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

/// The number in a tensor of one element. One that lies in plain memory is read where it lies: the operators that `item` calls
/// would take a microsecond and a tensor of their own.
double number_in(const at::Tensor& loss) {
  const bool plain = loss.is_cpu() && loss.layout() == at::kStrided && loss.has_storage() && !loss.is_neg() &&
                     !loss._is_zerotensor() && !loss.unsafeGetTensorImpl()->is_python_dispatch();
  if (plain && loss.scalar_type() == at::kFloat) return *loss.const_data_ptr<float>();
  if (plain && loss.scalar_type() == at::kDouble) return *loss.const_data_ptr<double>();
  return loss.detach().item<double>();
}

at::Tensor pack(const LossDict& losses) {
  std::vector<at::Tensor> flat;
  flat.reserve(losses.size());
  for (const auto& [name, loss] : losses) flat.push_back(loss.detach().reshape({1}));
  return at::cat(flat);
}

}  // namespace

void LossReader::check_names(const LossDict& losses, std::int64_t iteration) const {
  if (losses.size() != names_.size()) {
    throw Error(fmt::format("the batches of iteration {} gave {} and {} losses; all must give the same", iteration, names_.size(),
                            losses.size()));
  }
  for (std::size_t i = 0; i < losses.size(); ++i) {
    if (losses[i].first == names_[i]) continue;
    throw Error(fmt::format("the batches of iteration {} gave the losses \"{}\" and \"{}\"; all must give the same", iteration,
                            names_[i], losses[i].first));
  }
}

void LossReader::add(const LossDict& losses, bool first, std::int64_t iteration) {
  if (first) {
    names_.resize(losses.size());  // keeps the memory of the names
    for (std::size_t i = 0; i < losses.size(); ++i) names_[i] = losses[i].first;
    sums_.assign(losses.size(), -0.0);  // to which every number adds up as itself, a negative zero too
    batches_ = 0;
    on_device_.clear();
    on_host_.reset();
  } else {
    check_names(losses, iteration);
  }
  ++batches_;
  // Batches whose losses lie elsewhere than those of the first are rare, and waited for.
  const c10::Device device = on_device_.empty() ? losses.front().second.device() : on_device_.front().device();
  if (!device.is_cpu() && all_on(device, losses)) {
    on_device_.push_back(pack(losses));
    return;
  }
  for (std::size_t i = 0; i < losses.size(); ++i) sums_[i] += number_in(losses[i].second);
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
    for (double& sum : sums_) sum += *value++;
  }
}

void LossReader::read(NamedNumbers& means) {
  if (!on_device_.empty()) {
    if (on_host_.defined()) filled_->synchronize();
    take(on_host_.defined() ? on_host_ : packed());
    on_device_.clear();
    on_host_.reset();
  }
  means.resize(names_.size());
  for (std::size_t i = 0; i < names_.size(); ++i) {
    means[i].first = names_[i];
    means[i].second = batches_ > 1 ? sums_[i] / static_cast<double>(batches_) : sums_[i];
  }
}

void LossReader::set(const NamedNumbers& means) {
  names_.clear();
  sums_.clear();
  for (const auto& [name, value] : means) {
    names_.push_back(name);
    sums_.push_back(value);
  }
  batches_ = 1;
  on_device_.clear();
}

}  // namespace treadle
