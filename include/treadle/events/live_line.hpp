#pragma once

#include <treadle/events/writer.hpp>

#include <functional>
#include <optional>
#include <string_view>

namespace treadle {

struct LiveLineOptions {
  std::optional<std::int64_t> max_iter{};        ///< where the run ends; without it no ETA is shown
  std::int64_t images_per_batch = 0;             ///< of all processes together; 0: no images/s
  std::int64_t window = 20;                      ///< iterations over which values are reduced to their median, at least 1
  std::function<int()> width{};                  ///< columns, less than 1 for no terminal; empty: those of the terminal on stdout
  std::function<void(std::string_view)> show{};  ///< empty: set_status_line
};
/// Throws ConfigError when a field is out of range.
void validate(const LiveLineOptions& options);

/// The last line of the terminal, rewritten at each call:
///
///     iter 1240/2345 | eta 0:00:41 | total_loss 0.312 | lr 0.0871 | 3412 images/s | data wait 2%
///
/// Losses follow total_loss where there is room; parts that do not fit the width are left out, the last ones first. Writes
/// nothing where there is no terminal. `close` removes the line. Threads as EventWriter.
class LiveLine final : public EventWriter {
 public:
  explicit LiveLine(LiveLineOptions options = {});
  void write(EventStorage& storage) override;
  void close() override;

 private:
  LiveLineOptions options_;
  bool shown_ = false;
};

}  // namespace treadle
