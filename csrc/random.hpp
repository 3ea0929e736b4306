// Counter-based random streams: a word is a pure function of (seed, stream, row, part, index).
//
// Each row has three parts, ranges of Philox blocks that never meet, so that drawing or not drawing a length or an offset
// cannot change the string.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "philox.hpp"

namespace lengen {

static_assert(std::endian::native == std::endian::little, "words are copied to wider integers in memory order");

enum class Part : uint32_t { content = 0u, length = 1u << 30, offset = 1u << 31 };

inline constexpr int64_t words_per_block = 4;

// Reads the words of one part of one row in order. `head` may hold the first words, drawn beforehand for many rows at once.
class Words {
 public:
  explicit Words(const RowKey& key, Part part = Part::content) : key_(key), block_(static_cast<uint32_t>(part)) {}

  Words(const RowKey& key, Part part, const uint32_t* head, int64_t head_blocks)
      : key_(key), block_(static_cast<uint32_t>(part) + static_cast<uint32_t>(head_blocks)), at_(head),
        end_(head + words_per_block * head_blocks) {}

  Words(const Words&) = delete;
  Words& operator=(const Words&) = delete;

  uint32_t next() {
    if (at_ == end_) refill();
    return *at_++;
  }

  uint64_t next_pair() {
    const uint64_t low = next();
    return low | static_cast<uint64_t>(next()) << 32;
  }

  // Exactly uniform in 0..bound-1, bound >= 1: Lemire's multiplication with rejection ("Fast random integer generation in an
  // interval", ACM TOMACS 2019).
  uint32_t below(uint32_t bound) {
    uint64_t product = static_cast<uint64_t>(next()) * bound;
    if (static_cast<uint32_t>(product) < bound) {
      const uint32_t threshold = (0u - bound) % bound;
      while (static_cast<uint32_t>(product) < threshold) product = static_cast<uint64_t>(next()) * bound;
    }
    return static_cast<uint32_t>(product >> 32);
  }

  // The next `count` words, two to a 64-bit word, low half first.
  void fill(uint64_t* out, int64_t count) { fill(reinterpret_cast<uint32_t*>(out), 2 * count); }

  // The next `count` words.
  void fill(uint32_t* out, int64_t count) {
    if (end_ - at_ < count) return fill_from_blocks(out, count);
    std::memcpy(out, at_, static_cast<size_t>(count) * sizeof(uint32_t));
    at_ += count;
  }

 private:
  static constexpr int64_t refill_blocks = 8;

  LENGEN_RARE void refill() {
    philox_run(key_, block_, refill_blocks, buffer_.data());
    block_ += refill_blocks;
    at_ = buffer_.data();
    end_ = at_ + buffer_.size();
  }

  LENGEN_RARE void fill_from_blocks(uint32_t* out, int64_t count) {
    uint32_t* const end = out + count;
    out = std::copy(at_, end_, out);
    const int64_t blocks = (end - out) / (words_per_block * refill_blocks) * refill_blocks;
    philox_run(key_, block_, blocks, out);
    block_ += static_cast<uint32_t>(blocks);
    out += blocks * words_per_block;
    refill();
    std::copy_n(at_, end - out, out);
    at_ += end - out;
  }

  RowKey key_;
  uint32_t block_;
  const uint32_t* at_ = nullptr;
  const uint32_t* end_ = nullptr;
  alignas(32) std::array<uint32_t, words_per_block * refill_blocks> buffer_;
};

inline constexpr int64_t most_indices = 8;
inline constexpr uint64_t greatest_product = uint64_t{1} << 48;

// The product of bound, bound-step, bound-2 step, ...
inline uint64_t product_of_bounds(int64_t size, int64_t bound, int64_t step) {
  uint64_t product = 1;
  for (int64_t i = 0; i < size; ++i) product *= static_cast<uint64_t>(bound - i * step);
  return product;
}

// Indices below bound, bound-step, bound-2 step, ... from one pair of words; returns the rest that decides about rejection.
LENGEN_INLINE uint64_t split_pair(uint64_t pair, int64_t size, int64_t bound, int64_t step, uint32_t* indices) {
#pragma GCC unroll 8
  for (int64_t i = 0; i < size; ++i) {
    const auto scaled = static_cast<unsigned __int128>(pair) * static_cast<uint64_t>(bound - i * step);
    indices[i] = static_cast<uint32_t>(scaled >> 64);
    pair = static_cast<uint64_t>(scaled);
  }
  return pair;
}

// Goes on with a pair that may have to be rejected.
LENGEN_RARE inline void reject_pairs(uint64_t rest, int64_t size, int64_t bound, int64_t step, Words& words, uint32_t* indices) {
  const uint64_t product = product_of_bounds(size, bound, step), threshold = (0 - product) % product;
  while (rest < threshold) rest = split_pair(words.next_pair(), size, bound, step, indices);
}

// Calls visit(first + i, index) with indices below bound, bound-step, bound-2 step, ..., independent and exactly uniform, all from one
// pair of words: multiplying by one bound after the other leaves each index above the binary point (Brackett-Rozinsky and
// Lemire, "Batched ranged random integer generation", 2024). The product of the bounds must be at most 2^48.
template <class Visit>
LENGEN_INLINE void draw_index_group(int64_t first, int64_t size, int64_t bound, int64_t step, Words& words, Visit&& visit) {
  uint32_t indices[most_indices];
  const uint64_t rest = split_pair(words.next_pair(), size, bound, step, indices);
  if (rest < greatest_product) [[unlikely]] reject_pairs(rest, size, bound, step, words, indices);
#pragma GCC unroll 8
  for (int64_t i = 0; i < size; ++i) visit(first + i, indices[i]);
}

// Indices that one pair of words serves.
inline int64_t index_group_size(int64_t bound) {
  if (bound <= 1 << 8) return std::min<int64_t>(6, bound);
  if (bound <= 1 << 12) return 4;
  return bound <= 1 << 16 ? 3 : 2;
}

// Calls visit(i, index) for i = 0, 1, ..., index exactly uniform in 0..bound-i-1: the draws of a Fisher-Yates shuffle. Stops at the first
// whole group that reaches `count`, so up to five further places below `bound` may be visited.
template <class Visit>
LENGEN_INLINE void draw_shuffle_indices(int64_t count, int64_t bound, Words& words, Visit&& visit) {
  for (int64_t i = 0; i < count;) {
    const int64_t size = index_group_size(bound - i);
    switch (size) {
      case 6: draw_index_group(i, 6, bound - i, 1, words, visit); break;
      case 4: draw_index_group(i, 4, bound - i, 1, words, visit); break;
      case 3: draw_index_group(i, 3, bound - i, 1, words, visit); break;
      case 2: draw_index_group(i, 2, bound - i, 1, words, visit); break;
      default: draw_index_group(i, size, bound - i, 1, words, visit);
    }
    i += size;
  }
}

inline int64_t usual_words_for_indices(int64_t count, int64_t bound) { return 2 * (count / index_group_size(bound) + 1); }

}  // namespace lengen
