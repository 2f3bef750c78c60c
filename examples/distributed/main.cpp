// Two processes train one model: launch() starts them, and a DistributedModel averages their gradients. Each draws its own
// samples of y = 2 a - b, and both end with the same weights.
#include <treadle/data/batch_source.hpp>
#include <treadle/engine.hpp>
#include <treadle/launch.hpp>
#include <treadle/models/make_model.hpp>

#include <torch/torch.h>

#include <cstdio>

using namespace treadle;

int train(const std::shared_ptr<Group>& group) {
  torch::nn::Linear net(torch::nn::LinearOptions(2, 1).bias(false));
  auto model =
      create_ddp_model(make_model(net,
                                  [](auto& module, const Batch& batch) -> LossDict {
                                    return {{"mse", torch::mse_loss(module->forward(batch.tensor("x")), batch.tensor("y"))}};
                                  }),
                       group);
  torch::manual_seed(group->get_rank());
  auto source = make_batch_source([]() -> std::optional<Batch> {
    auto x = torch::randn({16, 2});
    return Batch(Dict{{"x", x}, {"y", torch::matmul(x, torch::tensor({{2.0f}, {-1.0f}}))}});
  });
  torch::optim::SGD optimizer(model->parameters(), 0.1);
  SimpleTrainer trainer(model, *source, optimizer, {.trainer = {.group = group}});
  trainer.train(0, 100);

  const auto weight = [&](int column) { return net->weight[0][column].item<double>(); };
  const List all = group->all_gather(Value(net->weight.detach()));
  const bool equal = all[0].as_tensor().equal(all[all.size() - 1].as_tensor());
  if (group->is_main_process()) {
    std::printf("%d processes found y = %.3f a + %.3f b, with %s weights\n", group->get_world_size(), weight(0), weight(1),
                equal ? "equal" : "different");
  }
  return 0;
}

int main() { return launch(train, {.num_processes = 2}); }
