// Balanced brackets, shuffles of two kinds of them, and blocks of equal length: uniform over the members of a length.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "../random.hpp"
#include "../sampler.hpp"
#include "../tasks/bits.hpp"

namespace lengen {

// What a byte of steps does, a one upwards and a zero downwards, lowest bit first: how far it leads, the lowest level on the way
// after a step, and after how many steps that comes first.
struct ByteOfSteps {
  int8_t rise, lowest, lowest_after;
};

inline constexpr auto bytes_of_steps = [] {
  std::array<ByteOfSteps, 256> table{};
  for (unsigned byte = 0; byte < 256; ++byte) {
    int8_t level = 0;
    table[byte].lowest = 100;
    for (int8_t i = 0; i < 8; ++i) {
      level = static_cast<int8_t>(level + (byte >> i & 1 ? 1 : -1));
      if (level < table[byte].lowest) {
        table[byte].lowest = level;
        table[byte].lowest_after = static_cast<int8_t>(i + 1);
      }
    }
    table[byte].rise = level;
  }
  return table;
}();

// For each byte, its inverted bits as bytes, lowest first.
inline constexpr auto inverted_bits = [] {
  std::array<uint64_t, 256> table{};
  for (uint64_t byte = 0; byte < 256; ++byte) {
    for (uint64_t i = 0; i < 8; ++i) table[byte] |= uint64_t{(byte >> i & 1) == 0} << (8 * i);
  }
  return table;
}();

// After how many of n steps the lowest level is reached first; n >= 1.
inline int64_t first_lowest(const uint64_t* bits, int64_t n) {
  int64_t level = 0, lowest = std::numeric_limits<int64_t>::max(), found = 0;
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const ByteOfSteps& steps = bytes_of_steps[bits[i / 64] >> (i % 64) & 255];
    if (level + steps.lowest < lowest) {
      lowest = level + steps.lowest;
      found = i + steps.lowest_after;
    }
    level += steps.rise;
  }
  for (; i < n; ++i) {
    level += bit_at(bits, i) ? 1 : -1;
    if (level < lowest) {
      lowest = level;
      found = i + 1;
    }
  }
  return found;
}

// x[i] = 1 - bit (first + i) of n bits. Up to seven more bytes are written.
inline void put_inverted(const uint64_t* bits, int64_t n, int64_t first, int64_t count, uint8_t* x) {
  for (int64_t i = 0; i < count; i += 64) {
    const uint64_t word = window(bits, n, first + i);
    for (int64_t j = i; j < count && j < i + 64; j += 8) std::memcpy(x + j, &inverted_bits[word >> (j - i) & 255], 8);
  }
}

// 2 * pairs balanced brackets, 0 opens and 1 closes, all equally likely: of the rotations of a random string with one bracket
// more that closes, one alone never falls below its start before its end (the cycle lemma of Dvoretzky and Motzkin, 1947).
inline void draw_balanced(int64_t pairs, Words& words, Scratch& scratch, uint8_t* x) {
  const int64_t n = 2 * pairs + 1;
  uint64_t* bits = at_least(scratch.bits[0], words_of_bits(n) + 1);
  if (n <= 64) {
    bits[0] = draw_exact_ones(n, pairs, words);
  } else {
    draw_exact_ones(n, pairs, words, bits, scratch);
  }
  const int64_t start = first_lowest(bits, n);
  put_inverted(bits, n, start, n - start, x);
  put_inverted(bits, n, 0, start - 1, x + n - start);
}

class BalancedBrackets {
 public:
  int64_t usual_words(int64_t n) const { return usual_words_for_ones(n + 1); }
  void draw(int64_t n, Words& words, Scratch& scratch, uint8_t* x) const { draw_balanced(n / 2, words, scratch, x); }
};

// Balanced brackets 0 1 and 2 3, shuffled. With k of m pairs of the first kind there are (2m)! / (k! (k+1)! (m-k)! (m-k+1)!)
// such strings, in proportion to C(m, k) C(m + 2, m + 1 - k): k is the number of the first m among m + 1 out of 2 m + 2.
class ShuffledBrackets {
 public:
  int64_t usual_words(int64_t n) const { return 4 * usual_words_for_ones(n + 2); }

  void draw(int64_t n, Words& words, Scratch& scratch, uint8_t* x) const {
    const int64_t pairs = n / 2;
    uint64_t* bits = at_least(scratch.bits[1], words_of_bits(n + 2) + 1);
    draw_ones(n + 2, pairs + 1, words, scratch, bits);
    const int64_t first_pairs = count_first(bits, pairs);
    draw_ones(n, 2 * first_pairs, words, scratch, bits);
    uint8_t* first = at_least(scratch.parts, 2 * (n + 16));
    uint8_t* second = first + 2 * first_pairs + 16;
    draw_balanced(first_pairs, words, scratch, first);
    draw_balanced(pairs - first_pairs, words, scratch, second);
    for (int64_t i = 0; i < n; ++i) {
      const bool is_first = bit_at(bits, i);
      x[i] = static_cast<uint8_t>(is_first ? *first : *second + 2);
      first += is_first;
      second += !is_first;
    }
  }

 private:
  static void draw_ones(int64_t n, int64_t ones, Words& words, Scratch& scratch, uint64_t* bits) {
    if (n <= 64) {
      bits[0] = draw_exact_ones(n, ones, words);
    } else {
      draw_exact_ones(n, ones, words, bits, scratch);
    }
  }

  static int64_t count_first(const uint64_t* bits, int64_t n) {
    const int64_t whole = n / 64;
    return count_ones(bits, 64 * whole) + (n % 64 == 0 ? 0 : ones_in_word(bits[whole] & low_bits(n % 64)));
  }
};

// Each symbol in order, n / symbols times.
class EqualBlocks {
 public:
  explicit EqualBlocks(int64_t symbols) : symbols_(static_cast<uint32_t>(symbols)) {}

  int64_t usual_words(int64_t) const { return 0; }

  void draw(int64_t n, Words&, Scratch&, uint8_t* x) const {
    const int64_t each = static_cast<uint32_t>(n) / symbols_;
    for (uint32_t symbol = 0; symbol < symbols_; ++symbol, x += each) fill_bytes(static_cast<uint8_t>(symbol), each, x);
  }

 private:
  uint32_t symbols_;
};

}  // namespace lengen
