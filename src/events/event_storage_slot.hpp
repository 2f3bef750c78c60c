#pragma once

#include <treadle/events/event_storage.hpp>

namespace treadle {

/// A scalar: registered, and known to the outside once its history has a value.
struct EventStorage::Slot {
  std::string name;
  bool smoothing_hint;
  HistoryBuffer history;
};

}  // namespace treadle
