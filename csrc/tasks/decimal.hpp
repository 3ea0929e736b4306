// Decimal numbers, a digit to a byte, least significant first, and their sums.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

#include "../sampler.hpp"
#include "alphabet.hpp"
#include "letters.hpp"
#include "operands.hpp"

namespace lengen {

// Eight decimal digits plus eight others plus a carry, digit by digit: each byte is raised by 246, so that ten overflows it.
inline uint64_t add_eight_digits(uint64_t a, uint64_t b, bool& carry) {
  constexpr uint64_t raised = 0xF6F6F6F6F6F6F6F6, highest_bits = 0x8080808080808080;
  uint64_t total = a + b + carry;
  carry = __builtin_add_overflow(total, raised, &total);
  return total - ((total & highest_bits) >> 7) * (raised & 255);
}

// sum += number, of `digits` digits; `sum` has room for whole words, and for the carry.
inline void add_digits(const uint8_t* number, int64_t digits, uint8_t* sum) {
  constexpr int64_t at_once = sizeof(uint64_t);
  bool carry = false;
  for (int64_t i = 0; i < digits || carry; i += at_once) {
    uint64_t total, added = 0;
    std::memcpy(&total, sum + i, at_once);
    if (i < digits) {
      std::memcpy(&added, number + i, at_once);
      if (digits - i < at_once) added &= (uint64_t{1} << (8 * (digits - i))) - 1;
    }
    total = add_eight_digits(total, added, carry);
    std::memcpy(sum + i, &total, at_once);
  }
}

// `BOS A+B= y EOS` or `BOS A+...+K= y EOS`, every number least or every number most significant digit first; y is the sum.
// paper: uniform digits, the leading one of a longer number not 0.
// hard: in one column of the lower half of the second longest operand the sum of the others and the longest one starts a carry,
// or with equal chance absorbs any; in each column above it they make 9 and hand the carry on, to the top of the longest operand
// (whose leading digit becomes 1 if that would make it 0).
class DecimalAddition final : public RowsOf<DecimalAddition> {
 public:
  DecimalAddition(bool many, bool least_first, bool hard, const std::vector<int64_t>& ranges)
      : lengths_(many, ranges), least_first_(least_first), hard_(hard) {}

  int64_t shortest() const override { return lengths_.shortest(); }
  int64_t longest() const override { return lengths_.longest(); }
  int64_t usual_words(int64_t n) const override { return digits_.usual_words(lengths_.most_symbols(n)) + 6; }
  RowShape largest_shape(int64_t n) const override { return shape_of(lengths_.most_symbols(n), lengths_.most_answer(n)); }
  bool shape_varies() const override { return true; }

  RowShape shape(int64_t n, Words& words, Scratch& scratch) const {
    const Sum sum = draw(n, words, scratch);
    return shape_of(symbols_of(sum.operands), sum.answer_digits);
  }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    const Sum sum = draw(n, words, scratch);
    int64_t at = 0;
    row.tokens[at++] = alphabet_.bos();
    const uint8_t* number = sum.digits;
    for (int64_t i = 0; i < sum.operands.count; ++i) {
      const int64_t digits = sum.operands.digits[i];
      put(number, digits, row.tokens + at);
      row.tokens[at + digits] = plus;
      at += digits + 1;
      number += digits;
    }
    row.tokens[at - 1] = equals;
    put_answer(at, sum.answer_digits, alphabet_.eos(), row, [&](auto*... y) { put(sum.answer, sum.answer_digits, y...); });
    return shape_of(at - 1, sum.answer_digits);
  }

 private:
  static constexpr Alphabet alphabet_{12};
  static constexpr int64_t plus = 10, equals = 11;
  static constexpr int64_t margin = 32;  // bytes before and behind digits that may be read

  // Operands one after the other, and their sum.
  struct Sum {
    Operands operands;
    const uint8_t *digits, *answer;
    int64_t answer_digits;
  };

  static RowShape shape_of(int64_t symbols, int64_t answer) { return {symbols + answer + 2, answer + 1}; }

  static int64_t digits_in(const Operands& operands) {
    int64_t digits = 0;
    for (int64_t i = 0; i < operands.count; ++i) digits += operands.digits[i];
    return digits;
  }

  static int64_t symbols_of(const Operands& operands) { return digits_in(operands) + operands.count; }

  template <class... Out>
  LENGEN_INLINE void put(const uint8_t* number, int64_t digits, Out*... out) const {
    if (least_first_) {
      widen(number, digits, out...);
    } else {
      widen_backwards(number, digits, out...);
    }
  }

  Sum draw(int64_t n, Words& words, Scratch& scratch) const {
    Sum sum;
    sum.operands = lengths_.draw(n, words, scratch);
    const int64_t total = digits_in(sum.operands);
    uint8_t* digits = at_least(scratch.digits, total + 2 * margin) + margin;
    const uint8_t* numbers = digits_.draw(total, words, scratch);
    digits_.bytes(numbers, total, digits);
    set_leading(sum.operands, words, digits);
    if (hard_) lay_carry_chain(sum.operands, words, digits, scratch);
    sum.digits = digits;
    add_up(sum, -1, scratch);
    return sum;
  }

  static void set_leading(const Operands& operands, Words& words, uint8_t* digits) {
    for (int64_t i = 0; i < operands.count; ++i) {
      const int64_t own = operands.digits[i];
      digits += own;
      if (own > 1) digits[-1] = static_cast<uint8_t>(1 + words.below(9));
    }
  }

  // The sum of the operands, without the one of number `but`.
  static void add_up(Sum& sum, int64_t but, Scratch& scratch) {
    const Operands& operands = sum.operands;
    const int64_t longest = *std::max_element(operands.digits, operands.digits + operands.count);
    uint8_t* answer = at_least(scratch.sum, longest + 2 * margin) + margin;
    std::fill_n(answer, longest + margin, 0);
    const uint8_t* number = sum.digits;
    for (int64_t i = 0; i < operands.count; number += operands.digits[i++]) {
      if (i != but) add_digits(number, operands.digits[i], answer);
    }
    int64_t top = longest + 2;
    while (top > 1 && answer[top - 1] == 0) --top;
    sum.answer = answer;
    sum.answer_digits = top;
  }

  static void lay_carry_chain(const Operands& operands, Words& words, uint8_t* digits, Scratch& scratch) {
    const int64_t* const lengths = operands.digits;
    const int64_t longest = std::max_element(lengths, lengths + operands.count) - lengths, top = lengths[longest];
    int64_t second = 0, before = 0;
    for (int64_t i = 0; i < operands.count; ++i) {
      if (i != longest) second = std::max(second, lengths[i]);
      if (i < longest) before += lengths[i];
    }
    Sum others{operands, digits, nullptr, 0};
    add_up(others, longest, scratch);
    uint8_t* completing = digits + before;
    const int64_t start = words.below(static_cast<uint32_t>((second + 1) / 2));
    const uint32_t other = others.answer[start];
    const bool carries = other == 9 || (words.below(2) == 1 && other > 0);
    completing[start] = static_cast<uint8_t>(carries ? 10 - other + words.below(other) : words.below(9 - other));
    for (int64_t i = start + 1; i < top; ++i) completing[i] = static_cast<uint8_t>(9 - others.answer[i]);
    if (top > 1 && completing[top - 1] == 0) completing[top - 1] = 1;
  }

  OperandLengths lengths_;
  bool least_first_, hard_;
  Letters digits_{10};
};

}  // namespace lengen
