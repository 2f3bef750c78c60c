#pragma once

#include <tests/support/temporary_folder.hpp>
#include <tests/support/tiny_fashion.hpp>
#include <treadle/config/defaults.hpp>

#include <string>
#include <vector>

namespace treadle {

/// A data set of a few hundred images and the config of a run on it that takes a second.
struct TinyRun {
  TemporaryFolder data;
  TinyRun() { write_tiny_fashion(data.path()); }

  Config config(const std::string& output, const std::vector<std::string>& overrides = {}) const {
    Config config = default_config();
    const std::vector<std::string> settings = {"MODEL.META_ARCHITECTURE",
                                               "ImageClassifier",
                                               "MODEL.DEVICE",
                                               "cpu",
                                               "MODEL.BACKBONE.NAME",
                                               "SmallCnn",
                                               "MODEL.PIXEL_MEAN",
                                               "[100.0]",
                                               "MODEL.PIXEL_STD",
                                               "[60.0]",
                                               "DATASETS.TRAIN",
                                               "('fashion_mnist_train',)",
                                               "DATASETS.TEST",
                                               "('fashion_mnist_test',)",
                                               "DATALOADER.NUM_WORKERS",
                                               "1",
                                               "TREADLE.DATA_DIR",
                                               data.path().string(),
                                               "TREADLE.THREADS",
                                               "1",
                                               "SOLVER.IMS_PER_BATCH",
                                               "16",
                                               "SOLVER.BASE_LR",
                                               "0.05",
                                               "SOLVER.NESTEROV",
                                               "True",
                                               "SOLVER.LR_SCHEDULER_NAME",
                                               "WarmupCosineLR",
                                               "SOLVER.WARMUP_ITERS",
                                               "3",
                                               "SOLVER.MAX_ITER",
                                               "12",
                                               "SOLVER.CHECKPOINT_PERIOD",
                                               "5",
                                               "TEST.EVAL_PERIOD",
                                               "4",
                                               "SEED",
                                               "3",
                                               "OUTPUT_DIR",
                                               output};
    config.merge_from_list(std::span<const std::string>(settings));
    config.merge_from_list(std::span<const std::string>(overrides));
    return config;
  }
};

}  // namespace treadle
