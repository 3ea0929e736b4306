// Arithmetic: binary addition.
#pragma once

#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

#include "../sampler.hpp"
#include "alphabet.hpp"
#include "bits.hpp"
#include "operands.hpp"

namespace lengen {

// `BOS A+B= y EOS`, most significant digit first; n = |A| + |B| + 2, |A| uniform in 1..n-3, or both uniform; y is A + B.
// paper: random digits, the first of a longer number 1.
// hard: one column in the lower half of the shorter number starts a carry, or with equal chance absorbs any; each column above
// holds exactly one 1 and hands the carry on, to the top (two leading 1s of equally long numbers excepted).
class Addition final : public RowsOf<Addition> {
 public:
  // Two ranges for the lengths of A and B, or none: see OperandLengths.
  explicit Addition(bool hard, const std::vector<int64_t>& ranges = {}) : lengths_(false, ranges), hard_(hard) {}

  int64_t shortest() const override { return lengths_.shortest(); }
  int64_t longest() const override { return lengths_.longest(); }
  int64_t usual_words(int64_t n) const override { return 2 * words_of_bits(lengths_.most_symbols(n)) + 6; }
  RowShape largest_shape(int64_t n) const override { return shape_of(lengths_.most_symbols(n), lengths_.most_answer(n)); }
  bool shape_varies() const override { return true; }

  RowShape shape(int64_t n, Words& words, Scratch& scratch) const {
    const int64_t symbols = lengths_.most_symbols(n);
    return shape_of(symbols, is_short(n) ? draw_short(n, words, scratch).answer_digits : draw(n, words, scratch).answer_digits);
  }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    if (is_short(n)) {
      const ShortSum sum = draw_short(n, words, scratch);
      return write_sum({&sum.a, &sum.b, &sum.answer, sum.a_digits, sum.b_digits, sum.answer_digits}, row);
    }
    return write_sum(draw(n, words, scratch), row);
  }

 private:
  static constexpr Alphabet alphabet_{4};
  static constexpr int64_t plus = 2, equals = 3;

  struct Sum {
    const uint64_t *a, *b, *answer;
    int64_t a_digits, b_digits, answer_digits;
  };

  struct ShortSum {
    uint64_t a, b, answer;
    int64_t a_digits, b_digits, answer_digits;
  };

  static RowShape shape_of(int64_t n, int64_t answer) { return {n + answer + 2, answer + 1}; }

  static RowShape write_sum(const Sum& sum, const RowView& row) {
    const int64_t n = sum.a_digits + sum.b_digits + 2;
    row.tokens[0] = alphabet_.bos();
    expand_number(sum.a, sum.a_digits, row.tokens + 1);
    row.tokens[sum.a_digits + 1] = plus;
    expand_number(sum.b, sum.b_digits, row.tokens + sum.a_digits + 2);
    row.tokens[n] = equals;
    put_answer(n + 1, sum.answer_digits, alphabet_.eos(), row,
               [&](auto*... y) { expand_number(sum.answer, sum.answer_digits, y...); });
    return shape_of(n, sum.answer_digits);
  }

  // Whether numbers and sum fit in a word each.
  bool is_short(int64_t n) const { return !hard_ && lengths_.most_symbols(n) <= 64; }

  // The same as draw.
  ShortSum draw_short(int64_t n, Words& words, Scratch& scratch) const {
    ShortSum sum;
    const Operands operands = lengths_.draw(n, words, scratch);
    sum.a_digits = operands.digits[0];
    sum.b_digits = operands.digits[1];
    draw_fair_bits(sum.a_digits, words, &sum.a);
    draw_fair_bits(sum.b_digits, words, &sum.b);
    set_leading(&sum.a, sum.a_digits);
    set_leading(&sum.b, sum.b_digits);
    sum.answer = sum.a + sum.b;
    sum.answer_digits = std::max<int64_t>(1, std::bit_width(sum.answer));
    return sum;
  }

  Sum draw(int64_t n, Words& words, Scratch& scratch) const {
    const Operands operands = lengths_.draw(n, words, scratch);
    const int64_t a_digits = operands.digits[0], b_digits = operands.digits[1];
    const int64_t size = words_of_bits(std::max(a_digits, b_digits) + 1);
    uint64_t* a = draw_digits(a_digits, size, words, scratch.bits[0]);
    uint64_t* b = draw_digits(b_digits, size, words, scratch.bits[1]);
    if (hard_) lay_carry_chain(a, a_digits, b, b_digits, words);
    set_leading(a, a_digits);
    set_leading(b, b_digits);
    uint64_t* answer = at_least(scratch.bits[2], size);
    return {a, b, answer, a_digits, b_digits, add(a, b, size, answer)};
  }

  static uint64_t* draw_digits(int64_t digits, int64_t size, Words& words, std::vector<uint64_t>& memory) {
    uint64_t* number = at_least(memory, size);
    draw_fair_bits(digits, words, number);
    std::fill(number + words_of_bits(digits), number + size, 0);
    return number;
  }

  static void set_leading(uint64_t* number, int64_t digits) {
    if (digits > 1) number[(digits - 1) / 64] |= uint64_t{1} << ((digits - 1) % 64);
  }

  static void lay_carry_chain(uint64_t* a, int64_t a_digits, uint64_t* b, int64_t b_digits, Words& words) {
    const bool a_is_longer = a_digits >= b_digits;
    uint64_t *longer = a_is_longer ? a : b, *shorter = a_is_longer ? b : a;
    const int64_t top = std::max(a_digits, b_digits), shared = std::min(a_digits, b_digits);
    const int64_t start = words.below(static_cast<uint32_t>((shared + 1) / 2));
    const bool carries = words.below(2) == 1;
    for (uint64_t* number : {longer, shorter}) {
      if (bit_at(number, start) != carries) flip_bit(number, start);
    }
    if (shared - 1 > start) set_leading(shorter, shared);
    for (int64_t word = (start + 1) / 64; word < words_of_bits(top); ++word) {
      const uint64_t above = ~low_bits(std::max<int64_t>(0, start + 1 - 64 * word)), below_top = low_bits(top - 64 * word);
      longer[word] = (longer[word] & ~above) | (~shorter[word] & above & below_top);
    }
  }

  // answer = a + b over `size` words; returns its digits, at least one.
  static int64_t add(const uint64_t* a, const uint64_t* b, int64_t size, uint64_t* answer) {
    uint64_t carry = 0;
    for (int64_t i = 0; i < size; ++i) {
      const uint64_t partial = a[i] + b[i], total = partial + carry;
      carry = (partial < a[i]) | (total < partial);
      answer[i] = total;
    }
    int64_t top = size - 1;
    while (top > 0 && answer[top] == 0) --top;
    return std::max<int64_t>(1, 64 * top + std::bit_width(answer[top]));
  }

  OperandLengths lengths_;
  bool hard_;
};

}  // namespace lengen
