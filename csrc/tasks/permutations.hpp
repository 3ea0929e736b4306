// Distinct symbols in random order.
#pragma once

#include <algorithm>
#include <utility>

#include "../random.hpp"
#include "../sampler.hpp"

namespace lengen {

// Puts the `count` values of `order` in random order, all arrangements equally likely; with steps < count only the first
// `steps` places, each subset and arrangement equally likely (Fisher-Yates from the front).
template <class T>
void shuffle_front(T* order, int64_t steps, int64_t count, Words& words) {
  draw_shuffle_indices(0, steps, count, words, [order](int64_t i, int64_t index) { std::swap(order[i], order[i + index]); });
}

// The identity order of `symbols` symbols, kept in the scratch memory.
inline uint32_t* identity_of(int64_t symbols, Scratch& scratch) {
  uint32_t* order = at_least(scratch.order, symbols + 31);
  if (scratch.identity < symbols) identity_order(symbols, order);
  scratch.identity = std::max(scratch.identity, symbols);
  return order;
}

// order[i] and order[i + index] change places; the value that comes to i goes to drawn.
template <class T>
struct DrawInto {
  T* order;
  T* drawn;

  void operator()(int64_t i, int64_t index) const {
    drawn[i] = order[i + index];
    order[i + index] = order[i];
  }
};

// Symbols below this number fit in a byte, and their order is laid anew for every row.
inline constexpr int64_t byte_symbols = 256;

// A row of distinct values of 0..symbols-1 in random order, all arrangements equally likely, while it is drafted: begin() draws, and
// finish() puts the values in order. symbols <= byte_symbols and n <= longest_draft.
class DistinctDraft {
 public:
  alignas(32) uint8_t x[longest_draft + 32], y[longest_draft + 32], seen[byte_symbols];  // for the task

  void begin(int64_t n, int64_t symbols, Words& words) {
    int64_t drawn = 0;
#if LENGEN_HAS_AVX2_PATH
    const int64_t groups = std::min((n + size - 1) / size, symbols / size);
    const uint32_t* at_hand = words.peek(2 * groups);
    if (use_avx2() && at_hand != nullptr && shuffle_places_avx2<size>(at_hand, groups, symbols, places_)) [[likely]] {
      words.skip(2 * groups);
      drawn = size * groups;
    }
#endif
    if (drawn < n) [[unlikely]] {
      draw_shuffle_indices(drawn, n, symbols, words, [&](int64_t i, int64_t index) {
        place(i) = static_cast<uint64_t>(i + index);
        drawn = i + 1;
      });
      for (; drawn % size != 0; ++drawn) place(drawn) = static_cast<uint64_t>(drawn);  // all symbols are drawn
    }
  }

  // drawn[0..n), and a few more. Returns a word with a one for each, if symbols <= 64.
  uint64_t finish(int64_t n, int64_t symbols, uint8_t* drawn) const {
    uint64_t ones = 0;
    uint8_t order[byte_symbols + 32];
    identity_order(symbols + size, order);
    const int64_t groups = (n + size - 1) / size;
    for (int64_t g = 0; g < groups; ++g, drawn += size) {
      const uint64_t* of_group = places_ + g / 4 * 4 * size + g % 4;
#pragma GCC unroll 8
      for (int64_t j = 0; j < size; ++j) {
        const uint64_t place = of_group[4 * j];
        const uint8_t symbol = order[place];
        drawn[j] = symbol;
        order[place] = order[g * size + j];
        ones |= uint64_t{1} << (symbol & 63);
      }
    }
#pragma GCC unroll 8
    for (int64_t j = 1; j < size; ++j) {
      const bool extra = j <= size * groups - n && drawn[-j] < symbols;
      ones ^= static_cast<uint64_t>(extra) << (drawn[-j] & 63);
    }
    return symbols < 64 ? ones & ((uint64_t{1} << symbols) - 1) : ones;
  }

 private:
  static constexpr int64_t size = 6;  // of a group

  uint64_t& place(int64_t i) { return places_[(i / size / 4 * size + i % size) * 4 + i / size % 4]; }

  uint64_t places_[((longest_draft + size) / size / 4 + 1) * 4 * size];  // see shuffle_places_avx2
};

// drawn[0..n): the same for any number of symbols and any length. A few more may be written.
inline void draw_distinct(int64_t n, int64_t symbols, Words& words, Scratch& scratch, uint32_t* drawn) {
  uint32_t* order = identity_of(symbols, scratch);
  const DrawInto<uint32_t> draw{order, drawn};
  if (symbols <= 8 * n) {
    draw_shuffle_indices(0, n, symbols, words, draw);
    identity_order(symbols, order);
    return;
  }
  uint32_t* moved = at_least(scratch.moved, n + most_indices);
  int64_t count = 0;
  draw_shuffle_indices(0, n, symbols, words, [&](int64_t i, int64_t index) {
    draw(i, index);
    moved[count++] = static_cast<uint32_t>(i + index);
  });
  for (int64_t i = 0; i < count; ++i) order[moved[i]] = moved[i];
}

}  // namespace lengen
