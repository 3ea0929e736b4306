// Counter-based random streams: a word is a pure function of (seed, stream, row, index).
//
// Each row has two ranges of blocks that never meet: its content, and its placement (length and offset), so that drawing
// or not drawing a length or an offset cannot change the string.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "ars.hpp"

namespace lengen {

static_assert(std::endian::native == std::endian::little, "words are copied to wider integers in memory order");

inline constexpr uint32_t content_block = 0;
inline constexpr uint32_t placement_block = 1u << 31;
inline constexpr int64_t words_per_block = 4;

// One block of a row's placement: a random number for the length and one for the offset.
struct PlacementBlock {
  uint64_t length_draw;
  uint64_t offset_draw;
};

// blocks[rows]: the first placement blocks of consecutive rows.
inline void draw_placement_blocks(const RowKey& first, int64_t rows, PlacementBlock* blocks) {
  static_assert(sizeof(PlacementBlock) == words_per_block * sizeof(uint32_t));
  random_heads(first, rows, placement_block, 1, reinterpret_cast<uint32_t*>(blocks));
}

// Goes on with a number that may have to be rejected, using the same number of the following placement blocks.
LENGEN_RARE inline uint64_t settle_slowly(uint64_t draw, uint64_t bound, const RowKey& key, uint64_t PlacementBlock::*which) {
  const uint64_t threshold = (0 - bound) % bound;
  for (uint32_t index = placement_block; draw * bound < threshold;) {
    PlacementBlock block;
    uint32_t words[words_per_block];
    ars::block_of(key, ++index, words);
    std::memcpy(&block, words, sizeof block);
    draw = block.*which;
  }
  return static_cast<uint64_t>(static_cast<unsigned __int128>(draw) * bound >> 64);
}

// Exactly uniform in 0..bound-1, bound >= 1, from one number of the first placement block; see Words::below.
inline uint64_t settle(uint64_t draw, uint64_t bound, const RowKey& key, uint64_t PlacementBlock::*which) {
  if (draw * bound < bound) [[unlikely]] return settle_slowly(draw, bound, key, which);
  return static_cast<uint64_t>(static_cast<unsigned __int128>(draw) * bound >> 64);
}

// Reads the content words of one row in order. `head` may hold the first words, drawn beforehand for many rows at once.
class Words {
 public:
  explicit Words(const RowKey& key) : key_(key) {}

  Words(const RowKey& key, const uint32_t* head, int64_t head_blocks)
      : key_(key), block_(content_block + static_cast<uint32_t>(head_blocks)), at_(head),
        end_(head + words_per_block * head_blocks) {}

  Words(const Words&) = delete;
  Words& operator=(const Words&) = delete;

  uint32_t next() {
    if (at_ == end_) refill();
    return *at_++;
  }

  // The next two words, low half first.
  uint64_t next_pair() {
    uint64_t pair;
    fill(&pair, 1);
    return pair;
  }

  // The next `count` words if they are at hand, else nullptr; skip(count) goes past them.
  const uint32_t* peek(int64_t count) const { return at_hand() >= count ? at_ : nullptr; }
  void skip(int64_t count) { at_ += count; }
  int64_t at_hand() const { return end_ - at_; }

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

  // The same from the lowest 31 bits of `word`, or of words behind it.
  uint32_t below_by_low_bits(uint32_t word, uint32_t bound) {
    constexpr uint32_t low_bits = 0x7FFFFFFF;
    uint64_t product = static_cast<uint64_t>(word & low_bits) * bound;
    if ((product & low_bits) < bound) [[unlikely]] {
      const uint32_t threshold = (low_bits - bound + 1) % bound;
      while ((product & low_bits) < threshold) product = static_cast<uint64_t>(next() & low_bits) * bound;
    }
    return static_cast<uint32_t>(product >> 31);
  }

  // The next `count` words, two to a 64-bit word, low half first.
  void fill(uint64_t* out, int64_t count) { fill(reinterpret_cast<uint32_t*>(out), 2 * count); }

