// Treadle's optimizers against LibTorch's in the same process, on one thread. The two take turns, and the medians over the turns
// are compared, so that a busy machine slows both. A turn is one step ("step about", when the other has emptied the cache), or
// several, as in a loop that does nothing else. Each comparison is a process of its own, and says how its allocator treats large
// tensors, because LibTorch's AdamW makes two temporary tensors for each parameter: `fresh` gives memory back at once, as happens
// to a process that does nothing but step such an optimizer, so that each step begins with page faults; `kept` keeps it, as may
// happen beside a large model. glibc decides by what it has seen, and with tensors of one size changes its mind from run to run.
// Prints one line for each comparison; with an argument, only those whose line begins with it.

#include <benches/report.hpp>
#include <benches/timing.hpp>
#include <treadle/solver/adamw.hpp>
#include <treadle/solver/lr_scheduler.hpp>
#include <treadle/solver/optimizer_state.hpp>
#include <treadle/solver/sgd.hpp>
#include <treadle/solver/with_gradient_clipping.hpp>

#include <ATen/Parallel.h>
#include <ATen/ops/randn.h>
#include <fmt/format.h>
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace {

using treadle::median;
using treadle::seconds;

using treadle::AdamOptions;
using treadle::SgdOptions;
using Tensors = std::vector<at::Tensor>;
using Optimizer = torch::optim::Optimizer;

struct Times {
  double mine;
  double theirs;
};

Times alternate(const std::function<void()>& mine, const std::function<void()>& theirs, int rounds, int steps_of_a_turn) {
  auto turn = [&](const std::function<void()>& step) {
    return seconds([&] {
             for (int k = 0; k < steps_of_a_turn; ++k) step();
           }) /
           steps_of_a_turn;
  };
  turn(mine), turn(theirs);
  std::vector<double> mine_times, theirs_times;
  for (int round = 0; round < rounds; ++round) {
    mine_times.push_back(turn(mine));
    theirs_times.push_back(turn(theirs));
  }
  return {median(mine_times), median(theirs_times)};
}

Tensors parameters(std::int64_t count, std::int64_t size) {
  Tensors params;
  for (std::int64_t i = 0; i < count; ++i) {
    params.push_back(at::randn({size}).set_requires_grad(true));
    params.back().mutable_grad() = at::randn({size}) * 0.01;
  }
  return params;
}

void report(const std::string& what, Times times, treadle::Asked asked) {
  treadle::report({.what = what,
                   .unit = "us",
                   .ours = times.mine * 1e6,
                   .peer = "torch::optim",
                   .theirs = times.theirs * 1e6,
                   .asked = asked});
}

struct Size {
  std::int64_t count;
  std::int64_t size;
  int rounds;
  int steps_of_a_turn;
  double sgd, adamw, fused_adamw;  // times that ours is asked to be faster; 0: nothing is asked
};

treadle::Asked faster(double times) { return times > 0 ? treadle::Asked::faster_at_least(times) : treadle::Asked::nothing(); }

std::string chosen;
bool all_succeeded = true;

void in_a_process_of_its_own(const std::function<void()>& run) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    run();
    std::fflush(stdout);
    _exit(0);
  }
  int status = 0;
  if (child > 0 && waitpid(child, &status, 0) == child && status == 0) return;
  std::fprintf(stderr, "a comparison failed with status %d\n", status);
  all_succeeded = false;
}

enum class Freed { fresh, kept };

void set_allocator(Freed freed) {
  // 32 MiB is the most that glibc takes for the first.
  mallopt(M_MMAP_THRESHOLD, freed == Freed::kept ? 32 << 20 : 128 << 10);
  mallopt(M_TRIM_THRESHOLD, freed == Freed::kept ? 1 << 30 : 128 << 10);
}

void compare(const std::string& what, const std::function<std::unique_ptr<Optimizer>(const Tensors&)>& mine,
             const std::function<std::unique_ptr<Optimizer>(const Tensors&)>& theirs, Size size, double asked) {
  const std::string line = fmt::format("{}, {} x {}", what, size.count, size.size);
  if (!line.starts_with(chosen) || (treadle::quick() && asked == 0)) return;
  struct Way {
    Freed freed;
    int steps;
    std::string name;
    double asked;
  };
  for (const Way& way : {Way{Freed::fresh, size.steps_of_a_turn, "", asked}, Way{Freed::fresh, 1, ", step about", 0},
                         Way{Freed::kept, size.steps_of_a_turn, ", memory kept", 0}}) {
    if (!way.name.empty() && treadle::quick()) continue;
    if (way.freed == Freed::kept && size.size < 1000000) continue;  // small tensors are kept in any case
    in_a_process_of_its_own([&] {
      set_allocator(way.freed);
      Tensors my_params = parameters(size.count, size.size), their_params = parameters(size.count, size.size);
      auto a = mine(my_params), b = theirs(their_params);
      report(line + way.name, alternate([&] { a->step(); }, [&] { b->step(); }, treadle::rounds(size.rounds), way.steps),
             faster(way.asked));
    });
  }
}

