#include "data/loader_workers.hpp"

#include <ATen/Parallel.h>
#include <dlfcn.h>

#include <algorithm>

namespace treadle {

LoaderWorkers::LoaderWorkers(int count) {
  try {
    resize(count);
  } catch (...) {  // the system has no thread left: those that did start must not outlive this object
    stop_all();
    throw;
  }
}

LoaderWorkers::~LoaderWorkers() { stop_all(); }

void LoaderWorkers::stop_all() {
  cancel_all();
  {
    std::lock_guard lock(mutex_);
    wanted_ = 0;
  }
  submitted_.notify_all();
  for (Worker& worker : workers_) {
    if (worker.thread.joinable()) worker.thread.join();
  }
}

void LoaderWorkers::resize(int count) {
  std::unique_lock lock(mutex_);
  wanted_ = static_cast<std::size_t>(count);
  while (workers_.size() < wanted_) workers_.emplace_back();
  for (std::size_t i = 0; i < wanted_; ++i) {
    Worker& worker = workers_[i];
    if (worker.alive) continue;                          // one that was to go and has not gone yet stays
    if (worker.thread.joinable()) worker.thread.join();  // it has left its loop
    worker.thread = std::thread([this, i] { work(i); });
    worker.alive = true;
  }
  lock.unlock();
  submitted_.notify_all();
}

void LoaderWorkers::submit(std::shared_ptr<Task> task) {
  {
    std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(task));
  }
  submitted_.notify_one();
}

void LoaderWorkers::wait(const Task& task) {
  // Of a task that is done nothing is to be learned from the lock, which a worker may hold that has just been woken.
  if (task.done_.load(std::memory_order_acquire)) return;
  std::unique_lock lock(mutex_);
  finished_.wait(lock, [&] { return task.done_.load(std::memory_order_relaxed); });
}

void LoaderWorkers::cancel_all() {
  std::lock_guard lock(mutex_);
  waiting_.clear();
  for (const Worker& worker : workers_) {
    if (worker.running) worker.running->cancel();
  }
}

void LoaderWorkers::wait_until_idle() {
  std::unique_lock lock(mutex_);
  finished_.wait(lock, [&] {
    return waiting_.empty() &&
           std::none_of(workers_.begin(), workers_.end(), [](const Worker& w) { return w.running != nullptr; });
  });
}

void LoaderWorkers::work(std::size_t self) {
  use_one_thread_for_math();
  std::unique_lock lock(mutex_);
  Worker& own = workers_[self];
  for (;;) {
    submitted_.wait(lock, [&] { return self >= wanted_ || !waiting_.empty(); });
    if (self >= wanted_) {
      own.alive = false;
      // The wake-up of a task may have come to this thread.
      if (!waiting_.empty()) submitted_.notify_one();
      return;
    }
    std::shared_ptr<Task> task = own.running = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    task->run(static_cast<int>(self));
    lock.lock();
    task->done_.store(true, std::memory_order_release);
    own.running.reset();
    finished_.notify_one();
    lock.unlock();
    task.reset();  // a dropped batch frees its memory here, while nobody waits for the lock
    lock.lock();
  }
}

// LibTorch reads the size of a team from its OpenMP runtime, per thread. at::set_num_threads would also change the default of
// every thread that starts later. The runtime is the one LibTorch was linked with, under whatever file name, so it is asked for
// by symbol.
void use_one_thread_for_math() {
  // The first use of a team sets its size; LibTorch keeps one mark for that in its library and one in each that includes its
  // headers.
  at::internal::lazy_init_num_threads();
  at::get_num_threads();
  using SetNumThreads = void (*)(int);
  if (auto set = reinterpret_cast<SetNumThreads>(dlsym(RTLD_DEFAULT, "omp_set_num_threads"))) set(1);
}

}  // namespace treadle
