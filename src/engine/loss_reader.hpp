#pragma once

#include <treadle/engine/step_exchange.hpp>
#include <treadle/models/loss_dict.hpp>

#include <c10/core/Event.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace treadle {

/// Brings the losses of the batches of one step to the host: those of a device all together, so that it is waited for once.
class LossReader {
 public:
  /// Throws Error when a batch that is not the first has losses of other names.
  void add(const LossDict& losses, bool first, std::int64_t iteration);
  /// Starts to copy what is on a device, so that a later `read` finds it there. May be left out.
  void prefetch();
  /// The mean of each loss over the batches. Waits for the device.
  void read(NamedNumbers& means);
  /// Makes `read` give these.
  void set(const NamedNumbers& means);

 private:
  void begin(const LossDict& losses);
  void check_names(const LossDict& losses, std::int64_t iteration) const;
  void add_from(std::size_t first, const LossDict& losses);
  at::Tensor packed() const;
  void take(const at::Tensor& numbers);

  NamedNumbers sums_;
  std::int64_t batches_ = 0;
  std::vector<at::Tensor> on_device_;  // one per batch
  at::Tensor on_host_;                 // being filled by the device
  std::optional<c10::Event> filled_;
};

}  // namespace treadle
