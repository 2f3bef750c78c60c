#pragma once

#include <launch/clock.hpp>
#include <launch/descriptor.hpp>

#include <cstdint>
#include <optional>
#include <string>

namespace treadle {

/// What a rank tells the launcher before it ends.
struct RankReport {
  enum class Kind : std::int32_t {
    finished,       ///< main returned `status`
    failed,         ///< an exception, `text`
    lost_others,    ///< an exception that says the other ranks did not answer: the cause may be elsewhere
    wrong_settings  ///< an exception that comes again however often the run is started
  };
  Kind kind = Kind::finished;
  int local_rank = 0;
  std::int64_t generation = 0;
  int status = 0;
  Clock::time_point time{};
  std::string text{};
};

/// A socket on which every rank can send and the launcher reads, each report whole. Made before the ranks are; the sending end
/// is inherited by fork and closed by exec.
class ReportChannel {
 public:
  ReportChannel();
  /// Waits while the channel is full. Text beyond 8 kB is cut. Never throws: whoever reports has a worse problem already.
  void send(const RankReport& report) const noexcept;
  /// The next report, if one has come.
  std::optional<RankReport> receive() const;
  int descriptor() const noexcept { return reader_.get(); }
  void close_reader() noexcept { reader_.reset(); }
  void close_writer() noexcept { writer_.reset(); }

 private:
  Descriptor reader_, writer_;
};

}  // namespace treadle
