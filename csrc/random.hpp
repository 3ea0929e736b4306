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
    const int64_t ready = end_ - at_;
    std::copy(at_, end_, out);
    at_ = end_;
    const int64_t blocks = (count - ready) / words_per_block;
    philox_run(key_, block_, blocks, out + ready);
    block_ += static_cast<uint32_t>(blocks);
    for (int64_t i = ready + blocks * words_per_block; i < count; ++i) out[i] = next();
  }

  RowKey key_;
  uint32_t block_;
  const uint32_t* at_ = nullptr;
  const uint32_t* end_ = nullptr;
  alignas(32) std::array<uint32_t, words_per_block * refill_blocks> buffer_;
};

inline constexpr int64_t most_indices = 8;

// Indices below bounds bound, bound-step, bound-2 step, ..., independent and exactly uniform, from one pair of words: multiplying by
// one bound after the other leaves each index above the binary point (Brackett-Rozinsky and Lemire, "Batched ranged random
// integer generation", 2024). The product of the bounds must fit in 64 bits.
template <class Visit>
LENGEN_INLINE void draw_index_group(int64_t first, int64_t size, int64_t bound, int64_t step, Words& words, Visit&& visit) {
  uint32_t indices[most_indices];
  uint64_t rest = 0, product = 0;
  do {
    rest = words.next_pair();
    product = 1;
    for (int64_t i = 0; i < size; ++i) {
      const auto factor = static_cast<uint64_t>(bound - i * step);
      const auto scaled = static_cast<unsigned __int128>(rest) * factor;
      indices[i] = static_cast<uint32_t>(scaled >> 64);
      rest = static_cast<uint64_t>(scaled);
      product *= factor;
    }
  } while (rest < product && rest < (0 - product) % product);
  for (int64_t i = 0; i < size; ++i) visit(first + i, indices[i]);
}

// Indices that one pair of words serves: the product of their bounds stays within 2^48, so that a redraw is rare.
inline int64_t index_group_size(int64_t bound) {
  if (bound <= 1 << 8) return std::min<int64_t>(6, bound);
  if (bound <= 1 << 12) return 4;
  return bound <= 1 << 16 ? 3 : 2;
}

// Calls visit(i, index) for i in 0..count-1, index exactly uniform in 0..bound-i-1: the draws of a Fisher-Yates shuffle. A pair of
// words always serves a whole group, of which the last may stay unused.
template <class Visit>
LENGEN_INLINE void draw_shuffle_indices(int64_t count, int64_t bound, Words& words, Visit&& visit) {
  if (count == 0) return;
  int64_t i = 0;
  for (int64_t size = index_group_size(bound); i + size <= count; size = index_group_size(bound - i)) {
    switch (size) {
      case 6: draw_index_group(i, 6, bound - i, 1, words, visit); break;
      case 4: draw_index_group(i, 4, bound - i, 1, words, visit); break;
      case 3: draw_index_group(i, 3, bound - i, 1, words, visit); break;
      case 2: draw_index_group(i, 2, bound - i, 1, words, visit); break;
      default: draw_index_group(i, size, bound - i, 1, words, visit);
    }
    if ((i += size) == count) return;
  }
  draw_index_group(i, index_group_size(bound - i), bound - i, 1, words, [&](int64_t place, int64_t index) {
    if (place < count) visit(place, index);
  });
}

inline int64_t usual_words_for_indices(int64_t count, int64_t bound) { return 2 * (count / index_group_size(bound) + 1); }

}  // namespace lengen
