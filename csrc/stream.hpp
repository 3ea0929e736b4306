// Batches of consecutive steps, prepared in the background and handed over in step order.
#pragma once

#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "shared_work.hpp"

namespace lengen {

// Draws the batch of one step; called by several threads at once.
class StepSource {
 public:
  virtual ~StepSource() = default;
  virtual Batch draw(uint64_t step) const = 0;
};

class Stream {
 public:
  enum class State { ready, waiting, ended };

  Stream(std::shared_ptr<const StepSource> source, uint64_t start, uint64_t stop, size_t capacity, int threads)
      : source_(std::move(source)), delivered_(start), claimed_(start), stop_(stop), slots_(capacity) {
    for (int i = 0; i < threads; ++i) producers_.emplace_back([this] { produce(); });
  }

  ~Stream() { close(); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // The next batch if it comes within `patience`; rethrows what a producer threw, at the step it threw it.
  template <class Duration>
  State next(Duration patience, std::optional<Batch>& batch) {
    std::unique_lock lock(mutex_);
    const auto settled = [this] { return closed_ || delivered_ == stop_ || slot(delivered_).filled(); };
    if (!settled()) {
      if (patience == Duration::zero()) return State::waiting;
      ++waiting_;
      const bool came = filled_.wait_for(lock, patience, settled);
      --waiting_;
      if (!came) return State::waiting;
    }
    if (closed_ || delivered_ == stop_) return State::ended;
    Slot& found = slot(delivered_);
    if (found.error) std::rethrow_exception(found.error);
    batch = std::move(found.batch);
    found.batch.reset();
    ++delivered_;
    const bool half_empty = 2 * (claimed_ - delivered_) <= slots_.size();
    const bool others_wait = waiting_ > 0 && settled();
    lock.unlock();
    if (others_wait) filled_.notify_one();
    if (half_empty) emptied_.notify_all();  // not at every batch: waking a thread takes longer than drawing a short batch
    return State::ready;
  }

  // Stops the producers and waits for them; idempotent.
  void close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    emptied_.notify_all();
    filled_.notify_all();
    const std::lock_guard joining(join_mutex_);
    for (auto& producer : producers_) {
      if (producer.joinable()) producer.join();
    }
    const std::lock_guard lock(mutex_);
    for (Slot& each : slots_) each.batch.reset();
  }

 private:
  struct Slot {
    std::optional<Batch> batch;
    std::exception_ptr error;

    bool filled() const { return batch.has_value() || error != nullptr; }
  };

  Slot& slot(uint64_t step) { return slots_[step % slots_.size()]; }

  bool claim(uint64_t& step) {
    std::unique_lock lock(mutex_);
    emptied_.wait(lock, [this] { return closed_ || claimed_ == stop_ || claimed_ - delivered_ < slots_.size(); });
    if (closed_ || claimed_ == stop_) return false;
    step = claimed_++;
    return true;
  }

  void produce() noexcept {
    uint64_t step = 0;
    while (claim(step)) {
      Slot made;
      try {
        made.batch = source_->draw(step);
      } catch (...) {
        made.error = std::current_exception();
      }
      bool awaited;
      {
        const std::lock_guard lock(mutex_);
        slot(step) = std::move(made);
        awaited = waiting_ > 0 && slot(delivered_).filled();
      }
      if (awaited) filled_.notify_one();
    }
  }

  std::shared_ptr<const StepSource> source_;
  std::mutex mutex_, join_mutex_;
  std::condition_variable filled_, emptied_;
  uint64_t delivered_, claimed_, stop_;
  std::vector<Slot> slots_;
  std::vector<std::thread> producers_;
  int waiting_ = 0;  // consumers
  bool closed_ = false;
};

}  // namespace lengen
