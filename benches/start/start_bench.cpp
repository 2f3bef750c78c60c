// How long it takes from nothing to the end of the first step, on one thread, of the small network on 16 images:
//   `treadle train` with its config, data set, log, hooks and writers, until it reports the step (its checkpoint is saved by
//   then), a bare program of LibTorch alone, until it ends, Python that imports torch and does the same as the bare program,
//   until it ends.
// The three take turns; medians are compared. Then the same for four processes, against Python's that torchrun starts.

#include <benches/python_side.hpp>
#include <benches/report.hpp>
#include <benches/timing.hpp>
#include <tests/support/process.hpp>
#include <tests/support/temporary_folder.hpp>
#include <tests/support/tiny_fashion.hpp>

#include <filesystem>
#include <stdexcept>
#include <string>

namespace {

using namespace treadle;
namespace fs = std::filesystem;

constexpr int kTurns = 15;

constexpr const char* kPython = R"(
import torch
from torch import nn
torch.set_num_threads(1)
torch.manual_seed(1)
net = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.MaxPool2d(2),
                    nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.MaxPool2d(2), nn.Flatten(),
                    nn.Linear(64 * 7 * 7, 128), nn.Linear(128, 10))
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
loss = nn.functional.cross_entropy(net(torch.rand(16, 1, 28, 28)), torch.randint(0, 10, (16,)))
loss.backward()
optimizer.step()
print(loss.item())
)";

double run(const std::vector<std::string>& command) {
  ProcessResult result;
  const double taken = seconds([&] { result = run_process(command); });
  if (result.status != 0) throw std::runtime_error(command.front() + " failed: " + result.err);
  return taken;
}

/// Until the line that reports the first step.
double run_until_reported(const std::vector<std::string>& command) {
  const auto start = std::chrono::steady_clock::now();
  double reported = 0;
  const ProcessResult result = run_process(command, {}, [&](const std::string& out, pid_t) {
    if (reported == 0 && out.find("iter: 0 ") != std::string::npos)
      reported = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  });
  if (result.status != 0 || reported == 0) throw std::runtime_error(command.front() + " failed: " + result.err + result.out);
  return reported;
}

/// Four processes, until rank 0 reports the first step: ours start themselves, Python's by torchrun.
void start_of_processes(std::vector<std::string> train, const std::string& python, const TemporaryFolder& data) {
  train.insert(train.begin() + 2, {"--num-processes", "4"});
  const std::vector<std::string> torchrun = {python,
                                             "-m",
                                             "torch.distributed.run",
                                             "--standalone",
                                             "--nproc-per-node",
                                             "4",
                                             source_folder() + "/benches/start/ranks.py"};
  std::vector<double> ours, theirs;
  for (int turn = 0; turn < rounds(7); ++turn) {
    fs::remove_all(data / "run");
    ours.push_back(run_until_reported(train));
    if (fs::exists(python)) theirs.push_back(run_until_reported(torchrun));
  }
  Figure figure{.what = "4 processes, from nothing to the first step", .unit = "s", .ours = median(ours)};
  if (!theirs.empty()) {
    figure.peer = "torchrun, Python DDP";
    figure.theirs = median(theirs);
    figure.asked = Asked::ratio_at_most(1);
  }
  report(figure);
}

}  // namespace

int main(int, char** argv) {
  const fs::path folder = fs::canonical(argv[0]).parent_path();
  const std::string python = python_program();
  const TemporaryFolder data;
  write_tiny_fashion(data.path());
  const std::vector<std::string> train = {(folder.parent_path() / "bin/treadle").string(),
                                          "train",
                                          "--config-file",
                                          source_folder() + "/configs/fashion_mnist_cnn.yaml",
                                          "MODEL.DEVICE",
                                          "cpu",
                                          "DATASETS.TEST",
                                          "()",
                                          "SOLVER.IMS_PER_BATCH",
                                          "16",
                                          "SOLVER.MAX_ITER",
                                          "1",
                                          "SOLVER.WARMUP_ITERS",
                                          "0",
                                          "TREADLE.THREADS",
                                          "1",
                                          "TREADLE.DATA_DIR",
                                          data.path().string(),
                                          "OUTPUT_DIR",
                                          data / "run"};
  const bool has_python = fs::exists(python);
  if (!has_python) remark("no Python at " + python + ": its side is left out");
  std::vector<double> treadle, bare, imported;
  for (int turn = 0; turn < rounds(kTurns); ++turn) {
    fs::remove_all(data / "run");
    treadle.push_back(run_until_reported(train));
    bare.push_back(run({(folder / "bench_start_bare").string()}));
    if (has_python) imported.push_back(run({python, "-c", kPython}));
  }
  report({.what = "treadle train, from nothing to the first step",
          .unit = "s",
          .ours = median(treadle),
          .peer = "bare LibTorch program",
          .theirs = median(bare),
          .asked = Asked::ratio_at_most(2)});
  if (has_python)
    report({.what = "treadle train, from nothing to the first step",
            .unit = "s",
            .ours = median(treadle),
            .peer = "Python",
            .theirs = median(imported),
            .asked = Asked::ratio_at_most(1.0 / 3)});
  if (!quick()) start_of_processes(train, python, data);  // torchrun takes ten seconds to start on two cores
}
