#pragma once

#include <unistd.h>

#include <stdexcept>

namespace treadle {

/// Lets one process wait for others outside of their group; made before they are forked. A rank that has left a collective does
/// not know whether the others have: before it dies it waits until they say so.
class Bell {
 public:
  Bell() {
    if (pipe(ends_) != 0) throw std::runtime_error("pipe failed");
  }
  ~Bell() {
    close(ends_[0]);
    close(ends_[1]);
  }
  Bell(const Bell&) = delete;
  Bell& operator=(const Bell&) = delete;

  void ring() {
    if (write(ends_[1], "", 1) != 1) throw std::runtime_error("write failed");
  }
  void wait_for(int rings) {
    char byte;
    while (rings-- > 0) {
      if (read(ends_[0], &byte, 1) != 1) throw std::runtime_error("read failed");
    }
  }

 private:
  int ends_[2];
};

}  // namespace treadle
