#include <comm/c10d.hpp>
#include <comm/exchange.hpp>
#include <comm/reducer.hpp>
#include <comm/value_codec.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/text.hpp>
#include <treadle/comm/gradient_reducer.hpp>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/csrc/distributed/c10d/comm.hpp>
#include <torch/csrc/distributed/c10d/default_comm_hooks.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#ifdef TREADLE_HAS_NCCL
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include <cmath>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>

namespace treadle {
namespace {

constexpr double kMebibyte = 1024 * 1024;
constexpr std::size_t kBroadcastBytes = std::size_t{25} * 1024 * 1024;

/// A Reducer that keeps its buckets. LibTorch's own takes note of the order in which gradients come, to sort its buckets by it
/// once; that would change the order of sums in the first step after a resume.
class FixedReducer final : public c10d::Reducer {
 public:
  template <class... Args>
  explicit FixedReducer(Args&&... args) : Reducer(std::forward<Args>(args)...) {
    has_rebuilt_bucket_ = true;
  }
  bool is_finished() const noexcept { return !require_finalize_; }
};

/// Its constructor has grown from release to release.
template <class R, class... Args>
std::unique_ptr<R> construct_reducer(Args... args) {
  if constexpr (std::is_constructible_v<c10d::Reducer, Args..., bool, bool, std::vector<std::int64_t>>) {
    return std::make_unique<R>(std::move(args)..., /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false,
                               /*bucket_bytes_cap_list=*/std::vector<std::int64_t>());
  } else if constexpr (std::is_constructible_v<c10d::Reducer, Args..., bool, bool>) {
    return std::make_unique<R>(std::move(args)..., false, false);
  } else {
    return std::make_unique<R>(std::move(args)...);
  }
}

using ProcessGroupPointer = c10::intrusive_ptr<c10d::ProcessGroup>;

/// A user's hook, or ours, in the form that the Reducer takes.
class HookAdapter final : public c10d::CppCommHookInterface<ProcessGroupPointer> {
 public:
  HookAdapter(const ProcessGroupPointer& group, GradientHook hook) : CppCommHookInterface(group), hook_(std::move(hook)) {}
  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override {
    GradientMessage message = hook_({.index = bucket.getIndex(),
                                     .is_last = bucket.isLast(),
                                     .gradients = bucket.getBuffer(),
                                     .parameters = bucket.getParameters(),
                                     .world_size = state_->getSize()});
    std::vector<at::Tensor> tensors{message.summand.contiguous()};
    const auto finish = [end = std::move(message.finish)](c10::ivalue::Future& sum) {
      const c10::IValue value = sum.value();
      return c10::IValue(end(value.isTensor() ? value.toTensor() : value.toTensorVector().front()));
    };
    return state_->allreduce(tensors)->getFuture()->then(finish, c10::TensorType::get());
  }

