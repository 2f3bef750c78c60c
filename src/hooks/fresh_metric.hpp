#pragma once

#include <treadle/events/event_storage.hpp>

#include <optional>
#include <string>

namespace treadle::hooks {

/// The value of `metric` recorded in the iteration under way; an older one says nothing about the model as it is now.
inline std::optional<double> fresh_metric(const EventStorage& storage, const std::string& metric) {
  const HistoryBuffer* history = storage.find_history(metric);
  if (history == nullptr || history->size() == 0) return std::nullopt;
  const HistoryBuffer::Sample& newest = (*history)[history->size() - 1];
  if (newest.iteration != storage.iter()) return std::nullopt;
  return newest.value;
}

}  // namespace treadle::hooks
