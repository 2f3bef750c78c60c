// A step of the engine takes no memory from operator new beyond what the same calls by hand take.
#include <treadle/base/log.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/engine/simple_trainer.hpp>
#include <treadle/events/json_writer.hpp>
#include <treadle/hooks.hpp>
#include <treadle/models/make_model.hpp>
#include <treadle/solver/lr_scheduler.hpp>
#include <treadle/solver/optimizer_state.hpp>
#include <treadle/solver/sgd.hpp>

#include <tests/support/count_news.hpp>
#include <tests/support/temporary_folder.hpp>

#include <ATen/Parallel.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

namespace treadle {
namespace {

constexpr std::int64_t kPeriod = 20, kSteps = 3 * kPeriod;

at::Tensor loss_of(torch::nn::Linear& net, const at::Tensor& x) { return net->forward(x).square().mean(); }

TEST(Allocations, AStepTakesNoneBeyondItsOperators) {
  at::set_num_threads(1);
  const LogCapture quiet([](LogLevel, std::string_view) {});
  const TemporaryFolder folder;
  const at::Tensor x = at::randn({4, 16});
  torch::nn::Linear net(16, 1);
  Sgd optimizer(net->parameters(), SgdOptions{.lr = 1e-3, .momentum = 0.9});

  double sum = 0;
  const at::Tensor one = at::ones({});
  const auto step_by_hand = [&] {
    const at::Tensor loss = loss_of(net, x), half = loss * 0.5;
    // Without what LibTorch's `item`, `zero_grad` and `backward` take beyond that: the engine does not need it either.
    sum += *loss.const_data_ptr<float>() + *half.const_data_ptr<float>();
    zero_grad(optimizer);
    (loss + half).backward(one);
    optimizer.step();
  };
  for (int i = 0; i < 3; ++i) step_by_hand();
  std::int64_t before = count_news();
  for (std::int64_t i = 0; i < kPeriod - 2; ++i) step_by_hand();
  const std::int64_t by_hand = count_news() - before;
  EXPECT_GT(by_hand, 0);  // of LibTorch: the counter works

  // Batches are made ahead, as the threads of a loader do.
  std::vector<Batch> ahead(kSteps, Batch(Dict{{"image", x}}, std::vector<std::int64_t>{1, 2, 3, 4}));
  auto source = make_batch_source(
      std::function<std::optional<Batch>()>([&, next = std::size_t{0}]() mutable { return std::move(ahead[next++]); }));
  LRMultiplier schedule(optimizer, ConstantParamScheduler(1), {.max_iter = 1000});
  auto model = make_model(net, [](torch::nn::Linear& module, const Batch& batch) -> LossDict {
    const at::Tensor loss = loss_of(module, batch.tensor("image"));
    return {{"loss_cls", loss}, {"loss_half", loss * 0.5}};
  });
  SimpleTrainer trainer(model, *source, optimizer);
  std::int64_t by_trainer = 0;
  trainer.add_hook<hooks::IterationTimer>();
  trainer.add_hook<hooks::LRScheduler>(optimizer, schedule);
  trainer.add_hook<hooks::CallbackHook>(hooks::Callbacks{.before_step = [&](TrainerBase& t) {
    // From the first step behind a write to the last in front of one.
    if (t.iter() == kPeriod + 1) before = count_news();
    if (t.iter() == 2 * kPeriod - 1) by_trainer = count_news() - before;
  }});
  trainer.add_hook<hooks::EvalHook>([] { return Dict(); }, hooks::EvalHookOptions{.eval_after_train = false});
  trainer.add_hook<hooks::EarlyStopping>(hooks::EarlyStoppingOptions{.metric = "absent"});
  std::vector<hooks::PeriodicWriter::NamedWriter> writers;
  writers.emplace_back("metrics.json", std::make_unique<JSONWriter>(JSONWriterOptions{.file = folder / "metrics.json"}));
  trainer.add_hook<hooks::PeriodicWriter>(std::move(writers), kPeriod);
  trainer.train(0, kSteps);
  EXPECT_EQ(by_trainer, by_hand);
}

}  // namespace
}  // namespace treadle
