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
    const int64_t ready = std::min<int64_t>(count, end_ - at_);
    if (ready > 0) std::memcpy(out, at_, static_cast<size_t>(ready) * sizeof(uint32_t));
    at_ += ready;
    const int64_t blocks = (count - ready) / words_per_block;
    philox_run(key_, block_, blocks, out + ready);
    block_ += static_cast<uint32_t>(blocks);
    for (int64_t i = ready + blocks * words_per_block; i < count; ++i) out[i] = next();
  }

 private:
  static constexpr int64_t refill_blocks = 8;

  void refill() {
    philox_run(key_, block_, refill_blocks, buffer_.data());
    block_ += refill_blocks;
    at_ = buffer_.data();
    end_ = at_ + buffer_.size();
  }

  RowKey key_;
  uint32_t block_;
  const uint32_t* at_ = nullptr;
  const uint32_t* end_ = nullptr;
  alignas(32) std::array<uint32_t, words_per_block * refill_blocks> buffer_;
};

// The largest group: bounds below 2^1 take one bit each.
inline constexpr int64_t most_indices = 48;

// Indices below bound, bound-1, ..., bound-group+1 from one pair of words.
template <class Visit>
void draw_index_group(int64_t first, int64_t group, int64_t bound, Words& words, Visit&& visit) {
  uint32_t indices[most_indices];
  uint64_t rest = 0, product = 0, threshold = 0;
  do {
    rest = words.next_pair();
    product = 1;
    for (int64_t i = 0; i < group; ++i) {
      const auto next = static_cast<unsigned __int128>(rest) * static_cast<uint64_t>(bound - i);
      indices[i] = static_cast<uint32_t>(next >> 64);
      rest = static_cast<uint64_t>(next);
      product *= static_cast<uint64_t>(bound - i);
    }
    if (rest < product) threshold = (0 - product) % product;
  } while (rest < threshold);
  for (int64_t i = 0; i < group; ++i) visit(first + i, indices[i]);
}

// Calls visit(i, index) for i in 0..count-1, index exactly uniform in 0..bound-i-1: the draws of a Fisher-Yates shuffle.
//
// One pair of words serves several indices, by multiplying with one bound after the other (Brackett-Rozinsky and Lemire,
// "Batched ranged random integer generation", 2024): the product of the bounds stays below 2^48, so a redraw is rare.
template <class Visit>
void draw_shuffle_indices(int64_t count, int64_t bound, Words& words, Visit&& visit) {
  for (int64_t i = 0; i < count;) {
    const int64_t group = std::min<int64_t>(count - i, 48 / std::bit_width(static_cast<uint64_t>(bound - i)));
    draw_index_group(i, group, bound - i, words, visit);
    i += group;
  }
}

}  // namespace lengen
