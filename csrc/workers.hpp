// Threads that wait for work and share it out: starting a thread takes longer than drawing a batch.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace lengen {

inline void relax() {
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// Waits a little for `ready()` without going to sleep; waking a thread takes tens of microseconds.
template <class Ready>
bool spin_until(Ready&& ready) {
  const auto patience = std::chrono::steady_clock::now() + std::chrono::microseconds(50);
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < patience);
  return ready();
}

// The helping threads of this process. They grow to the number asked for, and end with the process.
class Workers {
 public:
  // Never destroyed: helpers wait in it until the process ends. A forked child starts without helpers, so it gets its own.
  static Workers& of_this_process() {
    Workers* found = current().load(std::memory_order_acquire);
    if (found != nullptr) return *found;
    static const int forgets = pthread_atfork(nullptr, nullptr, [] { current().store(nullptr); });
    static_cast<void>(forgets);
    auto* fresh = new Workers;
    if (current().compare_exchange_strong(found, fresh)) return *fresh;
    delete fresh;
    return *found;
  }

  // Calls work() here and, as long as it has not returned here, on up to `helpers` other threads; returns when all are done.
  // work must not throw.
  template <class Work>
  void run(int64_t helpers, Work& work) {
    Job job{[](void* context) { (*static_cast<Work*>(context))(); }, &work, helpers};
    open(job);
    work();
    close(job);
  }

 private:
  struct Job {
    void (*call)(void*);
    void* context;
    int64_t seats;  // helpers that may still join
    std::atomic<int64_t> running = 0;
  };

  static std::atomic<Workers*>& current() {
    static std::atomic<Workers*> workers = nullptr;
    return workers;
  }

  void open(Job& job) {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(&job);
    seats_.fetch_add(job.seats, std::memory_order_release);
    while (free_ < seats_ && start_helper()) ++free_;
    for (int64_t i = std::min(job.seats, asleep_); i > 0; --i) called_.notify_one();
  }

  void close(Job& job) {
    {
      const std::lock_guard lock(mutex_);
      if (job.seats > 0) leave_queue(job);
    }
    const auto done = [&job] { return job.running.load(std::memory_order_acquire) == 0; };
    if (spin_until(done)) return;
    std::unique_lock lock(mutex_);
    finished_.wait(lock, done);
  }

  bool start_helper() noexcept {
    try {
      std::thread([this] { serve(); }).detach();
      return true;
    } catch (const std::system_error&) {
      return false;  // then there are fewer
    }
  }

  void leave_queue(Job& job) {
    seats_.fetch_sub(job.seats, std::memory_order_relaxed);
    job.seats = 0;
    jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
  }

  [[noreturn]] void serve() {
    for (;;) {
      spin_until([this] { return seats_.load(std::memory_order_acquire) > 0; });
      Job& job = join();
      job.call(job.context);
      const std::lock_guard lock(mutex_);
      ++free_;
      if (job.running.fetch_sub(1, std::memory_order_release) == 1) finished_.notify_all();  // the job may be gone from here on
    }
  }

  Job& join() {
    std::unique_lock lock(mutex_);
    ++asleep_;
    called_.wait(lock, [this] { return !jobs_.empty(); });
    --asleep_;
    --free_;
    Job& job = *jobs_.front();
    job.running.fetch_add(1, std::memory_order_relaxed);
    seats_.fetch_sub(1, std::memory_order_relaxed);
    if (--job.seats == 0) jobs_.erase(jobs_.begin());
    return job;
  }

  std::mutex mutex_;
  std::condition_variable called_, finished_;
  std::vector<Job*> jobs_;           // with seats left
  std::atomic<int64_t> seats_ = 0;   // of all jobs
  int64_t free_ = 0, asleep_ = 0;    // helpers without a job, and those of them that have to be woken
};

// Parts that one thread takes first; the others come for them when theirs are done.
struct alignas(64) Share {
  std::atomic<int64_t> next;
  int64_t end;

  Share(int64_t begin, int64_t end) : next(begin), end(end) {}
};

// Calls work(part) for each of 0..parts-1 on up to `threads` threads, and passes on the first exception. From call to call a thread
// tends to get the same parts, whose memory its core still holds.
template <class Work>
void in_parallel(int64_t parts, int64_t threads, Work&& work) {
  threads = std::min(threads, parts);
  if (threads <= 1) {
    for (int64_t part = 0; part < parts; ++part) work(part);
    return;
  }
  std::deque<Share> shares;
  for (int64_t i = 0; i < threads; ++i) shares.emplace_back(parts * i / threads, parts * (i + 1) / threads);
  std::atomic<int64_t> joined = 0;
  std::atomic<bool> failed = false;
  std::exception_ptr error;
  auto take_parts = [&]() noexcept {
    const int64_t own = joined.fetch_add(1, std::memory_order_relaxed);
    for (int64_t i = 0; i < threads; ++i) {
      Share& share = shares[static_cast<size_t>((own + i) % threads)];
      for (int64_t part; (part = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;) {
        try {
          work(part);
        } catch (...) {
          if (!failed.exchange(true)) error = std::current_exception();
        }
      }
    }
  };
  Workers::of_this_process().run(threads - 1, take_parts);
  if (failed) std::rethrow_exception(error);
}

}  // namespace lengen
