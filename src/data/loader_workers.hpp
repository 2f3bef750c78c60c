#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace treadle {

/// Threads that run tasks in the order of their submission. All functions belong to one thread.
class LoaderWorkers {
 public:
  /// One piece of work. `run` must not throw, and comes soon to its end after `cancel`, which any thread may call. `worker` is
  /// the number of the thread.
  class Task {
   public:
    virtual ~Task() = default;
    virtual void run(int worker) noexcept = 0;
    virtual void cancel() noexcept = 0;

   private:
    friend class LoaderWorkers;
    std::atomic<bool> done_ = false;  // written under mutex_
  };

  explicit LoaderWorkers(int count);
  /// Cancels what is under way and waits for it; what has not begun is dropped.
  ~LoaderWorkers();
  LoaderWorkers(const LoaderWorkers&) = delete;
  LoaderWorkers& operator=(const LoaderWorkers&) = delete;

  void submit(std::shared_ptr<Task> task);
  /// Returns when `task`, which was submitted, is done.
  void wait(const Task& task);
  /// Cancels every submitted task that is not done, and forgets those that have not begun.
  void cancel_all();
  /// Returns when no task runs and none waits.
  void wait_until_idle();
  /// From now on `count` threads, at least one. A thread that goes finishes its task first; nobody waits for it.
  void resize(int count);

 private:
  struct Worker {
    std::thread thread;
    std::shared_ptr<Task> running;  // null when it is idle
    bool alive = false;
  };
  void work(std::size_t self);
  void stop_all();

  std::mutex mutex_;
  std::condition_variable submitted_;
  std::condition_variable finished_;
  std::deque<std::shared_ptr<Task>> waiting_;
  std::deque<Worker> workers_;  // its elements never move
  std::size_t wanted_ = 0;      // those beyond it go
};

/// Makes parallel regions of LibTorch that this thread enters run on this thread alone.
void use_one_thread_for_math();

}  // namespace treadle
