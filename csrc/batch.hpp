// Packed rows: one block of memory that holds the five arrays of a batch, and the view through which a row is written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <stdexcept>
#include <tuple>
#include <utility>
#include <vector>

#include "vector.hpp"

namespace lengen {

inline constexpr size_t cache_line = 64;

// Uninitialised memory that goes back to a shared pool, so that steady generation touches no fresh pages.
class Slab {
 public:
  Slab() = default;
  explicit Slab(size_t bytes) { std::tie(data_, bytes_) = pool().take(bytes); }
  ~Slab() {
    if (data_ != nullptr) pool().put(data_, bytes_);
  }
  Slab(Slab&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Slab& operator=(Slab&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  std::byte* data() const { return data_; }

 private:
  class Pool {
   public:
    std::pair<std::byte*, size_t> take(size_t bytes) {
      {
        const std::lock_guard lock(mutex_);
        for (size_t i = idle_.size(); i-- > 0;) {
          if (idle_[i].second >= bytes && idle_[i].second / 2 <= bytes) return remove(i);
        }
      }
      return allocate(bytes);
    }

    void put(std::byte* data, size_t bytes) noexcept {
      {
        const std::lock_guard lock(mutex_);
        if (idle_.size() < most_slabs && idle_bytes_ + bytes <= most_bytes) {
          idle_.emplace_back(data, bytes);  // never reallocates: the capacity is reserved
          idle_bytes_ += bytes;
          return;
        }
      }
      std::free(data);
    }

    Pool() { idle_.reserve(most_slabs); }

   private:
    static constexpr size_t most_slabs = 32;
    static constexpr size_t most_bytes = size_t{256} << 20;

    std::pair<std::byte*, size_t> remove(size_t i) {
      const auto found = idle_[i];
      idle_[i] = idle_.back();
      idle_.pop_back();
      idle_bytes_ -= found.second;
      return found;
    }

    static std::pair<std::byte*, size_t> allocate(size_t bytes) {
      const size_t rounded = (bytes + cache_line) / cache_line * cache_line;
      auto* data = static_cast<std::byte*>(std::aligned_alloc(cache_line, rounded));
      if (data == nullptr) throw std::bad_alloc();
      return {data, rounded};
    }

    std::mutex mutex_;
    std::vector<std::pair<std::byte*, size_t>> idle_;
    size_t idle_bytes_ = 0;
  };

  // Never destroyed: arrays may outlive the end of main.
  static Pool& pool() {
    static Pool* pool = new Pool;
    return *pool;
  }

  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

// What a row, or several, take in a batch.
struct RowShape {
  int64_t tokens = 0;
  int64_t scored = 0;

  RowShape operator+(const RowShape& other) const { return {tokens + other.tokens, scored + other.scored}; }
};

// Where a row is written. `start` is the index of its first token in the batch. Behind each array there is room for the spill
// of the functions in vector.hpp, so a row is written from its beginning to its end.
struct RowView {
  int64_t* tokens;
  int64_t* scored;
  int64_t* targets;
  int64_t start;

  // Scores `count` neighbouring positions from `first` (an index inside the row); each has to predict its next token.
  void score(int64_t first, int64_t count) const { score_next(start + first, tokens + first + 1, count, scored, targets); }
};

// B rows packed end to end: tokens [N], cu_seqlens [B+1], offsets [B], scored [P], targets [P].
class Batch {
 public:
  Batch(int64_t rows, RowShape room) : rows_(rows), size_(room) {
    size_t bytes = 0;
    const auto place = [&bytes](int64_t count, size_t width) {
      const size_t at = bytes;
      bytes += (static_cast<size_t>(count) * width + cache_line - 1) / cache_line * cache_line;
      return at;
    };
    const size_t at_tokens = place(room.tokens, sizeof(int64_t)), at_scored = place(room.scored, sizeof(int64_t));
    const size_t at_targets = place(room.scored, sizeof(int64_t)), at_offsets = place(rows, sizeof(int64_t));
    const size_t at_bounds = place(rows + 1, sizeof(int32_t));
    slab_ = Slab(bytes);
    tokens_ = reinterpret_cast<int64_t*>(slab_.data() + at_tokens);
    scored_ = reinterpret_cast<int64_t*>(slab_.data() + at_scored);
    targets_ = reinterpret_cast<int64_t*>(slab_.data() + at_targets);
    offsets_ = reinterpret_cast<int64_t*>(slab_.data() + at_offsets);
    bounds_ = reinterpret_cast<int32_t*>(slab_.data() + at_bounds);
  }

  int64_t rows() const { return rows_; }
  int64_t token_count() const { return size_.tokens; }
  int64_t scored_count() const { return size_.scored; }
  int64_t longest() const { return longest_; }

  // What was written, which may be less than the room asked for.
  void set_written(RowShape size, int64_t longest) {
    size_ = size;
    longest_ = longest;
  }

  int64_t* tokens() const { return tokens_; }
  int64_t* scored() const { return scored_; }
  int64_t* targets() const { return targets_; }
  int64_t* offsets() const { return offsets_; }
  int32_t* cu_seqlens() const { return bounds_; }

 private:
  int64_t rows_;
  RowShape size_;
  int64_t longest_ = 0;
  Slab slab_;
  int64_t *tokens_, *scored_, *targets_, *offsets_;
  int32_t* bounds_;
};

}  // namespace lengen
