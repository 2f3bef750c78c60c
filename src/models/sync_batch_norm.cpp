#include <treadle/base/errors.hpp>
#include <treadle/comm/group.hpp>
#include <treadle/models/sync_batch_norm.hpp>

#include <ATen/ops/full_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/var_mean.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <tuple>
#include <vector>

namespace treadle {
namespace {

/// All dimensions but that of the channels.
std::vector<std::int64_t> reduced_dimensions(const at::Tensor& input) {
  std::vector<std::int64_t> dimensions{0};
  for (std::int64_t i = 2; i < input.dim(); ++i) dimensions.push_back(i);
  return dimensions;
}

/// One number per channel, in the shape that broadcasts over `like` and in its type.
at::Tensor per_channel(const at::Tensor& numbers, const at::Tensor& like) {
  std::vector<std::int64_t> shape(static_cast<std::size_t>(like.dim()), 1);
  shape[1] = numbers.numel();
  return numbers.to(like.options()).view(shape);
}

std::vector<at::Tensor> gather(Group& group, const at::Tensor& numbers) {
  std::vector<at::Tensor> rows;
  const List values = group.all_gather(numbers);
  for (const Value& value : values) rows.push_back(value.as_tensor().to(numbers.device()));
  return rows;
}

/// Mean and variance per channel over all ranks, in double precision, and the number of values they are of.
struct Statistics {
  at::Tensor mean, variance;
  double count = 0;
};

/// Variance and mean per channel; zeros of an empty batch, which counts for nothing, but whose NaN would count on every rank.
std::tuple<at::Tensor, at::Tensor> own_statistics(const at::Tensor& input) {
  if (input.numel() > 0) return at::var_mean(input, reduced_dimensions(input), /*unbiased=*/false);
  const at::Tensor none = at::zeros({input.size(1)}, input.options());
  return {none, none};
}

Statistics statistics_of(Group& group, const at::Tensor& input) {
  const auto [variance, mean] = own_statistics(input.to(at::kDouble));
  const double own_count = static_cast<double>(input.numel()) / static_cast<double>(input.size(1));
  const std::vector<at::Tensor> rows = gather(group, at::stack({mean, variance, at::full_like(mean, own_count)}));
  Statistics all{at::zeros_like(mean), at::zeros_like(mean), 0};
  for (const at::Tensor& row : rows) {
    const double count = row[2][0].item<double>();
    all.mean += row[0] * count;
    all.count += count;
  }
  all.mean /= all.count;
  for (const at::Tensor& row : rows) all.variance += (row[1] + (row[0] - all.mean).square()) * row[2];
  all.variance /= all.count;
  return all;
}

/// What the backward pass finds its ranks by.
struct SavedGroup : torch::CustomClassHolder {
  explicit SavedGroup(Group* ranks) : group(ranks) {}
  Group* group;
};

/// y = (x - mean) / std, where mean and std depend on the x of every rank.
struct Normalize : torch::autograd::Function<Normalize> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& input, const at::Tensor& mean,
                            const at::Tensor& inverse_std, double count, Group* group) {
    const at::Tensor scale = per_channel(inverse_std, input);
    const at::Tensor output = (input - per_channel(mean, input)) * scale;
    context->save_for_backward({output, scale});
    context->saved_data["count"] = count;
    context->saved_data["group"] = c10::IValue::make_capsule(c10::make_intrusive<SavedGroup>(group));
    return output;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &output = saved[0], &scale = saved[1], &grad = grads[0];
    const double count = context->saved_data["count"].toDouble();
    Group* group = static_cast<SavedGroup&>(*context->saved_data["group"].toCapsule()).group;
    // dx = (dy - mean(dy) - y mean(dy y)) / std, with means over all ranks.
    const auto dimensions = reduced_dimensions(output);
    const at::Tensor own =
        at::stack({grad.sum(dimensions, false, at::kDouble), (grad * output).sum(dimensions, false, at::kDouble)});
    at::Tensor sums = at::zeros_like(own);
    for (const at::Tensor& row : gather(*group, own)) sums += row;
    sums /= count;
    const at::Tensor result = (grad - per_channel(sums[0], grad) - output * per_channel(sums[1], grad)) * scale;
    return {result, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

SyncBatchNormImpl::SyncBatchNormImpl(const torch::nn::BatchNorm2dOptions& settings, std::shared_ptr<Group> group)
    : BatchNorm2dImpl(settings) {
  set_group(std::move(group));
}

SyncBatchNormImpl::SyncBatchNormImpl(const torch::nn::BatchNorm2dOptions& settings) : BatchNorm2dImpl(settings) {}

void SyncBatchNormImpl::set_group(std::shared_ptr<Group> group) {
  if (!group) throw Error("SyncBatchNorm needs a group, found a null pointer");
  group_ = std::move(group);
}

at::Tensor SyncBatchNormImpl::forward(const at::Tensor& input) {
  // Without running statistics those of the batch count in evaluation too.
  const bool from_batch = is_training() || !running_mean.defined();
  if (!from_batch) return BatchNorm2dImpl::forward(input);
  if (!group_) throw Error("SyncBatchNorm has no group to train with yet: call set_sync_batch_norm_group for the model");
  if (group_->get_world_size() == 1) return BatchNorm2dImpl::forward(input);
  TORCH_CHECK_VALUE(input.dim() >= 2, "SyncBatchNorm expects an input of [N, C, …], found ", input.dim(), " dimensions");
  const Statistics all = statistics_of(*group_, input.detach());
  TORCH_CHECK_VALUE(all.count > 1, "SyncBatchNorm needs more than one value per channel over all ranks");
  RECORD_FUNCTION("treadle::sync_batch_norm", (std::array<c10::IValue, 5>{input, weight, bias, running_mean, all.count}));
  if (is_training() && running_mean.defined()) {
    const at::NoGradGuard no_grad;
    num_batches_tracked += 1;
    const double momentum = options.momentum() ? *options.momentum() : 1 / num_batches_tracked.item<double>();
    running_mean.lerp_(all.mean.to(running_mean.options()), momentum);
    running_var.lerp_((all.variance * (all.count / (all.count - 1))).to(running_var.options()), momentum);
  }
  const at::Tensor inverse_std = (all.variance + options.eps()).rsqrt();
  at::Tensor output = Normalize::apply(input, all.mean, inverse_std, all.count, group_.get());
  if (!weight.defined()) return output;
  return output * per_channel(weight, input) + per_channel(bias, input);
}

std::size_t set_sync_batch_norm_group(torch::nn::Module& module, const std::shared_ptr<Group>& group) {
  std::size_t count = 0;
  module.apply([&](torch::nn::Module& layer) {
    if (auto* norm = layer.as<SyncBatchNormImpl>()) {
      norm->set_group(group);
      ++count;
    }
  });
  return count;
}

}  // namespace treadle
