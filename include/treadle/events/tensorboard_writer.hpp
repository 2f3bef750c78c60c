#pragma once

#include <treadle/events/writer.hpp>

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace treadle {

struct TensorBoardWriterOptions {
  std::filesystem::path folder{};  ///< made when absent; each writer adds a file `events.out.tfevents.…` of its own
  std::int64_t window = 20;        ///< iterations over which smoothed scalars are reduced to their median, at least 1
  /// Hyper-parameters of the run (bool, int, float or string each) for the HParams page, and the scalars shown there.
  std::vector<std::pair<std::string, Value>> hparams{};
  std::vector<std::string> hparam_metrics{};
  std::function<double()> clock{};         ///< seconds since 1970 for the events; empty: the system clock
  std::chrono::milliseconds max_delay{0};  ///< as for JSONWriter
};
/// Throws ConfigError when a field is out of range.
void validate(const TensorBoardWriterOptions& options);

/// Event files that TensorBoard reads: scalars (the same values as JSONWriter), images, histograms, hyper-parameters. Takes
/// images and histograms out of the storage. Format: TFRecord frames (length, masked crc32c) around tensorflow.Event messages. A
/// resumed run writes a new file that begins with the order to forget steps past the resumed one. Threads as EventWriter.
class TensorBoardWriter final : public EventWriter {
 public:
  /// Makes the file. Throws ConfigError (see validate), IoError.
  explicit TensorBoardWriter(TensorBoardWriterOptions options);
  ~TensorBoardWriter() override;

  void write(EventStorage& storage) override;
  void close() override;
  const std::filesystem::path& file() const noexcept;

  Dict state_dict() const override;
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace treadle
