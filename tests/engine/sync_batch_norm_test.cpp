#include "tests/engine/distributed_net.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/models/sync_batch_norm.hpp>

#include <ATen/Parallel.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

namespace treadle {
namespace {

TEST(SyncBatchNorm, IsBatchNormOfTheWholeBatch) {
  for (int size : kSizes) {
    expect_ranks(size, [size](Group& group) {
      const auto options = torch::nn::BatchNorm2dOptions(4).momentum(0.3);
      SyncBatchNorm sync(options, borrow(group));
      torch::nn::BatchNorm2d alone(options);
      fill(*sync, 2);
      fill(*alone, 2);
      const auto whole = [&](double phase) { return numbers({size * 3, 4, 5, 2}, phase) * 3 + 1; };
      const auto own = [&](const at::Tensor& all) { return all.slice(0, group.get_rank() * 3, group.get_rank() * 3 + 3); };
      for (int step = 0; step < 2; ++step) {
        at::Tensor x_all = whole(step).requires_grad_(), x = own(whole(step)).clone().requires_grad_();
        const at::Tensor weights = whole(7.5);
        const at::Tensor y_all = alone(x_all), y = sync(x);
        EXPECT_LE((y - own(y_all)).abs().max().item<double>(), 2e-6 * y_all.abs().max().item<double>());
        alone->zero_grad();
        sync->zero_grad();
        (y_all * weights).sum().backward();
        (y * own(weights)).sum().backward();
        EXPECT_LE((x.grad() - own(x_all.grad())).abs().max().item<double>(), 5e-6 * x_all.grad().abs().max().item<double>());
        const List parts = group.all_gather(sync->weight.grad());
        at::Tensor sum = at::zeros_like(alone->weight);
        for (const Value& part : parts) sum += part.as_tensor();
        EXPECT_LE((sum - alone->weight.grad()).abs().max().item<double>(), 5e-6 * sum.abs().max().item<double>());
      }
      EXPECT_LE((sync->running_mean - alone->running_mean).abs().max().item<double>(), 1e-6);
      EXPECT_LE((sync->running_var - alone->running_var).abs().max().item<double>(), 1e-5);
      EXPECT_EQ(sync->num_batches_tracked.item<int>(), 2);
      sync->eval();
      alone->eval();
      EXPECT_LE((sync(whole(9)) - alone(whole(9))).abs().max().item<double>(), 1e-5);
    });
  }
  at::set_num_threads(1);  // or LibTorch starts some, and later tests fork ranks from this process
  SyncBatchNorm single(torch::nn::BatchNorm2dOptions(4), make_single_process_group());
  torch::nn::BatchNorm2d plain(4);
  EXPECT_TRUE(single(numbers({3, 4, 2, 2}, 0)).equal(plain(numbers({3, 4, 2, 2}, 0))));
  EXPECT_THROW(SyncBatchNorm(torch::nn::BatchNorm2dOptions(4), nullptr), Error);
}

// The numbers of one rank are those of a batch norm alone, since the other rank brings none.
TEST(SyncBatchNorm, AnEmptyBatchOfOneRankCountsForNothing) {
  expect_ranks(2, [](Group& group) {
    for (const bool tracks : {true, false}) {
      const auto options = torch::nn::BatchNorm2dOptions(4).momentum(0.3).track_running_stats(tracks);
      SyncBatchNorm sync(options, borrow(group));
      torch::nn::BatchNorm2d alone(options);
      fill(*sync, 2);
      fill(*alone, 2);
      const at::Tensor all = numbers({3, 4, 5, 2}, 1) * 3 + 1;
      const std::int64_t own = group.is_main_process() ? 3 : 0;
      at::Tensor x = all.slice(0, 0, own).clone().requires_grad_(), x_all = all.clone().requires_grad_();
      const at::Tensor y = sync(x), y_all = alone(x_all);
      (y * y).sum().backward();
      (y_all * y_all).sum().backward();
      EXPECT_EQ(y.sizes(), x.sizes());
      EXPECT_TRUE(at::allclose(y, y_all.slice(0, 0, own), 1e-5, 1e-5));
      EXPECT_TRUE(at::allclose(x.grad(), x_all.grad().slice(0, 0, own), 1e-5, 1e-5));
      EXPECT_FALSE(sync->weight.grad().isnan().any().item<bool>());
      if (tracks) {
        EXPECT_TRUE(at::allclose(sync->running_mean, alone->running_mean, 1e-5, 1e-6));
        EXPECT_TRUE(at::allclose(sync->running_var, alone->running_var, 1e-5, 1e-6));
        continue;
      }
      sync->eval();
      EXPECT_TRUE(at::allclose(sync(x), y, 1e-5, 1e-5));
    }
  });
}

}  // namespace
}  // namespace treadle
