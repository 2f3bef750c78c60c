#pragma once

#include "solver/adam_kernel.hpp"
#include "solver/tensor_layout.hpp"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/sqrt_cpu_dispatch.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

namespace treadle {

/// One parameter with all that its update reads and writes.
struct AdamUpdate {
  const at::Tensor& param;
  const at::Tensor& grad;
  const at::Tensor& exp_avg;
  const at::Tensor& exp_avg_sq;
  const at::Tensor& max_exp_avg_sq;  // undefined without amsgrad
  std::int64_t step;                 // this one included
};

inline bool kernel_takes(const AdamUpdate& update) {
  return kernel_can_walk(update.param) && same_walk(update.param, update.grad) && same_walk(update.param, update.exp_avg) &&
         same_walk(update.param, update.exp_avg_sq) &&
         (!update.max_exp_avg_sq.defined() || same_walk(update.param, update.max_exp_avg_sq));
}

/// Runs the kernel over the tensors of one dtype, block by block, so that a block is still in the cache when its second half
/// begins. The pieces of a block share one scratch for the square roots: one call of ATen for many small tensors. Its results do
/// not depend on where in a block a number lies.
template <class T>
class AdamBatch {
 public:
  void add(const AdamUpdate& update) {
    auto data = [](const at::Tensor& tensor) { return static_cast<T*>(tensor.unsafeGetTensorImpl()->mutable_data()); };
    AdamTensor<T> tensor{.param = data(update.param),
                         .grad = data(update.grad),
                         .exp_avg = data(update.exp_avg),
                         .exp_avg_sq = data(update.exp_avg_sq),
                         .max_exp_avg_sq = update.max_exp_avg_sq.defined() ? data(update.max_exp_avg_sq) : nullptr,
                         .denominator = nullptr,
                         .size = update.param.numel()};
    Pieces& pieces = by_step_[update.step];
    for (std::int64_t begin = 0; begin < tensor.size; begin += kBlock) pieces.add(tensor, begin);
  }

  void run(AdamScalars scalars) {
    for (auto& [step, pieces] : by_step_) {
      scalars.step = step;
      const AdamKernel<T> kernel(scalars);
      at::parallel_for(0, static_cast<std::int64_t>(pieces.blocks.size()), kParallelBlocks,
                       [&](std::int64_t begin, std::int64_t end) {
                         run_blocks(pieces, static_cast<std::size_t>(begin), static_cast<std::size_t>(end), kernel);
                       });
    }
  }

 private:
  static constexpr std::int64_t kBlock = 65536;
  static constexpr std::int64_t kParallelBlocks = 2;

  struct Pieces {
    std::vector<AdamTensor<T>> tensors;
    std::vector<std::size_t> blocks;  // the first piece of each
    std::int64_t used = kBlock;       // numbers in the last block

    void add(AdamTensor<T> tensor, std::int64_t begin) {
      tensor.param += begin;
      tensor.grad += begin;
      tensor.exp_avg += begin;
      tensor.exp_avg_sq += begin;
      if (tensor.max_exp_avg_sq) tensor.max_exp_avg_sq += begin;
      tensor.size = std::min(tensor.size - begin, kBlock);
      if (used + tensor.size > kBlock) {
        blocks.push_back(tensors.size());
        used = 0;
      }
      used += tensor.size;
      tensors.push_back(tensor);
    }

    std::int64_t size_of_block(std::size_t index) {
      std::int64_t size = 0;
      for (const AdamTensor<T>& piece : block(index)) size += piece.size;
      return size;
    }

    std::span<AdamTensor<T>> block(std::size_t index) {
      std::size_t end = index + 1 < blocks.size() ? blocks[index + 1] : tensors.size();
      return {tensors.data() + blocks[index], end - blocks[index]};
    }
  };

  static void run_blocks(Pieces& pieces, std::size_t begin, std::size_t end, const AdamKernel<T>& kernel) {
    std::int64_t largest = 0;
    for (std::size_t i = begin; i < end; ++i) largest = std::max(largest, pieces.size_of_block(i));
    // Zeros, because roots are also taken of what is left of a block behind its last piece.
    at::Tensor squares = at::zeros({largest}, c10::CppTypeToScalarType<T>::value);
    for (std::size_t i = begin; i < end; ++i) {
      std::span<AdamTensor<T>> block = pieces.block(i);
      std::int64_t used = place(block, squares);
      kernel.moments(block);
      take_roots(squares, used);
      kernel.update(block);
    }
  }

  /// Gives each piece its part of `squares`, and returns how much of it is used.
  static std::int64_t place(std::span<AdamTensor<T>> block, const at::Tensor& squares) {
    T* free = squares.mutable_data_ptr<T>();
    for (AdamTensor<T>& piece : block) {
      piece.denominator = free;
      free += piece.size;
    }
    return free - squares.const_data_ptr<T>();
  }

  static void take_roots(const at::Tensor& squares, std::int64_t used) {
    // A view costs more than the roots of the few numbers behind a nearly full block.
    at::Tensor roots = used + used / 8 < squares.numel() ? squares.narrow(0, 0, used) : squares;
    at::cpu::sqrt_(roots);
  }

  std::map<std::int64_t, Pieces> by_step_;
};

}  // namespace treadle
