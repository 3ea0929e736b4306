// Counting tasks: the answer depends on how often each symbol occurs.
#pragma once

#include <algorithm>
#include <array>

#include "../sampler.hpp"
#include "alphabet.hpp"
#include "bits.hpp"
#include "letters.hpp"
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
    for (int64_t i = 0; i < count; ++i) flip_bit(bits, place_in_stretch(n, i, count, words));
    return rare ? count : n - count;
  }

  bool hard_;
};

// x over {0, 1}; y says whether exactly k symbols are 1.
// paper: with equal chance exactly k ones, or any other number of them, uniform; then shuffled.
// hard: k, k-1 or k+1 ones, each in the first half of its own equal stretch.
class CountOnes final : public RowsOf<CountOnes> {
 public:
  CountOnes(int64_t k, bool hard) : k_(k), hard_(hard) {}

  int64_t shortest() const override { return k_; }
  int64_t usual_words(int64_t n) const override { return usual_words_for_ones(n) + 1; }
  int64_t scored_spill() const override { return short_spill; }
  RowShape largest_shape(int64_t n) const override { return question_shape(n, 1); }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    const int64_t ones = hard_ ? draw_near(n, words) : draw_any(n, words);
    uint64_t* bits = at_least(scratch.bits[0], words_of_bits(n));
    if (hard_) {
      lay_apart(n, ones, words, bits);
    } else if (n <= 64) {
      bits[0] = draw_exact_ones(n, ones, words);
    } else {
      draw_exact_ones(n, ones, words, bits, scratch);
    }
    expand_bits(bits, n, question_of(row));
    return frame_question({4}, n, 1, row, [&](auto*... y) { ((*y = ones == k_ ? yes : no), ...); });
  }

 private:
  static constexpr int64_t no = 2, yes = 3;

  int64_t draw_any(int64_t n, Words& words) const {
    if (words.below(2) == 0) return k_;
    const int64_t ones = words.below(static_cast<uint32_t>(n));
    return ones + (ones >= k_);
  }

  int64_t draw_near(int64_t n, Words& words) const {
    const uint32_t which = words.below(4);
    return which < 2 ? k_ : which == 3 && k_ < n ? k_ + 1 : k_ - 1;
  }

  static void lay_apart(int64_t n, int64_t ones, Words& words, uint64_t* bits) {
    std::fill_n(bits, words_of_bits(n), 0);
    for (int64_t i = 0; i < ones; ++i) flip_bit(bits, place_in_stretch(n, i, ones, words));
  }

  int64_t k_;
  bool hard_;
};

// x over letters; y is the most frequent one.
// paper: independent letters, redrawn while the two most frequent tie.
// hard: the winner leads by one, before as many letters of the next highest count as fit.
class Mode final : public RowsOf<Mode> {
 public:
  Mode(int64_t letters, bool hard) : letters_(letters), order_(letters), hard_(hard) {}

