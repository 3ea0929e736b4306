// Sorting: the answer is the question in increasing order.
#pragma once

#include <algorithm>

#include "../sampler.hpp"
#include "alphabet.hpp"
#include "permutations.hpp"

namespace lengen {

// x is n distinct symbols; y is x sorted.
// paper: any symbols. hard: n consecutive symbols, so that neighbours in y differ by one, in random order.
class Sort final : public RowsOf<Sort> {
 public:
  Sort(int64_t symbols, bool hard) : alphabet_{symbols}, hard_(hard) {}

  int64_t longest() const override { return std::min(alphabet_.symbols, longest_length); }
  int64_t usual_words(int64_t n) const override { return usual_words_for_indices(n, alphabet_.symbols); }
  RowShape largest_shape(int64_t n) const override { return question_shape(n, n); }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    uint32_t* x = at_least(scratch.draws, n + 31);
    if (hard_) {
      draw_consecutive(n, words, x);
    } else {
      draw_distinct(n, alphabet_.symbols, words, scratch, x);
    }
    widen_words(x, n, question_of(row));
    const uint32_t* sorted = sort_symbols(x, n, scratch);
    return frame_question(alphabet_, n, n, row, [&](int64_t* y) { widen_words(sorted, n, y); });
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
      sort_by_marking(x, n, scratch, sorted);
    } else {
      std::copy_n(x, n, sorted);
      std::sort(sorted, sorted + n);
    }
    return sorted;
  }

  // Marks each symbol with a byte, then lists the marks in order.
  void sort_by_marking(const uint32_t* x, int64_t n, Scratch& scratch, uint32_t* sorted) const {
    const int64_t size = (alphabet_.symbols + 7) / 8 * 8;
    uint8_t* seen = at_least(scratch.seen, size);
    std::fill_n(seen, size, 0);
    for (int64_t i = 0; i < n; ++i) seen[x[i]] = 1;
    list_marked(seen, size, sorted);
  }

  Alphabet alphabet_;
  bool hard_;
};

}  // namespace lengen
