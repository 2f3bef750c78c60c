#pragma once

#include <tests/support/process.hpp>
#include <tests/support/temporary_folder.hpp>
#include <tests/support/tiny_fashion.hpp>

#include <cstdlib>
#include <string>
#include <vector>

namespace treadle {

/// The command on a small data set, in a folder of its own.
struct Command {
  TemporaryFolder folder;
  std::string config = folder / "config.yaml";
  std::string output = folder / "run";

  Command() {
    write_tiny_fashion(folder.path());
    write_text(config,
               "MODEL: {META_ARCHITECTURE: ImageClassifier, DEVICE: cpu, BACKBONE: {NAME: SmallCnn}, PIXEL_MEAN: [100.0], "
               "PIXEL_STD: [60.0]}\n"
               "DATASETS: {TRAIN: \"('fashion_mnist_train',)\", TEST: \"('fashion_mnist_test',)\"}\n"
               "DATALOADER: {NUM_WORKERS: 1}\n"
               "SOLVER: {IMS_PER_BATCH: 16, BASE_LR: 0.05, MAX_ITER: 30, CHECKPOINT_PERIOD: 10,\n"
               "         LR_SCHEDULER_NAME: WarmupCosineLR, WARMUP_ITERS: 5}\n"
               "SEED: 3\n"
               "TREADLE: {THREADS: 1, DATA_DIR: " +
                   folder.path().string() +
                   "}\n"
                   "OUTPUT_DIR: " +
                   output +
                   "\n"
                   "VERSION: 2\n");
  }

  static std::string program() {
    const char* path = std::getenv("TREADLE_COMMAND");
    return path != nullptr ? path : "build/release/bin/treadle";
  }
  std::vector<std::string> words(std::vector<std::string> rest) const {
    std::vector<std::string> all = {program(), "train", "--config-file", config};
    all.insert(all.end(), rest.begin(), rest.end());
    return all;
  }
  ProcessResult train(std::vector<std::string> rest = {},
                      const std::function<void(const std::string&, pid_t)>& on_output = {}) const {
    return run_process(words(std::move(rest)), {}, on_output);
  }
};

}  // namespace treadle
