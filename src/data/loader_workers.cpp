#include "data/loader_workers.hpp"

#include <ATen/Parallel.h>
#include <dlfcn.h>

namespace treadle {

LoaderWorkers::LoaderWorkers(int count) : running_(static_cast<std::size_t>(count)) {
  threads_.reserve(running_.size());
  try {
    for (std::size_t i = 0; i < running_.size(); ++i) threads_.emplace_back([this, i] { work(i); });
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
    stop_ = true;
  }
  submitted_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void LoaderWorkers::submit(std::shared_ptr<Task> task) {
  {
    std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(task));
  }
  submitted_.notify_one();
}

void LoaderWorkers::wait(const Task& task) {
  std::unique_lock lock(mutex_);
  finished_.wait(lock, [&] { return task.done_; });
}

void LoaderWorkers::cancel_all() {
  std::lock_guard lock(mutex_);
  waiting_.clear();
  for (const auto& task : running_) {
    if (task) task->cancel();
  }
}

void LoaderWorkers::work(std::size_t self) {
  use_one_thread_for_math();
  std::unique_lock lock(mutex_);
  for (;;) {
    submitted_.wait(lock, [&] { return stop_ || !waiting_.empty(); });
    if (stop_) return;
    std::shared_ptr<Task> task = running_[self] = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    task->run();
    lock.lock();
    task->done_ = true;
    running_[self].reset();
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