 private:
  GradientHook hook_;
};

GradientMessage send_as_bfloat16(const GradientBucket& bucket) {
  // Divided first, so that the sum stays in the range of the gradients.
  return {(bucket.gradients / bucket.world_size).to(at::kBFloat16),
          [type = bucket.gradients.scalar_type()](const at::Tensor& sum) { return sum.to(type); }};
}

ProcessGroupPointer make_process_group(const Link::Impl& link, const ExchangeOptions& options, c10::Device device) {
  auto group = c10::make_intrusive<c10d::ProcessGroup>(options.rank, options.world_size);
  const c10::intrusive_ptr<c10d::Backend> gloo = link.gloo;
  group->setBackend(c10::kCPU, c10d::ProcessGroup::BackendType::GLOO, gloo);
  if (device.is_cpu()) return group;
#ifdef TREADLE_HAS_NCCL
  if (device.is_cuda()) {
    auto nccl_options = c10d::ProcessGroupNCCL::Options::create();
    nccl_options->timeout = options.timeout;
    auto nccl = c10::make_intrusive<c10d::ProcessGroupNCCL>(link.store, options.rank, options.world_size, nccl_options);
    group->setBackend(c10::kCUDA, c10d::ProcessGroup::BackendType::NCCL, c10::intrusive_ptr<c10d::Backend>(std::move(nccl)));
    return group;
  }
#endif
  group->setBackend(device.type(), c10d::ProcessGroup::BackendType::GLOO, gloo);
  return group;
}

#ifdef TREADLE_HAS_NCCL
/// A backend that nobody has ended warns of it. In a broken group an orderly end would wait for ranks that are gone.
template <class Backend>
void end_nccl(Backend& backend, bool is_broken) noexcept {
  if constexpr (requires { backend.shutdown(), backend.abort(); }) {
    try {
      if (is_broken) {
        backend.abort();
      } else {
        backend.shutdown();
      }
    } catch (const std::exception& error) {
      log_warning(fmt::format("NCCL did not end well: {}", cause_of(error)));
    }
  }
}
#endif

/// What must be the same on all ranks, for them to compare.
Dict layout_of(const std::vector<NamedTensor>& parameters, const GradientOptions& options) {
  Dict layout;
  for (const auto& [name, tensor] : parameters) {
    layout.set(name, fmt::format("{} of shape [{}]", c10::toString(tensor.scalar_type()), fmt::join(tensor.sizes(), ", ")));
  }
  return {{"parameters", std::move(layout)},
          {"options", fmt::format("buckets of {} MiB, the first of {}, {} compression {}{}", options.bucket_cap_mb,
                                  options.first_bucket_cap_mb, options.find_unused_parameters ? "unused parameters sought," : "",
                                  static_cast<int>(options.compression), options.hook ? ", a hook" : "")}};
}

/// How `theirs` differs from `first`, in words; empty when it does not.
std::string difference(const Dict& first, const Dict& theirs) {
  const Dict& a = first.at("parameters").as_dict();
  const Dict& b = theirs.at("parameters").as_dict();
  for (const auto& [name, layout] : a) {
    const Value* other = b.find(name);
    if (other == nullptr) return fmt::format("the parameter \"{}\" is missing there", name.to_string());
    if (other->as_string() != layout.as_string()) {
      return fmt::format("the parameter \"{}\" is {} there and {} on rank 0", name.to_string(), other->as_string(),
                         layout.as_string());
    }
  }
  for (const auto& [name, layout] : b) {
    if (!a.contains(name)) return fmt::format("the parameter \"{}\" is missing on rank 0", name.to_string());
  }
  if (!identical(first.at("parameters"), theirs.at("parameters"))) return "the parameters stand in another order there";
  const std::string& there = theirs.at("options").as_string();
  const std::string& here = first.at("options").as_string();
  return there == here ? "" : fmt::format("gradients are reduced with {} there and {} on rank 0", there, here);
}

/// Those that get a gradient, each once though it has several names.
std::vector<NamedTensor> trainable(const std::vector<NamedTensor>& parameters) {
  std::vector<NamedTensor> result;
  std::unordered_set<const void*> seen;
  for (const NamedTensor& parameter : parameters) {
    if (parameter.tensor.requires_grad() && seen.insert(parameter.tensor.unsafeGetTensorImpl()).second)
      result.push_back(parameter);
  }
  return result;
}

class C10dReducer final : public GradientReducer {
 public:
  C10dReducer(std::shared_ptr<Exchange> exchange, const std::vector<NamedTensor>& parameters, const GradientOptions& options,
              const std::string& name)
      : exchange_(std::move(exchange)), parameters_(trainable(parameters)), sends_outputs_(options.find_unused_parameters) {
    validate(options);
    compare_layouts(options);
    if (parameters_.empty())
      throw CommError("no parameter needs a gradient", exchange_->options().rank, name_of(Call::make_gradient_reducer));
    link_ = exchange_->open_link(name, round_);
    group_ = make_process_group(*link_->impl(), exchange_->options(), parameters_.front().tensor.device());
    construct(options);
  }

#ifdef TREADLE_HAS_NCCL
  ~C10dReducer() override {
    reducer_.reset();
    if (parameters_.front().tensor.is_cuda()) end_nccl(*group_->getBackend(c10::kCUDA), exchange_->is_broken());
  }
#endif

  void prepare(const std::vector<at::Tensor>& outputs) override {
    exchange_->require_sound(Call::backward);
    if (exchange_->options().check_order) exchange_->call(round_, Call::backward, 0, {});
    link_->impl()->gloo->forget_sums();
    round_.call = Call::backward;
    round_.start = std::chrono::steady_clock::now();
    reducer_->prepare_for_backward(sends_outputs_ ? outputs : std::vector<at::Tensor>());
  }

  void check_reduced() const override {
    if (reducer_->is_finished()) return;
    std::vector<std::string> names;
    for (const auto& [name, tensor] : parameters_) {
      if (!tensor.grad().defined()) names.push_back(name);
    }
    throw Error(
        fmt::format("the gradients were not reduced, since these parameters took no part in the losses: {}; set "
                    "find_unused_parameters if that is intended",
                    names.empty() ? "unknown" : quoted_list(names)));
  }

