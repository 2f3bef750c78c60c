#pragma once

#include <treadle/checkpoint/checkpointer.hpp>

namespace treadle {

/// A Checkpointer that also reads what Detectron2 reads:
/// - `.pkl` of its model zoo, of Caffe2 and Detectron 1 (blobs renamed, momenta dropped), `.pyth` of pycls;
/// - a file without "model", and every `.safetensors` file, is taken as the model's state itself;
/// - `path?matching_heuristics=True` matches names by their longest suffix, whatever the format. Any other query behind the name
///   of the file is a ConfigError, but for `.pkl` and `.pyth` files, of which Detectron2 reads none.
/// A missing pixel_mean or pixel_std and an unexpected anchor buffer are not reported. When only the main process sees the file,
/// it reads and broadcasts. Loop thread only.
class DetectionCheckpointer : public Checkpointer {
 public:
  using Checkpointer::Checkpointer;

  Dict load(const std::string& path, const std::optional<std::vector<std::string>>& checkpointables = std::nullopt) override;

 protected:
  Dict load_file(const std::string& path) override;
  /// Reads a `.pth` or `.pyth` file.
  virtual Value torch_load(const std::string& path);
  ModelLoad load_model(Dict& checkpoint) override;

 private:
  Dict read_layout(const std::string& path);
  std::string query_;  // of the load under way
};

}  // namespace treadle
