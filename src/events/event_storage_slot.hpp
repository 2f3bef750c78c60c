#pragma once

#include <treadle/events/event_storage.hpp>

namespace treadle {

/// A scalar: registered, and known to the outside once its history has a value.
struct EventStorage::Slot {
  std::string name;
  bool smoothing_hint;
  HistoryBuffer history;
  std::uint32_t next = 0;  // the slot looked up after this one, the last time
};

}  // namespace treadle