  int64_t usual_words(int64_t n) const override { return hard_ ? usual_words_for_indices(n, n) : letters_.usual_words(n); }
  int64_t scored_spill() const override { return short_spill; }
  RowShape largest_shape(int64_t n) const override { return question_shape(n, 1); }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    int64_t winner;
    if (hard_) {
      uint8_t* x = at_least(scratch.letters, n + 31);
      winner = draw_near_tie(n, words, x, scratch);
      widen(x, n, question_of(row));
    } else {
      const uint8_t* numbers;
      do {
        numbers = letters_.draw(n, words, scratch);
        winner = clear_winner(numbers, n, scratch);
      } while (winner < 0);
      letters_.put(numbers, n, question_of(row));
    }
    return frame_question({letters_.count()}, n, 1, row, [&](auto*... y) { ((*y = winner), ...); });
  }

 private:
  // The most frequent letter, or -1 if there is a tie.
  int64_t clear_winner(const uint8_t* numbers, int64_t n, Scratch& scratch) const {
    const int64_t letters = letters_.count();
    if (letters <= 32 && n <= 255) {
      const uint8_t* x = letters_.bytes(numbers, n, scratch);
      uint8_t counts[32]{};
      for (int64_t i = 0; i < n; ++i) ++counts[x[i]];
      return place_of_greatest(counts);
    }
    std::array<int32_t, Letters::most> counts{};
    letters_.count_each(numbers, n, counts.data(), scratch);
    if (letters <= 32) {
      int64_t winner;
      find_greatest(counts.data(), winner);
      return winner;
    }
    const auto end = counts.begin() + letters, greatest = std::max_element(counts.begin(), end);
    return std::find(greatest + 1, end, *greatest) == end ? greatest - counts.begin() : -1;
  }

  // The winner occurs `share` + 1 times, as many rivals as possible `share` times, one rival what is left.
  int64_t draw_near_tie(int64_t n, Words& words, uint8_t* x, Scratch& scratch) const {
    std::array<uint32_t, Letters::most + most_indices> order;
    const int64_t letters = letters_.count();
    order_.draw(letters, words, scratch, order.data());
    const int64_t share = (n - 1 + letters - 1) / letters;
    std::fill_n(x, share + 1, static_cast<uint8_t>(order[0]));
    for (int64_t i = share + 1, rival = 1; i < n; i += share, ++rival) {
      std::fill_n(x + i, std::min(share, n - i), static_cast<uint8_t>(order[static_cast<size_t>(rival)]));
    }
    shuffle_front(x, n, n, words);
    return order[0];
  }

  Letters letters_;
  Distinct order_;
  bool hard_;
};

// x over the symbols; y is, for each place of x, how often its symbol occurs in x: 1 to 9 times.
// paper: counts uniform in 1..9 until n is reached, of distinct random symbols; then shuffled.
// hard: every symbol occurs c or c+1 times (the last may be cut short), c uniform in 1..8.
class Histogram final : public RowsOf<Histogram> {
 public:
  Histogram(int64_t symbols, bool hard) : symbols_(symbols), distinct_(symbols), hard_(hard) {}

  int64_t longest() const override { return std::min(symbols_, longest_length); }
  int64_t usual_words(int64_t n) const override { return n / 3 + distinct_.usual_words(n / 4) + usual_words_for_indices(n, n); }
  RowShape largest_shape(int64_t n) const override { return question_shape(n, n); }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    const uint32_t* x = draw(n, words, scratch);
    put_field(x, n, count_bits, ~uint32_t{0}, 0, question_of(row));
    return frame_question({symbols_ + most_often}, n, n, row, [&](auto*... y) {
      (put_field(x, n, 0, count_mask, symbols_ - 1, y), ...);
    });
  }

 private:
  static constexpr int64_t most_often = 9;
  static constexpr int count_bits = 4;
  static constexpr uint32_t count_mask = 15;

  // Each place as symbol << 4 | count.
  const uint32_t* draw(int64_t n, Words& words, Scratch& scratch) const {
    uint8_t* counts = at_least(scratch.seen, n);
    const int64_t distinct = hard_ ? draw_close_counts(n, words, counts) : draw_counts(n, words, counts);
    uint32_t* drawn = at_least(scratch.draws, distinct + most_indices);
    distinct_.draw(distinct, words, scratch, drawn);
    uint32_t* x = at_least(scratch.sorted, n + 31);
    for (int64_t i = 0, to = 0; i < distinct; to += counts[i++]) put_sixteen(drawn[i] << count_bits | counts[i], x + to);
    shuffle_front(x, n, n, words);
    return x;
  }

  static int64_t draw_counts(int64_t n, Words& words, uint8_t* counts) {
    int64_t distinct = 0;
    for (int64_t left = n; left > 0; left -= counts[distinct++]) {
      counts[distinct] = static_cast<uint8_t>(1 + words.below(static_cast<uint32_t>(std::min(most_often, left))));
    }
    return distinct;
  }

  static int64_t draw_close_counts(int64_t n, Words& words, uint8_t* counts) {
    const int64_t least = 1 + words.below(most_often - 1);
    int64_t distinct = 0;
    for (int64_t left = n; left > 0; left -= counts[distinct++]) {
      counts[distinct] = static_cast<uint8_t>(std::min<int64_t>(least + words.below(2), left));
    }
    return distinct;
  }

  int64_t symbols_;
  Distinct distinct_;
  bool hard_;
};

}  // namespace lengen
