#pragma once

#include <treadle/base/stateful.hpp>

#include <cstdint>
#include <memory>
#include <string>

namespace treadle {

class EventStorage;

/// Brings what an EventStorage holds to where somebody reads it. Called on the thread that owns the storage, on the main process
/// only.
class EventWriter : public Stateful {
 public:
  /// Writes what is new since the last call. A writer may put derived scalars (`eta_seconds`) into the storage and takes images
  /// and histograms out of it. Throws IoError when the operating system refuses.
  virtual void write(EventStorage& storage) = 0;
  /// Finishes the files, at the end of a run; a second call does nothing. A later `write`, of a further run, opens them again.
  virtual void close() {}

  /// What a resumed run needs so that its files hold one history. Empty, and any state is accepted, unless a writer says
  /// otherwise.
  Dict state_dict() const override { return {}; }
  void check_state_dict(const Dict&) const override {}
  void load_state_dict(const Dict&) override {}
};

/// Keeps a run alive when a writer cannot write. The first failure of the operating system (IoError, std::system_error,
/// std::ios_base::failure) is logged as a warning and pauses the writer: the next call is skipped, and after each further failure
/// twice as many, up to 64. When it works again that is logged too. Other exceptions pass through. Threads as EventWriter.
class GuardedWriter final : public EventWriter {
 public:
  /// `name` stands in the messages ("metrics.json"). Throws Error when `writer` is null.
  GuardedWriter(std::unique_ptr<EventWriter> writer, std::string name);
  void write(EventStorage& storage) override;
  void close() override;
  /// The next call tries again, however many were to be passed over: for the last write of a run.
  void retry() noexcept { skip_ = 0; }
  bool paused() const noexcept { return failures_ > 0; }

  /// The state of the writer inside. A load that the operating system refuses pauses the writer too.
  Dict state_dict() const override;
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;

 private:
  template <class F>
  void guard(F&& action);
  void failed(const char* what);

  std::unique_ptr<EventWriter> writer_;
  std::string name_;
  std::int64_t failures_ = 0;  // in a row
  std::int64_t skip_ = 0;      // calls to pass over
};

}  // namespace treadle
