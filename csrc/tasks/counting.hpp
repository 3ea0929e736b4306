// Counting tasks: the answer depends on how often each symbol occurs.
#pragma once

#include <algorithm>
#include <array>

#include "../sampler.hpp"
#include "alphabet.hpp"
#include "bits.hpp"
#include "permutations.hpp"

namespace lengen {

// The number of zeros of a binary string without a tie.
// paper: uniform over 0..n without n/2. hard: a lead of one (n odd) or two (n even), for either bit.
inline int64_t draw_zeros(int64_t n, bool hard, Words& words) {
  if (hard) return words.below(2) == 0 ? (n - 1) / 2 : n / 2 + 1;
  const int64_t even = 1 - n % 2;
  const int64_t zeros = words.below(static_cast<uint32_t>(n + 1 - even));
  return zeros + (even & (zeros >= n / 2));
}

// x over {0, 1}; y is the more frequent bit.
class BinaryMajority final : public RowsOf<BinaryMajority> {
 public:
  explicit BinaryMajority(bool hard) : hard_(hard) {}

  int64_t usual_words(int64_t n) const override { return usual_words_for_ones(n); }
  int64_t scored_spill() const override { return short_spill; }
  RowShape largest_shape(int64_t n) const override { return question_shape(n, 1); }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    const int64_t ones = n - draw_zeros(n, hard_, words);
    if (n <= 64) {
      const uint64_t bits = draw_exact_ones(n, ones, words);
      expand_bits(&bits, n, question_of(row));
    } else {
      uint64_t* bits = at_least(scratch.bits[0], words_of_bits(n));
      draw_exact_ones(n, ones, words, bits, scratch);
      expand_bits(bits, n, question_of(row));
    }
    return frame_question({2}, n, 1, row, [&](auto*... y) { ((*y = 2 * ones > n), ...); });
  }

 private:
  bool hard_;
};

// Three binary strings of length n/3, interleaved; y is their three majorities.
class BinaryMajorityInterleave final : public RowsOf<BinaryMajorityInterleave> {
 public:
  explicit BinaryMajorityInterleave(bool hard) : hard_(hard) {}

  int64_t shortest() const override { return strings; }
  int64_t stride() const override { return strings; }
  int64_t usual_words(int64_t n) const override { return strings * usual_words_for_ones(n / strings); }
  int64_t scored_spill() const override { return short_spill; }
  RowShape largest_shape(int64_t n) const override { return question_shape(n, strings); }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    const int64_t each = n / strings;
    int64_t answer[strings];
    if (each <= 21) {
      uint64_t woven = 0;
      for (int i = 0; i < strings; ++i) {
        const int64_t ones = each - draw_zeros(each, hard_, words);
        woven |= spread_by_three(draw_exact_ones(each, ones, words)) << i;
        answer[i] = 2 * ones > each;
      }
      expand_bits(&woven, n, question_of(row));
    } else {
      expand_bits(draw_long(each, words, scratch, answer), n, question_of(row));
    }
    return frame_question({2}, n, strings, row, [&](auto*... y) { (std::copy_n(answer, strings, y), ...); });
  }

 private:
  static constexpr int strings = 3;

  LENGEN_SEPARATE const uint64_t* draw_long(int64_t each, Words& words, Scratch& scratch, int64_t* answer) const {
    const uint64_t* parts[strings];
    for (int i = 0; i < strings; ++i) {
      const int64_t ones = each - draw_zeros(each, hard_, words);
      uint64_t* bits = at_least(scratch.bits[i], words_of_bits(each));
      if (each <= 64) {
        bits[0] = draw_exact_ones(each, ones, words);
      } else {
        draw_exact_ones(each, ones, words, bits, scratch);
      }
      answer[i] = 2 * ones > each;
      parts[i] = bits;
    }
    uint64_t* woven = at_least(scratch.woven, words_of_bits(3 * each) + 1);
    interleave_three(parts, each, woven);
    return woven;
  }

  bool hard_;
};

// x over {0, 1}; y is `e` if the number of ones is even, else `o`.
class Parity final : public RowsOf<Parity> {
 public:
  explicit Parity(bool hard) : hard_(hard) {}

