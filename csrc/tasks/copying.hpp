// Copying tasks: the answer repeats the question, or every k-th symbol of it.
#pragma once

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "../sampler.hpp"
#include "alphabet.hpp"
#include "bits.hpp"
#include "letters.hpp"
#include "permutations.hpp"

namespace lengen {

// paper: n distinct symbols in random order.
// hard: n consecutive symbols from a random one on, past the last back to 0, with one to three random pairs swapped.
inline void draw_unique(int64_t n, const Distinct& distinct, bool hard, Words& words, Scratch& scratch, uint32_t* x) {
  const int64_t symbols = distinct.symbols();
  if (!hard) {
    distinct.draw(n, words, scratch, x);
    return;
  }
  const int64_t first = words.below(static_cast<uint32_t>(symbols));
  for (int64_t i = 0; i < n; ++i) x[i] = static_cast<uint32_t>(first + i < symbols ? first + i : first + i - symbols);
  for (uint32_t swaps = 1 + words.below(3); swaps > 0; --swaps) {
    const uint32_t one = words.below(static_cast<uint32_t>(n)), other = words.below(static_cast<uint32_t>(n));
    std::swap(x[one], x[other]);
  }
}

// x is n distinct symbols; y is x.
class UniqueCopy final : public RowsOf<UniqueCopy> {
 public:
  using Draft = Distinct::Sieved;

  UniqueCopy(int64_t symbols, bool hard) : alphabet_{symbols}, distinct_(symbols), hard_(hard) {}

  int64_t longest() const override { return std::min(alphabet_.symbols, longest_length); }
  int64_t usual_words(int64_t n) const override { return distinct_.usual_words(n); }
  RowShape largest_shape(int64_t n) const override { return question_shape(n, n); }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    uint32_t* x = at_least(scratch.draws, n + 31);
    draw_unique(n, distinct_, hard_, words, scratch, x);
    return write_symbols(n, x, row);
  }

  bool drafts(int64_t n) const { return !hard_ && distinct_.sieves(n); }
  void draft(int64_t n, Words& words, Draft& draft) const { distinct_.sieve<false>(n, words, draft); }
  void finish_draft(int64_t, Draft&) const {}
  RowShape write_draft(int64_t n, const Draft& draft, const RowView& row) const { return write_symbols(n, draft.x, row); }

 private:
  template <class Symbol>
  RowShape write_symbols(int64_t n, const Symbol* x, const RowView& row) const {
    widen(x, n, question_of(row));
    return frame_question(alphabet_, n, n, row, [&](auto*... y) { widen(x, n, y...); });
  }

  Alphabet alphabet_;
  Distinct distinct_;
  bool hard_;
};

// What a copy of n letters, a bit each, looks like: as many letters as length(n), which put() writes to every y.
struct Forwards {
  static constexpr int64_t length(int64_t n) { return n; }
  static void put(const uint64_t* x, int64_t n, auto*... y) { expand_bits(x, n, y...); }
};

struct Backwards {
  static constexpr int64_t length(int64_t n) { return n; }
  static void put(const uint64_t* x, int64_t n, auto*... y) { expand_number(x, n, y...); }
};

struct Twice {
  static constexpr int64_t length(int64_t n) { return 2 * n; }
  static void put(const uint64_t* x, int64_t n, auto*... y) {
    expand_bits(x, n, y...);
    expand_bits(x, n, (y + n)...);
  }
};

// x over {a, b}; y is a copy of x.
// paper: independent letters. hard: a random block of 1 to 8 letters repeated to length n, with one letter changed.
template <class Copy>
class LetterCopy final : public RowsOf<LetterCopy<Copy>> {
 public:
  explicit LetterCopy(bool hard) : hard_(hard) {}

  int64_t usual_words(int64_t n) const override { return hard_ ? 4 : 2 * words_of_bits(n); }
  RowShape largest_shape(int64_t n) const override { return question_shape(n, Copy::length(n)); }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    uint64_t* x = at_least(scratch.bits[0], words_of_bits(n));
    if (hard_) {
      draw_almost_periodic(n, words, x);
    } else {
      draw_fair_bits(n, words, x);
    }
    expand_bits(x, n, question_of(row));
    return frame_question({2}, n, Copy::length(n), row, [&](auto*... y) { Copy::put(x, n, y...); });
  }

 private:
  static constexpr int64_t longest_period = 8;

  static void draw_almost_periodic(int64_t n, Words& words, uint64_t* x) {
    const int64_t period = 1 + words.below(longest_period);
    repeat_block(words.next() & low_bits(period), period, n, x);
    flip_bit(x, words.below(static_cast<uint32_t>(n)));
  }

  bool hard_;
};

using RepeatCopy = LetterCopy<Forwards>;
using Reverse = LetterCopy<Backwards>;
using Duplicate = LetterCopy<Twice>;

// x over 16 letters and a blank; y is the letters of x in order.
// paper: 1 to n letters, uniform, at random places. hard: at most 16, each in the first half of its own equal stretch, all the same
// letter but one.
class SelectiveCopy final : public RowsOf<SelectiveCopy> {
 public:
  explicit SelectiveCopy(bool hard) : hard_(hard) {}