void compare_optimizers(Size size) {
  auto torch_adamw = [](const Tensors& p) { return std::make_unique<torch::optim::AdamW>(p, torch::optim::AdamWOptions(1e-3)); };
  for (bool fused : {false, true}) {
    std::string suffix = fused ? ", fused" : "";
    for (const double weight_decay : {0.0, 1e-4}) {
      compare((weight_decay > 0 ? "SGD with momentum and weight decay" : "SGD with momentum") + suffix,
              [&](const Tensors& p) {
                return std::make_unique<treadle::Sgd>(p,
                                                      SgdOptions{.momentum = 0.9, .weight_decay = weight_decay, .fused = fused});
              },
              [&](const Tensors& p) {
                return std::make_unique<torch::optim::SGD>(
                    p, torch::optim::SGDOptions(1e-3).momentum(0.9).weight_decay(weight_decay));
              },
              size, fused ? 0 : size.sgd);
    }
    compare(
        "AdamW" + suffix,
        [&](const Tensors& p) { return std::make_unique<treadle::AdamW>(p, AdamOptions{.weight_decay = 0.01, .fused = fused}); },
        torch_adamw, size, fused ? size.fused_adamw : size.adamw);
  }
}

using Lanes = float __attribute__((vector_size(16)));

Lanes lanes_at(const float* numbers) {
  Lanes four;
  std::memcpy(&four, numbers, sizeof four);
  return four;
}

/// Reads numbers as fast as they come: in as many sums as hide the latency of adding.
[[gnu::noinline]] float sum_of(const float* numbers, std::int64_t size) {
  Lanes a = {}, b = {}, c = {}, d = {};
  for (std::int64_t i = 0; i + 16 <= size; i += 16) {
    a += lanes_at(numbers + i);
    b += lanes_at(numbers + i + 4);
    c += lanes_at(numbers + i + 8);
    d += lanes_at(numbers + i + 12);
  }
  const Lanes sum = a + b + c + d;
  return sum[0] + sum[1] + sum[2] + sum[3];
}

[[gnu::noinline]] void multiply(float* numbers, std::int64_t size, float factor) {
  for (std::int64_t i = 0; i + 4 <= size; i += 4) {
    const Lanes product = lanes_at(numbers + i) * factor;
    std::memcpy(numbers + i, &product, sizeof product);
  }
}

/// A pass that finds every gradient, and only reads it.
float read_all(const Tensors& params) {
  float sum = 0;
  for (const at::Tensor& param : params) {
    const at::Tensor& grad = param.grad();
    sum += sum_of(static_cast<const float*>(grad.unsafeGetTensorImpl()->data()), grad.numel());
  }
  return sum;
}

/// A pass that reads and writes every gradient.
void multiply_all(const Tensors& params, float factor) {
  for (const at::Tensor& param : params) {
    const at::Tensor& grad = param.grad();
    multiply(static_cast<float*>(grad.unsafeGetTensorImpl()->mutable_data()), grad.numel(), factor);
  }
}

/// Parameters whose gradients a backward pass has just written, that of the last parameter first.
struct FreshlyGiven {
  Tensors params;
  Tensors grads;

  explicit FreshlyGiven(Size size) : params(parameters(size.count, size.size)) {
    for (const at::Tensor& param : params) grads.push_back(param.grad().clone());
  }
  void give() const {
    for (std::size_t i = params.size(); i-- > 0;) {
      std::memcpy(params[i].grad().mutable_data_ptr(), grads[i].const_data_ptr(), grads[i].nbytes());
    }
  }
  /// The mean time of `steps` calls, each with gradients given anew, which is not counted.
  double time(const std::function<void()>& step, int steps) const {
    double sum = 0;
    for (int k = 0; k < steps; ++k) {
      give();
      sum += seconds(step);
    }
    return sum / steps;
  }
};

