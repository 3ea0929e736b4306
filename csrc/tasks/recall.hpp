// Recall: the answer stands in the string beside something that comes again.
#pragma once

#include <algorithm>

#include "../sampler.hpp"
#include "alphabet.hpp"
#include "bits.hpp"
#include "letters.hpp"
#include "permutations.hpp"

namespace lengen {

// Multi-query associative recall. `BOS x SEP q EOS`: x is n/2 pairs of a key, all distinct, and one of 16 values; q is the keys in
// random order, and each is scored, with its value for a target.
// paper: any keys, independent values. hard: consecutive keys, and one value throughout but for one to three pairs.
class AssociativeRecall final : public RowsOf<AssociativeRecall> {
 public:
  AssociativeRecall(int64_t keys, bool hard) : keys_(keys), hard_(hard) {}

  int64_t shortest() const override { return 2; }
  int64_t stride() const override { return 2; }
  int64_t longest() const override { return std::min(keys_.symbols(), longest_length); }
  int64_t usual_words(int64_t n) const override {
    return keys_.usual_words(n / 2) + values_.usual_words(n / 2) + usual_words_for_indices(n / 2, n / 2);
  }
  RowShape largest_shape(int64_t n) const override { return {n + n / 2 + 3, n / 2}; }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    const int64_t pairs = n / 2;
    const Alphabet alphabet{keys_.symbols() + values};
    uint32_t* drawn = hard_ ? draw_alike(pairs, words, scratch) : draw_any(pairs, words, scratch);
    row.tokens[0] = alphabet.bos();
    for (int64_t i = 0; i < pairs; ++i) {
      row.tokens[2 * i + 1] = key_of(drawn[i]);
      row.tokens[2 * i + 2] = value_of(drawn[i]);
    }
    row.tokens[n + 1] = alphabet.sep();
    shuffle_front(drawn, pairs, pairs, words);
    for (int64_t i = 0; i < pairs; ++i) {
      row.tokens[n + 2 + i] = key_of(drawn[i]);
      row.targets[i] = value_of(drawn[i]);
    }
    row.tokens[n + pairs + 2] = alphabet.eos();
    row.score(n + 2, pairs);
    return largest_shape(n);
  }

 private:
  static constexpr int64_t values = 16, most_others = 3;
  static constexpr uint32_t value_bits = 4;

  static int32_t key_of(uint32_t pair) { return static_cast<int32_t>(pair >> value_bits); }
  int32_t value_of(uint32_t pair) const { return static_cast<int32_t>(keys_.symbols() + (pair & (values - 1))); }

  // Pairs as key << 4 | value.
  uint32_t* draw_any(int64_t pairs, Words& words, Scratch& scratch) const {
    uint32_t* drawn = at_least(scratch.sorted, pairs + most_indices);
    keys_.draw(pairs, words, scratch, drawn);
    const uint8_t* numbers = values_.draw(pairs, words, scratch);
    const uint8_t* value = values_.bytes(numbers, pairs, scratch);
    for (int64_t i = 0; i < pairs; ++i) drawn[i] = drawn[i] << value_bits | value[i];
    return drawn;
  }

  uint32_t* draw_alike(int64_t pairs, Words& words, Scratch& scratch) const {
    uint32_t* drawn = at_least(scratch.sorted, pairs + most_indices);
    const auto keys = static_cast<uint32_t>(keys_.symbols());
    const uint32_t first = words.below(keys), common = words.below(values);
    for (int64_t i = 0; i < pairs; ++i) drawn[i] = (first + static_cast<uint32_t>(i)) % keys << value_bits | common;
    for (uint32_t others = 1 + words.below(most_others); others > 0; --others) {
      uint32_t& pair = drawn[words.below(static_cast<uint32_t>(pairs))];
      pair = (pair >> value_bits) << value_bits | (common + 1 + words.below(values - 1)) % values;
    }
    return drawn;
  }

  Distinct keys_;
  bool hard_;
  Letters values_{values};
};

// `BOS x y EOS`: x over 16 letters, with a trigger at one place and at its end; y is what stands behind the first trigger.
// paper: the first trigger at a random place, independent letters.
// hard: the first trigger in the first quarter of those places, and one letter all over but for the one behind it.
class InductionHead final : public RowsOf<InductionHead> {
 public:
  explicit InductionHead(bool hard) : hard_(hard) {}

  int64_t shortest() const override { return 3; }
  int64_t usual_words(int64_t n) const override { return hard_ ? 3 : 1 + letters_.usual_words(n); }
  int64_t scored_spill() const override { return short_spill; }
  RowShape largest_shape(int64_t n) const override { return {n + 3, 2}; }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    int32_t* x = question_of(row);
    const int64_t places = hard_ ? (n + 1) / 4 : n - 2;
    const int64_t first = words.below(static_cast<uint32_t>(places));
    if (hard_) {
      const int64_t common = words.below(trigger);
      put_run(common, n, x);
      x[first + 1] = static_cast<int32_t>((common + 1 + words.below(trigger - 1)) % trigger);
    } else {
      letters_.put(letters_.draw(n, words, scratch), n, x);
    }
    x[first] = x[n - 1] = trigger;
    row.tokens[0] = alphabet_.bos();
    put_answer(n + 1, 1, alphabet_.eos(), row, [&](auto*... y) { ((*y = x[first + 1]), ...); });
    return largest_shape(n);
  }

 private:
  static constexpr int64_t trigger = 16;
  static constexpr Alphabet alphabet_{trigger + 1};

  bool hard_;
  Letters letters_{trigger};
};

}  // namespace lengen
