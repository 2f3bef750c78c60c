#include <comm/reduced_dtype.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/comm/gradient_reducer.hpp>
#include <treadle/comm/group.hpp>

#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <mutex>

namespace treadle {
namespace {

/// What several ranks could not reduce is refused of one too, or a program would fail only where it is launched with more.
void require_numbers(const Dict& numbers) {
  for (const auto& [name, value] : numbers) {
    const bool is_scalar = value.is(Value::Type::tensor) && value.as_tensor().defined() && value.as_tensor().numel() == 1 &&
                           !value.as_tensor().is_complex();
    if (is_scalar || value.is(Value::Type::integer) || value.is(Value::Type::real)) continue;
    throw Error(
        fmt::format("rank 0, reduce_dict: \"{}\" is no number: expected a number or a tensor of one element", name.to_string()));
  }
}

class SingleProcessGroup final : public Group {
 public:
  int get_rank() const noexcept override { return 0; }
  int get_world_size() const noexcept override { return 1; }
  int get_local_rank() const noexcept override { return 0; }
  int get_local_size() const noexcept override { return 1; }
  std::int64_t generation() const noexcept override { return generation_; }

  void synchronize() override { require_sound("synchronize"); }
  List all_gather(const Value& value) override {
    require_sound("all_gather");
    return List{deep_clone(value)};
  }
  List gather(const Value& value, int destination) override {
    require_sound("gather");
    require_rank(destination, "gather");
    return List{deep_clone(value)};
  }
  Value broadcast(const Value& value, int source) override {
    require_sound("broadcast");
    require_rank(source, "broadcast");
    return deep_clone(value);
  }
  std::uint64_t shared_random_seed() override {
    require_sound("shared_random_seed");
    return random_seed();
  }
  Dict reduce_dict(const Dict& numbers, bool average) override {
    require_sound("reduce_dict");
    require_numbers(numbers);
    Dict result;
    for (const auto& [name, value] : numbers) {
      if (value.is(Value::Type::tensor)) {
        const at::Tensor& tensor = value.as_tensor();
        result.set(name, tensor.detach().to(reduced_dtype(tensor.scalar_type(), average), /*non_blocking=*/false, /*copy=*/true));
      } else {
        result.set(name, value.as_double());
      }
    }
    return result;
  }

  void start_step_exchange(std::span<const double> row) override {
    require_sound("step exchange");
    if (exchanging_) throw CommError("an exchange is under way; wait for it before the next begins", 0, "step exchange");
    rows_.resize(1);
    rows_[0].assign(row.begin(), row.end());
    exchanging_ = true;
  }
  const StepRows& wait_step_exchange() override {
    require_sound("step exchange");
    if (!exchanging_) throw CommError("no exchange has begun", 0, "step exchange");
    exchanging_ = false;
    return rows_;
  }

  std::shared_ptr<Group> make_subgroup(const std::vector<int>& ranks) override {
    require_sound("make_subgroup");
    if (ranks != std::vector{0}) throw CommError("a process alone has no subgroup but {0}", 0, "make_subgroup");
    return make_single_process_group();
  }
  std::unique_ptr<GradientReducer> make_gradient_reducer(const std::vector<NamedTensor>& parameters,
                                                         const GradientOptions& options) override {
    require_sound("make_gradient_reducer");
    validate(options);
    const auto needs_one = [](const NamedTensor& parameter) { return parameter.tensor.requires_grad(); };
    if (std::none_of(parameters.begin(), parameters.end(), needs_one))
      throw CommError("no parameter needs a gradient", 0, "make_gradient_reducer");
    return nullptr;
  }

  void mark_broken(const std::string& reason) override {
    std::lock_guard lock(mutex_);
    if (broken_) return;
    reason_ = reason;
    broken_ = true;
  }
  bool is_broken() const noexcept override { return broken_; }
  void rebuild() override {
    std::lock_guard lock(mutex_);
    broken_ = false;
    exchanging_ = false;
    ++generation_;
  }

 private:
  void require_sound(const char* operation) const {
    if (!broken_) return;
    std::lock_guard lock(mutex_);
    throw CommError("the group is broken: " + reason_, 0, operation);
  }
  static void require_rank(int rank, const char* operation) {
    if (rank != 0) throw CommError("there is no rank " + std::to_string(rank) + " in a group of 1", 0, operation);
  }

  mutable std::mutex mutex_;
  std::string reason_;
  std::atomic<bool> broken_ = false;
  std::atomic<std::int64_t> generation_ = 0;
  bool exchanging_ = false;
  StepRows rows_;
};

}  // namespace

std::shared_ptr<Group> make_single_process_group() { return std::make_shared<SingleProcessGroup>(); }

}  // namespace treadle
