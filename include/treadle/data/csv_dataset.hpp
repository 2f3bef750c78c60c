#pragma once

#include <treadle/data/dataset.hpp>

#include <filesystem>
#include <string>
#include <vector>

namespace treadle {

struct CsvOptions {
  std::filesystem::path file{};
  char delimiter = ',';
  bool header = true;                  ///< the first line names the columns; without it they are called "0", "1", …
  std::vector<std::string> targets{};  ///< columns that are not features; none, one, or several
  std::int64_t num_classes = 0;        ///< above 0: the only target is a class, an integer in [0, num_classes)
};
void validate(const CsvOptions& options);

/// A table of numbers in a text file, read whole: one sample a line, one number a cell (decimal point, as `std::from_chars`
/// reads it), blanks around cells and empty lines ignored, a cell may stand in double quotes. Fields: "x", the features as a
/// float32 tensor of shape (F), in the order of their columns; for targets "y", a float32 tensor of shape (T), in the order of
/// `CsvOptions::targets`; for a class "label", an integer, in place of "y". A batch has "x" (B, F), "y" (B, T) and "label" (B).
///
/// Throws IoError when the file cannot be read, ConfigError when a target is no column or no feature is left, and FormatError
/// that begins with FILE:LINE when a line has another number of cells than the first, a cell holds no finite number, a class is
/// out of range, or there is no sample at all.
class CsvDataset final : public Dataset {
 public:
  explicit CsvDataset(const CsvOptions& options);
  std::int64_t size() const override { return rows_.size(); }
  Sample get(std::int64_t index, Rng& rng) const override;
  std::optional<Dict> get_batch(std::span<const std::int64_t> indices, BatchMemory* memory = nullptr) const override;
  std::optional<std::int64_t> label(std::int64_t index) const override { return rows_.label(index); }
  /// The names of the columns of "x".
  const std::vector<std::string>& features() const noexcept { return features_; }

 private:
  std::vector<std::string> features_;
  TensorDataset rows_;
};

}  // namespace treadle