  int64_t shortest() const override { return 0; }
  int64_t usual_words(int64_t n) const override { return usual_words_for_ones(n); }
  int64_t scored_spill() const override { return short_spill; }
  RowShape largest_shape(int64_t n) const override { return question_shape(n, 1); }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    uint64_t* bits = at_least(scratch.bits[0], words_of_bits(n) + 1);
    const int64_t ones = hard_ ? draw_few(n, words, bits) : draw_any(n, words, bits, scratch);
    expand_bits(bits, n, question_of(row));
    return frame_question({4}, n, 1, row, [&](auto*... y) { ((*y = ones % 2 == 0 ? even : odd), ...); });
  }

 private:
  static constexpr int64_t even = 2, odd = 3;
  static constexpr int64_t most_rare = 3;

  static int64_t draw_any(int64_t n, Words& words, uint64_t* bits, Scratch& scratch) {
    const int64_t ones = words.below(static_cast<uint32_t>(n + 1));
    if (n <= 64) {
      bits[0] = draw_exact_ones(n, ones, words);
    } else {
      draw_exact_ones(n, ones, words, bits, scratch);
    }
    return ones;
  }

  // 0 to 3 rare bits, ones among zeros or zeros among ones, each in the first half of its own equal stretch.
  static int64_t draw_few(int64_t n, Words& words, uint64_t* bits) {
    const bool rare = words.below(2) == 1;
    const int64_t count = words.below(static_cast<uint32_t>(std::min(most_rare, n) + 1));
    std::fill_n(bits, words_of_bits(n), rare ? 0 : ~uint64_t{0});
    clear_past_end(bits, n);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t begin = n * i / count, end = n * (i + 1) / count;
      flip_bit(bits, begin + words.below(static_cast<uint32_t>((end - begin + 1) / 2)));
    }
    return rare ? count : n - count;
  }

  bool hard_;
};

// x over 26 letters; y is the most frequent one.
class Majority final : public RowsOf<Majority> {
 public:
  explicit Majority(bool hard) : hard_(hard) {}

  int64_t usual_words(int64_t n) const override { return hard_ ? usual_words_for_indices(n, n) : words_for_letters(n); }
  int64_t scored_spill() const override { return short_spill; }
  RowShape largest_shape(int64_t n) const override { return question_shape(n, 1); }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    uint8_t* x = at_least(scratch.letters, n + 31);
    const int64_t winner = hard_ ? draw_near_tie(n, words, x, scratch) : draw_until_clear(n, words, x, scratch);
    widen(x, n, question_of(row));
    return frame_question({letters}, n, 1, row, [&](auto*... y) { ((*y = winner), ...); });
  }

 private:
  static constexpr int64_t letters = 26;
  static constexpr int64_t letters_at_once = 256;

  // Independent letters, redrawn while the two most frequent tie.
  static int64_t draw_until_clear(int64_t n, Words& words, uint8_t* x, Scratch& scratch) {
    int64_t winner;
    do {
      draw_letters(n, words, x, scratch);
      winner = clear_winner(x, n);
    } while (winner < 0);
    return winner;
  }

  // Eight letters to a block of words.
  static int64_t words_for_letters(int64_t n) { return (n + 7) / 8 * words_per_block; }

  // Sixteen random bits a letter; the few that would make letters uneven are drawn again, from left to right.
  static void draw_letters(int64_t n, Words& words, uint8_t* x, Scratch& scratch) {
    uint32_t* draws = at_least(scratch.draws, words_for_letters(n));
    if (n <= 64) {
      for (int64_t i = 0; i < words_for_letters(n); i += words_per_block) words.fill(draws + i, words_per_block);
    } else {
      words.fill(draws, words_for_letters(n));
    }
    const auto* halves = reinterpret_cast<const uint16_t*>(draws);
    for (int64_t i = 0; i < n; i += letters_at_once) scale_letters(halves + i, std::min(letters_at_once, n - i), words, x + i);
  }

  static void scale_letters(const uint16_t* halves, int64_t count, Words& words, uint8_t* x) {
    bool rejected = false;
    scale_draws(halves, count, letters, x, rejected);
    for (int64_t i = 0; rejected && i < count; ++i) {
      if (static_cast<uint16_t>(halves[i] * letters) < 65536 % letters) x[i] = static_cast<uint8_t>(words.below(letters));
    }
  }

  // The most frequent letter, or -1 if there is a tie.
  static int64_t clear_winner(const uint8_t* x, int64_t n) {
    if (n <= 255) {
      uint8_t counts[32]{};
      for (int64_t i = 0; i < n; ++i) ++counts[x[i]];
      return place_of_greatest(counts);
    }
    std::array<int32_t, 32> counts{};
    count_letters(x, n, letters, counts.data());
    int64_t winner;
    find_greatest(counts.data(), winner);
    return winner;
  }

  // The winner occurs `share` + 1 times, as many rivals as possible `share` times, one rival what is left.
  static int64_t draw_near_tie(int64_t n, Words& words, uint8_t* x, Scratch& scratch) {
    std::array<uint32_t, letters + most_indices> order;
    draw_distinct(letters, letters, words, scratch, order.data());
    const int64_t share = (n - 1 + letters - 1) / letters;
    std::fill_n(x, share + 1, static_cast<uint8_t>(order[0]));
    for (int64_t i = share + 1, rival = 1; i < n; i += share, ++rival) {
      std::fill_n(x + i, std::min(share, n - i), static_cast<uint8_t>(order[static_cast<size_t>(rival)]));
    }
    shuffle_front(x, n, n, words);
    return order[0];
  }

  bool hard_;
};

}  // namespace lengen
