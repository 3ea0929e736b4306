// Packed rows: one block of memory that holds the five arrays of a batch, and the view through which a row is written.
#pragma once

#include <algorithm>
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

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace lengen {

inline constexpr size_t cache_line = 64;

// Under AddressSanitizer a stretch behind each array is out of bounds.
#ifdef __SANITIZE_ADDRESS__
inline constexpr size_t guard_bytes = 1024;
inline void forbid(const void* begin, const void* end) {
  __asan_poison_memory_region(begin, static_cast<size_t>(static_cast<const char*>(end) - static_cast<const char*>(begin)));
}
#else
inline constexpr size_t guard_bytes = 0;
inline void forbid(const void*, const void*) {}
#endif

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

    // Those that wait longest make room.
    void put(std::byte* data, size_t bytes) noexcept {
      const std::lock_guard lock(mutex_);
      if (most_slabs == 0 || bytes > most_bytes) return std::free(data);
      while (idle_.size() == most_slabs || idle_bytes_ + bytes > most_bytes) std::free(remove(0).first);
      idle_.emplace_back(data, bytes);  // never reallocates: the capacity is reserved
      idle_bytes_ += bytes;
    }

    Pool() { idle_.reserve(most_slabs); }

   private:
#ifdef __SANITIZE_ADDRESS__
    static constexpr size_t most_slabs = 0;  // so that the sanitizer sees every use after the end
#else
    static constexpr size_t most_slabs = 256;
#endif
    static constexpr size_t most_bytes = size_t{256} << 20;

    std::pair<std::byte*, size_t> remove(size_t i) {
      const auto found = idle_[i];
      idle_.erase(idle_.begin() + static_cast<std::ptrdiff_t>(i));
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

  constexpr RowShape operator+(const RowShape& other) const { return {tokens + other.tokens, scored + other.scored}; }
  RowShape most_of(const RowShape& other) const { return {std::max(tokens, other.tokens), std::max(scored, other.scored)}; }
};

// Where a row is written. `start` is the index of its first token in the batch. Behind each array there is room for the spill
// of the functions in vector.hpp (see RowSampler::scored_spill), so a row is written from its beginning to its end.
struct RowView {
  int32_t* tokens;
  int32_t* scored;
  int64_t* targets;
  int64_t start;

  // Scores `count` neighbouring positions from `first` (an index inside the row); their targets are written by the caller.
  void score(int64_t first, int64_t count) const {
    count_up(static_cast<int32_t>(start + first), count, scored);
  }
};

// B rows packed end to end: tokens [N], cu_seqlens [B+1], offsets [B], scored [P], targets [P]. Targets are wider than tokens
// because losses in PyTorch ask for it.
class Batch {
 public:
  Batch(int64_t rows, RowShape room) : rows_(rows), size_(room) {
    slab_ = Slab(padded<int32_t>(room.tokens) + padded<int32_t>(room.scored) + padded<int64_t>(room.scored) +
                 padded<int64_t>(rows) + padded<int32_t>(rows + 1));
    std::byte* next = slab_.data();
    arrays_.tokens = place<int32_t>(room.tokens, next);
    arrays_.scored = place<int32_t>(room.scored, next);
    arrays_.targets = place<int64_t>(room.scored, next);
    arrays_.offsets = place<int64_t>(rows, next);
    arrays_.cu_seqlens = place<int32_t>(rows + 1, next);
    arrays_.cu_seqlens[0] = 0;
  }

  int64_t rows() const { return rows_; }
  int64_t token_count() const { return size_.tokens; }
  int64_t scored_count() const { return size_.scored; }
  RowShape largest_row() const { return largest_row_; }  // of each, the most in any row

  // What was written, which may be less than the room asked for.
  void set_written(RowShape size, RowShape largest_row) {
    size_ = size;
    largest_row_ = largest_row;
  }

  // Leaves out the tokens behind the last scored one of each row: nothing that is scored sees them.
  void trim() {
    int64_t next_scored = 0;
    int32_t to = 0, begin = 0;
    largest_row_.tokens = 0;
    for (int64_t row = 0; row < rows_; ++row) {
      const int32_t end = arrays_.cu_seqlens[row + 1];
      int32_t kept = 0;
      for (; next_scored < size_.scored && arrays_.scored[next_scored] < end; ++next_scored) {
        kept = arrays_.scored[next_scored] - begin + 1;
        arrays_.scored[next_scored] -= begin - to;
      }
      std::copy_n(arrays_.tokens + begin, kept, arrays_.tokens + to);
      begin = end;
      to += kept;
      arrays_.cu_seqlens[row + 1] = to;
      largest_row_.tokens = std::max<int64_t>(largest_row_.tokens, kept);
    }
    size_.tokens = to;
  }

  struct Arrays {
    int32_t *tokens, *scored, *cu_seqlens;
    int64_t *targets, *offsets;
  };

  const Arrays& arrays() const { return arrays_; }
  int32_t* tokens() const { return arrays_.tokens; }
  int32_t* scored() const { return arrays_.scored; }
  int64_t* targets() const { return arrays_.targets; }
  int64_t* offsets() const { return arrays_.offsets; }
  int32_t* cu_seqlens() const { return arrays_.cu_seqlens; }

 private:
  template <class T>
  static constexpr size_t padded(int64_t count) {
    return (static_cast<size_t>(count) * sizeof(T) + cache_line - 1) / cache_line * cache_line + guard_bytes;
  }

  template <class T>
  static T* place(int64_t count, std::byte*& next) {
    auto* placed = reinterpret_cast<T*>(next);
    next += padded<T>(count);
    forbid(placed + count, next);
    return placed;
  }

  int64_t rows_;
  RowShape size_;
  RowShape largest_row_;
  Slab slab_;
  Arrays arrays_;
};

}  // namespace lengen