/// What full-model clipping adds to a step, against one pass over all gradients: with a norm below the limit one that reads them,
/// with a norm above it, where gradients change, one that reads and writes them.
void compare_clipping(Size size, bool above) {
  const FreshlyGiven plain_side(size), clipping_side(size), pass_side(size);
  treadle::Sgd plain(plain_side.params, SgdOptions{.momentum = 0.9});
  const treadle::GradientClippingOptions clip{
      .enabled = true, .type = treadle::ClipType::full_model, .clip_value = above ? 1e-3 : 1e9};
  treadle::WithGradientClipping<treadle::Sgd> clipping(clip, clipping_side.params, SgdOptions{.momentum = 0.9});
  volatile float sink = 0, one = 1;
  const auto pass_over_all = [&] {
    if (above) {
      multiply_all(pass_side.params, one);
    } else {
      sink = read_all(pass_side.params);
    }
  };
  std::vector<double> added, passes;
  const int rounds = 1 + treadle::rounds(2 * size.rounds + 1);
  for (int round = 0; round < rounds; ++round) {
    const double with = clipping_side.time([&] { clipping.step(); }, size.steps_of_a_turn);
    const double without = plain_side.time([&] { plain.step(); }, size.steps_of_a_turn);
    const double pass = pass_side.time(pass_over_all, size.steps_of_a_turn);
    if (round == 0) continue;
    added.push_back(with - without);
    passes.push_back(pass);
  }
  treadle::report(
      {.what = fmt::format("clipping adds to SGD, {} x {}, norm {} the limit", size.count, size.size, above ? "above" : "below"),
       .unit = "us",
       .ours = median(added) * 1e6,
       .peer = above ? "one pass that reads and writes" : "one reading pass",
       .theirs = median(passes) * 1e6,
       .asked = treadle::Asked::ratio_at_most(1)});
}

/// Gradients are put back for every round, outside the time that counts.
void compare_host_work() {
  const int kRounds = treadle::rounds(301);
  Tensors mine = parameters(100, 10), theirs = parameters(100, 10);
  treadle::Sgd a(mine, SgdOptions{.momentum = 0.9});
  torch::optim::SGD b(theirs, torch::optim::SGDOptions(1e-3).momentum(0.9));
  auto run = [](const Tensors& params, Optimizer& optimizer) {
    Tensors grads;
    for (const at::Tensor& param : params) grads.push_back(param.grad());
    double time = seconds([&] {
      optimizer.step();
      optimizer.zero_grad();
    });
    for (std::size_t i = 0; i < params.size(); ++i) params[i].mutable_grad() = grads[i];
    return time;
  };
  std::vector<double> mine_times, theirs_times;
  for (int round = 0; round < kRounds; ++round) {
    mine_times.push_back(run(mine, a));
    theirs_times.push_back(run(theirs, b));
  }
  report("a step and zero_grad of 100 x 10", {median(mine_times), median(theirs_times)}, faster(5));
}

void time_schedule() {
  treadle::ParamScheduler schedule =
      treadle::build_param_scheduler({.name = "WarmupCosineLR", .max_iter = 90000, .base_lr = 0.1});
  constexpr int kCalls = 90000;
  double sum = 0;
  std::vector<double> times;
  for (int round = 0; round < treadle::rounds(11); ++round) {
    times.push_back(seconds([&] {
      for (int k = 0; k < kCalls; ++k) sum += schedule(static_cast<double>(k) / kCalls);
    }));
  }
  if (std::isnan(sum)) std::abort();
  treadle::report({.what = "a value of warm-up and cosine",
                   .unit = "ns",
                   .ours = median(times) / kCalls * 1e9,
                   .asked = treadle::Asked::at_most(100)});
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) chosen = argv[1];
  at::set_num_threads(1);
  for (Size size :
       {Size{1000, 1000, 9, 100, 10, 4, 10}, Size{100, 10000, 25, 100, 0, 0, 0}, Size{10, 4000000, 7, 3, 2, 2.5, 8}}) {
    if (treadle::quick() && size.sgd == 0) continue;
    if (treadle::quick()) size.steps_of_a_turn = std::max(2, size.steps_of_a_turn / 5);
    compare_optimizers(size);
    for (const bool above : {false, true}) {
      if (std::string("clipping").starts_with(chosen)) in_a_process_of_its_own([&] { compare_clipping(size, above); });
    }
  }
  if (chosen.empty()) {
    in_a_process_of_its_own(compare_host_work);
    time_schedule();
  }
  return all_succeeded ? 0 : 1;
}
