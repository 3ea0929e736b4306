// Distinct symbols in random order.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "../random.hpp"
#include "../sampler.hpp"

namespace lengen {

// Puts the `count` values of `order` in random order, all arrangements equally likely; with steps < count only the first
// `steps` places, each subset and arrangement equally likely (Fisher-Yates from the front).
template <class T>
void shuffle_front(T* order, int64_t steps, int64_t count, Words& words) {
  draw_shuffle_indices(steps, count, words, [order](int64_t i, int64_t index) { std::swap(order[i], order[i + index]); });
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

// Distinct ones of `symbols` symbols in random order, all arrangements equally likely.
//
// A few of few symbols are sieved: they are the first different ones of independent numbers, each scaled from the next 16 random bits;
// the few of those that would make numbers uneven count for nothing. n + n^2 / symbols + 2 draws are nearly always enough up to a
// third of the symbols; words for that many draws, but no more than 32, are taken in eights, and then eight at a time. All others are
// the beginning of a shuffle.
class Distinct {
 public:
  static constexpr int64_t most_sieved = 64, most_symbols = 256;

  // Sieved symbols, with others behind them, and for each symbol whether it is one of them.
  struct Sieved {
    alignas(32) uint8_t x[most_sieved + spill], seen[most_symbols + 32];
  };

  explicit Distinct(int64_t symbols)
      : symbols_(symbols), bound_(static_cast<uint16_t>(symbols)), threshold_(static_cast<uint16_t>(65536 % symbols)) {
    for (int64_t n = 0; n <= most_sieved; ++n) {
      eights_[static_cast<size_t>(n)] = static_cast<uint8_t>((std::min(n + n * n / symbols + 2, most_draws) + 7) / 8);
    }
  }

  int64_t symbols() const { return symbols_; }
  bool sieves(int64_t n) const { return n <= most_sieved && symbols_ <= most_symbols; }
  int64_t usual_words(int64_t n) const { return sieves(n) ? groups(n) * group_words : usual_words_for_indices(n, symbols_); }

  // How many numbers are added before the first look at what they gave depends on n alone, so that the processor knows it early.
  // `marked`: with the right values of `seen`.
  template <bool marked>
  void sieve(int64_t n, Words& words, Sieved& row) const {
    uint8_t numbers[most_draws];
    draw_numbers(groups(n), words, numbers);
    fill_bytes(0, most_symbols, row.seen);
    row.seen[symbols_] = 1;  // no number
    int64_t count = 0, added = 0;
    const auto add_from = [&](const uint8_t* from) {
      count += add_eight(from, row.seen, row.x + count);
      added += 8;
    };
    while (added < 8 * eights(n)) add_from(numbers + added);
    if (count < n) [[unlikely]] {
      if (added % group_draws != 0) add_from(numbers + added);
      while (count < n) {
        draw_numbers(1, words, numbers);
        add_from(numbers);
        add_from(numbers + 8);
      }
    }
    if constexpr (marked) {
      row.seen[symbols_] = 0;
      for (int64_t i = n; i < count; ++i) row.seen[row.x[i]] = 0;
    }
  }

  // drawn[0..n), and a few more.
  void draw(int64_t n, Words& words, Scratch& scratch, uint32_t* drawn) const {
    if (sieves(n)) {
      Sieved row;
      sieve<false>(n, words, row);
      std::copy_n(row.x, n, drawn);
      return;
    }
    uint32_t* order = identity_of(symbols_, scratch);
    const DrawInto<uint32_t> draw{order, drawn};
    if (symbols_ <= 8 * n) {
      draw_shuffle_indices(n, symbols_, words, draw);
      identity_order(symbols_, order);
      return;
    }
    uint32_t* moved = at_least(scratch.moved, n + most_indices);
    int64_t count = 0;
    draw_shuffle_indices(n, symbols_, words, [&](int64_t i, int64_t index) {
      draw(i, index);
      moved[count++] = static_cast<uint32_t>(i + index);
    });
    for (int64_t i = 0; i < count; ++i) order[moved[i]] = moved[i];
  }

 private:
  static constexpr int64_t group_words = 8, group_draws = 2 * group_words, most_words = 4 * group_words, most_draws = 2 * most_words;

  int64_t eights(int64_t n) const { return eights_[static_cast<size_t>(n)]; }
  int64_t groups(int64_t n) const { return (eights(n) + 1) / 2; }

  // As many at hand are scaled as there can be, which is faster than to count them.
  LENGEN_INLINE void draw_numbers(int64_t groups, Words& words, uint8_t* numbers) const {
    uint32_t spare[most_words];
    const int64_t count = groups * group_words;
    if (const uint32_t* at_hand = words.peek(most_words)) {
      words.skip(count);
      scale(at_hand, most_words, numbers);
    } else {
      words.fill(spare, count);
      scale(spare, count, numbers);
    }
  }

  LENGEN_INLINE void scale(const uint32_t* words, int64_t count, uint8_t* numbers) const {
    scale_draws_or_mark(reinterpret_cast<const uint16_t*>(words), 2 * count, bound_, threshold_, numbers);
  }

  // Puts new ones in x and returns how many. All are looked up before, so that no more than that waits for the one before it.
  LENGEN_INLINE static int64_t add_eight(const uint8_t* numbers, uint8_t* seen, uint8_t* x) {
    uint64_t old = 0;
#pragma GCC unroll 8
    for (int64_t i = 0; i < 8; ++i) {
      old |= uint64_t{seen[numbers[i]]} << i;
      seen[numbers[i]] = 1;
    }
    return put_chosen(numbers, old ^ 255, x);
  }

  int64_t symbols_;
  uint16_t bound_, threshold_;
  std::array<uint8_t, most_sieved + 1> eights_;  // of the draws that are looked at first
};

}  // namespace lengen