  void broadcast(const std::vector<at::Tensor>& tensors, int source) override {
    exchange_->call(round_, Call::broadcast_tensors, source, {});
    if (tensors.empty()) return;
    try {
      c10d::broadcast_coalesced(group_, tensors, kBroadcastBytes, source);
    } catch (const std::exception& error) {
      exchange_->throw_failure(round_, cause_of(error));
    }
  }

  void explain(const std::exception& failure) override {
    if (link_->impl()->gloo->has_failed()) exchange_->throw_failure(round_, cause_of(failure));
  }

 private:
  void compare_layouts(const GradientOptions& options) {
    const Payload own = Payload::of(encode_value(layout_of(parameters_, options)));
    exchange_->call(round_, Call::make_gradient_reducer, 0, own);
    const Exchange::Messages messages = exchange_->everything(round_, own);
    const Value first = decode_value(messages.texts.front());
    for (std::size_t rank = 1; rank < messages.texts.size(); ++rank) {
      if (messages.texts[rank] == messages.texts.front()) continue;
      throw CommError(fmt::format("rank {} has another model than rank 0: {}", rank,
                                  difference(first.as_dict(), decode_value(messages.texts[rank]).as_dict())),
                      exchange_->options().rank, name_of(Call::make_gradient_reducer));
    }
  }

  void construct(const GradientOptions& options) {
    std::vector<at::Tensor> tensors, reversed;
    std::vector<std::int64_t> indices;
    std::unordered_map<std::size_t, std::string> names;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      tensors.push_back(parameters_[i].tensor);
      names.emplace(i, parameters_[i].name);
    }
    // Gradients come in the opposite order of the parameters, about.
    for (std::size_t i = tensors.size(); i-- > 0;) {
      reversed.push_back(tensors[i]);
      indices.push_back(static_cast<std::int64_t>(i));
    }
    const auto cap = static_cast<std::size_t>(options.bucket_cap_mb * kMebibyte);
    const auto first_cap = static_cast<std::size_t>(options.first_bucket_cap_mb * kMebibyte);
    auto buckets = std::get<0>(c10d::compute_bucket_assignment_by_size(reversed, {first_cap, cap}, {}, indices));
    reducer_ = construct_reducer<FixedReducer>(
        tensors, std::move(buckets), group_, std::vector<bool>(tensors.size(), false), static_cast<std::int64_t>(cap),
        options.find_unused_parameters, options.gradient_as_bucket_view, std::move(names), static_cast<std::int64_t>(first_cap));
    if (options.hook) {
      reducer_->register_comm_hook(std::make_unique<HookAdapter>(group_, options.hook));
    } else if (options.compression == GradientCompression::bfloat16) {
      reducer_->register_comm_hook(std::make_unique<HookAdapter>(group_, send_as_bfloat16));
    } else if (options.compression == GradientCompression::float16) {
      reducer_->register_builtin_comm_hook(c10d::BuiltinCommHookType::FP16_COMPRESS);
    }
  }

  std::shared_ptr<Exchange> exchange_;
  std::vector<NamedTensor> parameters_;
  bool sends_outputs_;
  Exchange::Round round_;
  std::shared_ptr<Link> link_;
  ProcessGroupPointer group_;
  std::unique_ptr<FixedReducer> reducer_;
};

void require(bool holds, const char* field, const std::string& range) {
  if (!holds)
    throw ConfigError(fmt::format("GradientOptions.{} must be {}", field, range), std::string("GradientOptions.") + field);
}

}  // namespace

void validate(const GradientOptions& options) {
  require(options.bucket_cap_mb > 0 && std::isfinite(options.bucket_cap_mb), "bucket_cap_mb", "above 0");
  require(options.first_bucket_cap_mb > 0 && std::isfinite(options.first_bucket_cap_mb), "first_bucket_cap_mb", "above 0");
  require(!options.hook || options.compression == GradientCompression::none, "compression", "none when a hook is given");
}

std::unique_ptr<GradientReducer> make_reducer(std::shared_ptr<Exchange> exchange, const std::vector<NamedTensor>& parameters,
                                              const GradientOptions& options, const std::string& name) {
  return std::make_unique<C10dReducer>(std::move(exchange), parameters, options, name);
}

}  // namespace treadle
