// Random bit strings, 64 bits to a word, first bit lowest. Bits past the end are zero.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>

#include "../random.hpp"
#include "../sampler.hpp"

namespace lengen {

inline int64_t words_of_bits(int64_t n) { return (n + 63) / 64; }

inline uint64_t low_bits(int64_t count) { return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1; }

inline bool bit_at(const uint64_t* bits, int64_t place) { return bits[place / 64] >> (place % 64) & 1; }

inline void flip_bit(uint64_t* bits, int64_t place) { bits[place / 64] ^= uint64_t{1} << (place % 64); }

inline void clear_past_end(uint64_t* bits, int64_t n) {
  if (n % 64 != 0) bits[n / 64] &= low_bits(n % 64);
}

inline int64_t ones_in_word(uint64_t word) { return __builtin_popcountll(word); }

inline int64_t count_ones(const uint64_t* bits, int64_t n) {
  int64_t ones = 0;
  count_ones_in(bits, words_of_bits(n), ones);
  return ones;
}

// n independent fair bits.
inline void draw_fair_bits(int64_t n, Words& words, uint64_t* bits) {
  if (n <= 64) {
    if (n > 0) bits[0] = words.next_pair() & low_bits(n);
    return;
  }
  words.fill(bits, words_of_bits(n));
  clear_past_end(bits, n);
}

// The probability of a one is numerator / 2^digits; more digits for longer strings, until the rounding is lost in chance.
struct Density {
  uint32_t numerator;
  int64_t digits;
};

inline constexpr int64_t digits_in_one_word = 4;

inline int64_t density_digits(int64_t n) {
  return n <= 64 ? digits_in_one_word : std::bit_width(static_cast<uint64_t>(n)) / 2 + 1;
}

// A density that starts a string of `ones` ones, slightly low: a missing one is cheaper to add than an extra one to remove.
inline Density starting_density(int64_t n, int64_t ones) {
  const int64_t digits = density_digits(n);
  const int64_t margin = (int64_t{1} << std::bit_width(static_cast<uint64_t>(ones)) / 2) / 2;
  return {n == 0 ? 0 : static_cast<uint32_t>((ones - margin) << digits) / static_cast<uint32_t>(n), digits};
}

inline int64_t usual_words_for_ones(int64_t n) { return 2 * words_of_bits(n) * density_digits(n) + 3; }

// Independent bits of the given density, from one fair bit per binary digit: `or` for a 1, `and` for a 0, last digit first.
inline void draw_biased_bits(Density density, int64_t n, Words& words, uint64_t* bits, Scratch& scratch) {
  const int64_t size = words_of_bits(n);
  uint64_t* fresh = at_least(scratch.fresh, size);
  std::fill_n(bits, size, 0);
  for (int64_t digit = 0; digit < density.digits; ++digit) {
    words.fill(fresh, size);
    merge_bits(density.numerator >> digit & 1, fresh, size, bits);
  }
  clear_past_end(bits, n);
}

// The same for at most 64 bits.
inline uint64_t draw_biased_word(Density density, int64_t n, Words& words) {
  uint64_t fresh[digits_in_one_word], kept = 0;
  words.fill(fresh, digits_in_one_word);
  for (int64_t digit = 0; digit < digits_in_one_word; ++digit) {
    const uint64_t either = 0 - static_cast<uint64_t>(density.numerator >> digit & 1);
    kept = (kept & fresh[digit]) | (either & (kept | fresh[digit]));
  }
  return kept & low_bits(n);
}

// Flips uniformly random bits equal to `from` until `excess` of them have changed; several places come from one pair of words.
inline void flip_some(bool from, int64_t excess, int64_t n, Words& words, uint64_t* bits) {
  const auto flip = [&](int64_t, int64_t place) {
    const bool flips = (bit_at(bits, place) == from) & (excess > 0);
    bits[place / 64] ^= static_cast<uint64_t>(flips) << (place % 64);
    excess -= flips;
  };
  while (excess > 0) {
    if (n <= 1 << 12) {
      draw_index_group(0, 4, n, 0, words, flip);
    } else {
      draw_index_group(0, 2, n, 0, words, flip);
    }
  }
}

// The same for at most 64 bits.
inline uint64_t flip_some_in_word(bool from, int64_t excess, int64_t n, Words& words, uint64_t word) {
  const uint64_t inversion = from ? 0 : ~uint64_t{0};
  word ^= inversion;
  while (excess > 0) {
    uint64_t places = 0, cleared = 0;  // of growing sets of places, the last that clears at most `excess` ones
    draw_index_group(0, 8, n, 0, words, [&](int64_t, int64_t place) {
      places |= uint64_t{1} << place;
      const uint64_t ones = word & places;
      cleared |= ones & static_cast<uint64_t>((ones_in_word(ones) - excess - 1) >> 63);
    });
    word ^= cleared;
    excess -= ones_in_word(cleared);
  }
  return (word ^ inversion) & low_bits(n);
}

// n bits with exactly `ones` ones, all arrangements equally likely: independent bits, then uniformly random corrections.
// Given their number of ones, independent bits are equally likely in every arrangement, and each correction keeps it so.
inline void draw_exact_ones(int64_t n, int64_t ones, Words& words, uint64_t* bits, Scratch& scratch) {
  const bool inverted = 2 * ones > n;
  const int64_t rarer = inverted ? n - ones : ones;
  draw_biased_bits(starting_density(n, rarer), n, words, bits, scratch);
  const int64_t found = count_ones(bits, n);
  flip_some(found > rarer, std::abs(found - rarer), n, words, bits);
  const uint64_t inversion = 0 - static_cast<uint64_t>(inverted);
  for (int64_t i = 0; i < words_of_bits(n); ++i) bits[i] ^= inversion;
  clear_past_end(bits, n);
}

// The same for at most 64 bits.
inline uint64_t draw_exact_ones(int64_t n, int64_t ones, Words& words) {
  const bool inverted = 2 * ones > n;
  const int64_t rarer = inverted ? n - ones : ones;
  const uint64_t word = draw_biased_word(starting_density(n, rarer), n, words);
  const int64_t found = ones_in_word(word);
  const uint64_t exact = flip_some_in_word(found > rarer, std::abs(found - rarer), n, words, word);
  return (exact ^ (0 - static_cast<uint64_t>(inverted))) & low_bits(n);
}

// A random place in the first half of stretch i of `count` equal stretches of 0..n-1: places far from one another.
inline int64_t place_in_stretch(int64_t n, int64_t i, int64_t count, Words& words) {
  const int64_t begin = n * i / count, end = n * (i + 1) / count;
  return begin + words.below(static_cast<uint32_t>((end - begin + 1) / 2));
}

// bit i of the result is bit i % period of `block`.
inline void repeat_block(uint64_t block, int64_t period, int64_t n, uint64_t* bits) {
  for (int64_t i = 0; i < words_of_bits(n); ++i) {
    const int64_t phase = i * 64 % period;
    uint64_t word = (block >> phase | block << (period - phase)) & low_bits(period);
    for (int64_t filled = period; filled < 64; filled *= 2) word |= word << filled;
    bits[i] = word;
  }
  clear_past_end(bits, n);
}

// The low 21 bits of `bits`, two zeros after each.
inline uint64_t spread_by_three(uint64_t bits) {
  bits &= 0x1FFFFF;
  bits = (bits | bits << 32) & 0x001F00000000FFFF;
  bits = (bits | bits << 16) & 0x001F0000FF0000FF;
  bits = (bits | bits << 8) & 0x100F00F00F00F00F;
  bits = (bits | bits << 4) & 0x10C30C30C30C30C3;
  return (bits | bits << 2) & 0x1249249249249249;
}

// 64 bits starting at bit `place`, of which those at n and above read as zero.
inline uint64_t window(const uint64_t* bits, int64_t n, int64_t place) {
  const int64_t word = place / 64, shift = place % 64;
  const uint64_t low = bits[word] >> shift;
  const bool has_more = shift != 0 && (word + 1) * 64 < n;
  return has_more ? low | bits[word + 1] << (64 - shift) : low;
}

// bit 3 i + k of the result is bit i of strings[k]; three strings of `each` bits. `woven` has room for 3 each + 63 bits.
inline void interleave_three(const uint64_t* const strings[3], int64_t each, uint64_t* woven) {
  std::fill_n(woven, words_of_bits(3 * each) + 1, 0);
  for (int64_t i = 0; i < each; i += 21) {
    uint64_t group = 0;
    for (int k = 0; k < 3; ++k) group |= spread_by_three(window(strings[k], each, i)) << k;
    const int64_t word = 3 * i / 64, shift = 3 * i % 64;
    woven[word] |= group << shift;
    if (shift != 0) woven[word + 1] |= group >> (64 - shift);
  }
}

}  // namespace lengen
