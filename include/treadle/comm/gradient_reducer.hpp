#pragma once

#include <treadle/base/module_state.hpp>

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <vector>

namespace treadle {

/// How gradients travel.
enum class GradientCompression {
  none,
  float16,  ///< LibTorch's own hook; large gradients become infinite
  bfloat16  ///< the range of float32, with 8 bits of precision
};

/// Some gradients of a backward pass, one behind the other in one tensor.
struct GradientBucket {
  std::size_t index = 0;  ///< in the order in which they are reduced, equal in every step and on every rank
  bool is_last = false;
  at::Tensor gradients;                ///< this rank's, one-dimensional, not divided by the number of ranks
  std::vector<at::Tensor> parameters;  ///< in the order of their gradients
  int world_size = 1;
};

/// What a hook makes of a bucket: `summand` is added over all ranks, `finish` turns the sum into what the parameters get as their
/// gradients, in the type and size of the bucket. Summands have the same type and size on all ranks. `finish` runs on a thread
/// of LibTorch.
struct GradientMessage {
  at::Tensor summand;
  std::function<at::Tensor(const at::Tensor& sum)> finish;
};
using GradientHook = std::function<GradientMessage(const GradientBucket&)>;

struct GradientOptions {
  double bucket_cap_mb = 25;       ///< MiB of gradients that are reduced together; above 0
  double first_bucket_cap_mb = 1;  ///< of the first ones to be ready, which are those of the last parameters; above 0
  /// Parameters may stay without a gradient on some ranks, or all. Walks through the graph of every step.
  bool find_unused_parameters = false;
  /// Reduced gradients are views of the memory they travel in, which saves a copy of them all and its memory. The next backward
  /// pass writes there: clone what is to outlive it. LibTorch's `Optimizer::zero_grad` refuses such gradients;
  /// `treadle::zero_grad`, which trainers call, does not.
  bool gradient_as_bucket_view = false;
  GradientCompression compression = GradientCompression::none;
  GradientHook hook{};  ///< in place of `compression`, which must be `none` then
};
/// Throws ConfigError that names the field.
void validate(const GradientOptions& options);

/// Averages gradients over the ranks while the backward pass goes on (c10d::Reducer). Made by `Group::make_gradient_reducer`;
/// borrows nothing, keeps the parameters alive. Loop thread only.
///
/// The order and grouping of sums is fixed by the parameters and options alone, so that runs repeat to the bit.
class GradientReducer {
 public:
  virtual ~GradientReducer() = default;
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  /// Between a forward and a backward pass: the latter reduces the gradients of all parameters, on all ranks; those of earlier
  /// passes that were not reduced are part of them. `outputs` is what is differentiated.
  virtual void prepare(const std::vector<at::Tensor>& outputs) = 0;
  /// Behind that backward pass: throws Error that names the parameters which took no part in it, when it could not reduce for
  /// want of them.
  virtual void check_reduced() const = 0;
  /// Copies `tensors` from rank `source` to all others. A collective.
  virtual void broadcast(const std::vector<at::Tensor>& tensors, int source) = 0;
  /// After a backward pass threw `failure`: throws CommError that says which rank is missing when the reduction failed, breaking
  /// the group; returns otherwise.
  virtual void explain(const std::exception& failure) = 0;

 protected:
  GradientReducer() = default;
};

}  // namespace treadle