  // The next `count` words.
  void fill(uint32_t* out, int64_t count) {
    if (at_hand() < count) return fill_from_blocks(out, count);
    std::memcpy(out, at_, static_cast<size_t>(count) * sizeof(uint32_t));
    at_ += count;
  }

 private:
  static constexpr int64_t refill_blocks = 8, refill_words = words_per_block * refill_blocks;

  LENGEN_RARE void refill() {
    random_run(key_, block_, refill_blocks, buffer_.data());
    block_ += refill_blocks;
    at_ = buffer_.data();
    end_ = at_ + refill_words;
  }

  LENGEN_RARE void fill_from_blocks(uint32_t* out, int64_t count) {
    uint32_t* const end = out + count;
    out = std::copy(at_, end_, out);
    const int64_t blocks = (end - out) / (words_per_block * refill_blocks) * refill_blocks;
    random_run(key_, block_, blocks, out);
    block_ += static_cast<uint32_t>(blocks);
    out += blocks * words_per_block;
    refill();
    std::copy_n(at_, end - out, out);
    at_ += end - out;
  }

  RowKey key_;
  uint32_t block_ = content_block;
  const uint32_t* at_ = nullptr;
  const uint32_t* end_ = nullptr;
  alignas(32) std::array<uint32_t, refill_words> buffer_;
};

inline constexpr int64_t most_indices = 8;
inline constexpr uint64_t greatest_product = uint64_t{1} << 48;

// Indices below bound, bound-step, bound-2 step, ... from one pair of words: multiplying by one bound after the other leaves
// each index above the binary point. Returns what is left, which decides about rejection.
LENGEN_INLINE uint64_t split_pair(uint64_t pair, int64_t size, uint32_t bound, uint32_t step, uint32_t* indices) {
#pragma GCC unroll 8
  for (int64_t i = 0; i < size; ++i, bound -= step) {
    indices[i] = static_cast<uint32_t>(static_cast<unsigned __int128>(pair) * bound >> 64);
    pair *= bound;
  }
  return pair;
}

// The first pair from `pair` on that need not be rejected.
LENGEN_RARE inline uint64_t accepted_pair(uint64_t pair, int64_t size, uint32_t bound, uint32_t step, Words& words) {
  uint64_t product = 1;
  for (int64_t i = 0; i < size; ++i) product *= bound - static_cast<uint32_t>(i) * step;
  while (pair * product < (0 - product) % product) pair = words.next_pair();
  return pair;
}

// Calls visit(first + i, index) with indices below bound, bound-step, bound-2 step, ..., independent and exactly uniform, all
// from one pair of words (Brackett-Rozinsky and Lemire, "Batched ranged random integer generation", 2024). The product of the
// bounds must be at most 2^48, so that a pair is rarely rejected.
template <class Visit>
LENGEN_INLINE void draw_index_group(int64_t first, int64_t size, int64_t bound, int64_t step, Words& words, Visit&& visit) {
  const auto greatest = static_cast<uint32_t>(bound), down = static_cast<uint32_t>(step);
  const uint64_t pair = words.next_pair();
  uint32_t indices[most_indices];
  if (split_pair(pair, size, greatest, down, indices) < greatest_product) [[unlikely]] {
    split_pair(accepted_pair(pair, size, greatest, down, words), size, greatest, down, indices);
  }
#pragma GCC unroll 8
  for (int64_t i = 0; i < size; ++i) visit(first + i, indices[i]);
}

// Indices that one pair of words serves.
inline int64_t index_group_size(int64_t bound) {
  if (bound <= 1 << 8) return std::min<int64_t>(6, bound);
  if (bound <= 1 << 12) return 4;
  return bound <= 1 << 16 ? 3 : 2;
}

// Calls visit(i, index) for i = 0, 1, ..., index exactly uniform in 0..bound-i-1: the draws of a Fisher-Yates shuffle. Stops at
// the first whole group that reaches `count`, so up to five further places below `bound` may be visited.
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
