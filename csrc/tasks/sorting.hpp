// Sorting: the answer is the question in increasing order.
#pragma once

#include <algorithm>
#include <array>

#include "../sampler.hpp"
#include "alphabet.hpp"
#include "bits.hpp"
#include "letters.hpp"
#include "permutations.hpp"

namespace lengen {

// x is n distinct symbols; y is x sorted.
// paper: any symbols. hard: n consecutive symbols, so that neighbours in y differ by one, in random order.
class Sort final : public RowsOf<Sort> {
 public:
  struct Draft : Distinct::Sieved {
    uint8_t y[Distinct::most_sieved + spill];
  };

  Sort(int64_t symbols, bool hard) : alphabet_{symbols}, distinct_(symbols), hard_(hard) {}

  int64_t longest() const override { return std::min(alphabet_.symbols, longest_length); }
  int64_t usual_words(int64_t n) const override { return distinct_.usual_words(n); }
  RowShape largest_shape(int64_t n) const override { return question_shape(n, n); }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    uint32_t* x = at_least(scratch.draws, n + 31);
    if (hard_) {
      draw_consecutive(n, words, x);
    } else {
      distinct_.draw(n, words, scratch, x);
    }
    return write_symbols(n, x, sort_symbols(x, n, scratch), row);
  }

  bool drafts(int64_t n) const { return !hard_ && distinct_.sieves(n); }
  void draft(int64_t n, Words& words, Draft& draft) const { distinct_.sieve<true>(n, words, draft); }
  void finish_draft(int64_t, Draft& draft) const { list_marked(draft.seen, marks(), draft.y); }
  RowShape write_draft(int64_t n, const Draft& draft, const RowView& row) const {
    return write_symbols(n, draft.x, draft.y, row);
  }

 private:
  void draw_consecutive(int64_t n, Words& words, uint32_t* x) const {
    const uint32_t first = words.below(static_cast<uint32_t>(alphabet_.symbols - n + 1));
    for (int64_t i = 0; i < n; ++i) x[i] = first + static_cast<uint32_t>(i);
    shuffle_front(x, n, n, words);
  }

  const uint32_t* sort_symbols(const uint32_t* x, int64_t n, Scratch& scratch) const {
    uint32_t* sorted = at_least(scratch.sorted, n + 31);
    if (n == alphabet_.symbols) {
      identity_order(n, sorted);
    } else if (alphabet_.symbols <= 64 * n) {
      uint8_t* seen = at_least(scratch.seen, marks());
      mark(x, n, seen);
      list_marked(seen, marks(), sorted);
    } else {
      std::copy_n(x, n, sorted);
      std::sort(sorted, sorted + n);
    }
    return sorted;
  }

  int64_t marks() const { return (alphabet_.symbols + 31) / 32 * 32; }

  // seen[symbol] becomes 1 for each symbol of x, and 0 for all others.
  void mark(const uint32_t* x, int64_t n, uint8_t* seen) const {
    for (int64_t i = 0; i < marks(); i += 32) std::fill_n(seen + i, 32, 0);
#pragma GCC unroll 4
    for (int64_t i = 0; i < n; ++i) seen[x[i]] = 1;
  }

  template <class Symbol>
  RowShape write_symbols(int64_t n, const Symbol* x, const Symbol* sorted, const RowView& row) const {
    widen(x, n, question_of(row));
    return frame_question(alphabet_, n, n, row, [&](auto*... y) { widen(sorted, n, y...); });
  }

  Alphabet alphabet_;
  Distinct distinct_;
  bool hard_;
};

// x over letters; y is x sorted.
// paper: independent letters. hard: one letter all over, but for zero to two of each other one, shuffled.
class BucketSort final : public RowsOf<BucketSort> {
 public:
  BucketSort(int64_t letters, bool hard) : letters_(letters), hard_(hard) {}

  int64_t usual_words(int64_t n) const override { return hard_ ? 2 * letters_.count() + 4 : letters_.usual_words(n); }
  RowShape largest_shape(int64_t n) const override { return question_shape(n, n); }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    std::array<int32_t, Letters::most> counts;
    if (hard_) {
      draw_rare(n, words, scratch, counts.data(), question_of(row));
    } else {
      const uint8_t* numbers = letters_.draw(n, words, scratch);
      letters_.put_and_count(numbers, n, question_of(row), counts.data(), scratch);
    }
    return frame_question({letters_.count()}, n, n, row, [&](auto*... y) { put_sorted(counts.data(), y...); });
  }

 private:
  void put_sorted(const int32_t* counts, auto*... y) const {
    for (int64_t letter = 0, at = 0; letter < letters_.count(); at += counts[letter++]) put_run(letter, counts[letter], y + at...);
  }

  // Rare letters go to random places, one after the other, as long as they are fewer than half.
  void draw_rare(int64_t n, Words& words, Scratch& scratch, int32_t* counts, int32_t* x) const {
    const int64_t letters = letters_.count(), common = words.below(static_cast<uint32_t>(letters));
    uint8_t* rare = at_least(scratch.letters, 2 * letters);
    int64_t found = 0;
    for (int64_t letter = 0; letter < letters; ++letter) {
      const int64_t wanted = letter == common ? 0 : words.below(3);
      counts[letter] = static_cast<int32_t>(std::min(wanted, (n - 1) / 2 - found));
      for (int64_t i = 0; i < counts[letter]; ++i) rare[found++] = static_cast<uint8_t>(letter);
    }
    counts[common] = static_cast<int32_t>(n - found);
    put_run(common, n, x);
    for (int64_t i = 0; i < found;) {
      const int64_t place = words.below(static_cast<uint32_t>(n));
      if (x[place] == common) x[place] = rare[i++];
    }
  }

  Letters letters_;
  bool hard_;
};

}  // namespace lengen
