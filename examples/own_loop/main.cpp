// A loop written by hand that takes four parts of Treadle: a storage of metrics, a writer, a schedule and a checkpointer.
// It stops in the middle, and goes on from its checkpoint with another set of objects, as a second process would.
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/events/event_storage.hpp>
#include <treadle/events/json_writer.hpp>
#include <treadle/solver/lr_scheduler.hpp>
#include <treadle/solver/optimizer_state.hpp>

#include <torch/torch.h>

#include <filesystem>
#include <iostream>

using namespace treadle;

std::int64_t run_until(std::int64_t last_iter) {
  torch::manual_seed(0);
  torch::nn::Linear net(3, 1);
  torch::optim::SGD optimizer(net->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
  LRMultiplier schedule(optimizer, CosineParamScheduler(1.0, 0.0), {.max_iter = 200});
  EventStorage storage;
  JSONWriter writer({.file = "output/own_loop/metrics.json"});

  auto optimizer_state = optimizer_stateful(optimizer);
  Checkpointer checkpointer(*net, "output/own_loop");
  checkpointer.add_checkpointable("optimizer", *optimizer_state);
  checkpointer.add_checkpointable("schedule", schedule);
  checkpointer.add_checkpointable("metrics", storage);
  checkpointer.add_checkpointable("writer", writer);
  const Dict rest = checkpointer.resume_or_load("");
  const std::int64_t first_iter = rest.contains("iteration") ? rest.at("iteration").as_int() + 1 : 0;

  CurrentEventStorage current(storage);
  for (std::int64_t iteration = first_iter; iteration < last_iter; ++iteration) {
    storage.set_iter(iteration);
    auto x = torch::randn({32, 3});
    auto loss = torch::mse_loss(net(x), x.sum(1, true));
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    storage.put_scalar("loss", loss.detach());
    storage.put_scalar("lr", schedule.get_last_lr().front(), /*smoothing_hint=*/false);
    schedule.step();
    if ((iteration + 1) % 20 == 0) writer.write(storage);
    if ((iteration + 1) % 100 == 0) checkpointer.save("model_" + std::to_string(iteration), {{"iteration", iteration}});
  }
  writer.close();
  return first_iter;
}

int main() {
  std::filesystem::remove_all("output/own_loop");
  std::filesystem::create_directories("output/own_loop");
  run_until(130);
  const std::int64_t first_iter = run_until(200);
  std::cout << "went on from iteration " << first_iter << "\n";
}