  int64_t usual_words(int64_t n) const override { return hard_ ? 20 : 1 + usual_words_for_ones(n) + letters_.usual_words(n); }
  RowShape largest_shape(int64_t n) const override { return question_shape(n, hard_ ? std::min(n, most_apart) : n); }

  // Kept: how many letters there are, a bit for each place of x, and the letters.
  int64_t kept_bytes(int64_t n) const { return 8 + 8 * words_of_bits(n) + whole_words(n); }

  Kept keep(int64_t n, Words& words, Scratch& scratch, uint8_t* at) const {
    const int64_t count = 1 + words.below(static_cast<uint32_t>(hard_ ? std::min(n, most_apart) : n));
    std::memcpy(at, &count, sizeof count);
    auto* const places = reinterpret_cast<uint64_t*>(at + sizeof count);
    uint8_t* const letters = at + sizeof count + 8 * words_of_bits(n);
    if (hard_) {
      draw_apart(n, count, words, places, letters);
    } else {
      draw_anywhere(n, count, words, scratch, places, letters);
    }
    return {question_shape(n, count), letters + whole_words(count)};
  }

  RowShape write_kept(int64_t n, const uint8_t*& at, const RowView& row) const {
    int64_t count;
    std::memcpy(&count, at, sizeof count);
    const auto* const places = reinterpret_cast<const uint64_t*>(at + sizeof count);
    const uint8_t* letters = at + sizeof count + 8 * words_of_bits(n);
    at = letters + whole_words(count);
    int32_t* const x = question_of(row);
    put_run(blank, n, x);
    const RowShape size = frame_question({blank + 1}, n, count, row, [&](auto*... y) { widen(letters, count, y...); });
    for (int64_t i = 0; i < words_of_bits(n); ++i) {
      for (uint64_t left = places[i]; left != 0; left &= left - 1) x[64 * i + std::countr_zero(left)] = *letters++;
    }
    return size;
  }

 private:
  static constexpr int64_t blank = 16, most_apart = 16;

  static int64_t whole_words(int64_t bytes) { return (bytes + 7) / 8 * 8; }

  void draw_anywhere(int64_t n, int64_t count, Words& words, Scratch& scratch, uint64_t* places, uint8_t* letters) const {
    if (n <= 64) {
      places[0] = draw_exact_ones(n, count, words);
    } else {
      draw_exact_ones(n, count, words, places, scratch);
    }
    letters_.bytes(letters_.draw(count, words, scratch), count, letters);
  }

  static void draw_apart(int64_t n, int64_t count, Words& words, uint64_t* places, uint8_t* letters) {
    const int64_t common = words.below(blank), other = (common + 1 + words.below(blank - 1)) % blank;
    const int64_t odd = words.below(static_cast<uint32_t>(count));
    std::fill_n(places, words_of_bits(n), 0);
    for (int64_t i = 0; i < count; ++i) {
      flip_bit(places, place_in_stretch(n, i, count, words));
      letters[i] = static_cast<uint8_t>(i == odd ? other : common);
    }
  }

  Letters letters_{blank};
  bool hard_;
};

// x is k-1 fillers and then distinct symbols, n = -1 modulo k; y is every k-th symbol of x, from the k-th on.
template <int64_t k>
class OffsetCopy final : public RowsOf<OffsetCopy<k>> {
 public:
  using Draft = Distinct::Sieved;

  OffsetCopy(int64_t symbols, bool hard) : distinct_(symbols), hard_(hard) {}

  int64_t shortest() const override { return 2 * k - 1; }
  int64_t longest() const override { return std::min(distinct_.symbols() + k - 1, longest_length); }
  int64_t stride() const override { return k; }
  int64_t residue() const override { return k - 1; }
  int64_t usual_words(int64_t n) const override { return distinct_.usual_words(n); }
  RowShape largest_shape(int64_t n) const override { return question_shape(n, answer_length(n)); }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    uint32_t* x = at_least(scratch.draws, n + 31);
    draw_unique(n - fillers, distinct_, hard_, words, scratch, x);
    return write_symbols(n, x, row);
  }

  bool drafts(int64_t n) const { return !hard_ && distinct_.sieves(n - fillers); }
  void draft(int64_t n, Words& words, Draft& draft) const { distinct_.sieve<false>(n - fillers, words, draft); }
  void finish_draft(int64_t, Draft&) const {}
  RowShape write_draft(int64_t n, const Draft& draft, const RowView& row) const { return write_symbols(n, draft.x, row); }

 private:
  static constexpr int64_t fillers = k - 1;

  static int64_t answer_length(int64_t n) { return (n + 1) / k - 1; }

  template <class Symbol>
  RowShape write_symbols(int64_t n, const Symbol* x, const RowView& row) const {
    const int64_t symbols = distinct_.symbols(), answer = answer_length(n);
    std::fill_n(question_of(row), fillers, static_cast<int32_t>(symbols));
    widen(x, n - fillers, question_of(row) + fillers);
    return frame_question({symbols + 1}, n, answer, row, [&](auto*... y) {
      if constexpr (k == 1) {
        widen(x, answer, y...);
      } else {
        (widen_every<k>(x, answer, y), ...);
      }
    });
  }

  Distinct distinct_;
  bool hard_;
};

}  // namespace lengen
