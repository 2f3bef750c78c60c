#pragma once

#include <comm/link.hpp>

#include <chrono>
#include <string>

namespace treadle {

/// Who comes to a meeting of the ranks at the store.
struct Meeting {
  std::string name;  ///< of its keys; not used before
  int rank = 0;
  int world_size = 1;
  int machine = 0;                       ///< the first rank on this rank's machine
  std::chrono::milliseconds patience{};  ///< how long to wait for absent ranks
  bool go_on_without = false;            ///< the meeting is then held without them; otherwise it fails
};

/// This rank's place among those that came.
struct Place {
  int rank = 0, world_size = 1;
  int local_rank = 0, local_size = 1;
};

/// Waits until all ranks are there, or patience is over. The ranks that came keep their order. All of them agree on who came:
/// the first whose patience ends decides. Throws CommError that names the absent ranks when the meeting fails, or says that it
/// was held without this rank; std::exception when the store does not answer within `timeout`.
Place meet(Store& store, const Meeting& meeting, std::chrono::milliseconds timeout);

}  // namespace treadle
