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

// The order of the digits of numbers as they are written.
enum class DigitOrder { most_significant_first, least_significant_first };

// A number of `size` digits as it is written, readable 8 bytes before its beginning and past its end.
struct Digits {
  const uint8_t* written;
  int64_t size;
  DigitOrder order;

  // The place of digit i, from the least significant one on.
  int64_t place(int64_t i) const { return order == DigitOrder::least_significant_first ? i : size - 1 - i; }

  // Digits i .. i+7, least significant first, or as many as there are.
  uint64_t eight_from(int64_t i) const {
    uint64_t eight;
    if (order == DigitOrder::least_significant_first) {
      std::memcpy(&eight, written + i, sizeof eight);
    } else {
      std::memcpy(&eight, written + size - 8 - i, sizeof eight);
      eight = __builtin_bswap64(eight);
    }
    return size - i >= 8 ? eight : eight & ((uint64_t{1} << (8 * (size - i))) - 1);
  }
};

// sum += number; `sum` is least significant first, and has room for whole words and for the carry.
inline void add_digits(const Digits& number, uint8_t* sum) {
  bool carry = false;
  for (int64_t i = 0; i < number.size || carry; i += 8) {
    uint64_t total;
    std::memcpy(&total, sum + i, sizeof total);
    total = add_eight_digits(total, i < number.size ? number.eight_from(i) : 0, carry);
    std::memcpy(sum + i, &total, sizeof total);
  }
}

// `BOS A+B= y EOS` or `BOS A+...+K= y EOS`, all numbers in one order of digits; y is the sum.
// paper: uniform digits, the leading one of a longer number not 0.
// hard: in one column of the lower half of the second longest operand the sum of the others and the longest one starts a carry,
// or with equal chance absorbs any; in each column above it they make 9 and hand the carry on, to the top of the longest operand
// (whose leading digit becomes 1 if that would make it 0).
class DecimalAddition final : public RowsOf<DecimalAddition> {
 public:
  DecimalAddition(bool many, DigitOrder order, bool hard, const std::vector<int64_t>& ranges)
      : lengths_(many, ranges), order_(order), hard_(hard) {}

  int64_t shortest() const override { return lengths_.shortest(); }
  int64_t longest() const override { return lengths_.longest(); }
  int64_t usual_words(int64_t n) const override { return digits_.usual_words(lengths_.most_symbols(n)) + 6; }
  RowShape largest_shape(int64_t n) const override { return shape_of(lengths_.most_symbols(n), lengths_.most_answer(n)); }
  bool shape_varies() const override { return true; }

  RowShape shape(int64_t n, Words& words, Scratch& scratch) const {
    const Sum sum = draw(n, words, scratch);
    return shape_of(sum.symbols, sum.answer_digits);
  }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    const Sum sum = draw(n, words, scratch);
    row.tokens[0] = alphabet_.bos();
    widen(sum.written, sum.symbols, row.tokens + 1);
    for (int64_t i = 0, sign = 0; i < sum.operands.count; ++i) {
      sign += sum.operands.digits[i] + 1;
      row.tokens[sign] = plus;
    }
    row.tokens[sum.symbols] = equals;
    put_answer(sum.symbols + 1, sum.answer_digits, alphabet_.eos(), row, [&](auto*... y) {
      if (order_ == DigitOrder::least_significant_first) {
        widen(sum.answer, sum.answer_digits, y...);
      } else {
        widen_backwards(sum.answer, sum.answer_digits, y...);
      }
    });
    return shape_of(sum.symbols, sum.answer_digits);
  }

 private:
  static constexpr Alphabet alphabet_{12};
  static constexpr int64_t plus = 10, equals = 11;
  static constexpr int64_t margin = 32;  // bytes before and behind digits that may be read

  // Operands as they are written, with something in the place of each sign, and their sum, least significant digit first.
  struct Sum {
    Operands operands;
    int64_t symbols;
    const uint8_t *written, *answer;
    int64_t answer_digits;
  };

  static RowShape shape_of(int64_t symbols, int64_t answer) { return {symbols + answer + 2, answer + 1}; }

  Sum draw(int64_t n, Words& words, Scratch& scratch) const {
    const Operands operands = lengths_.draw(n, words, scratch);
    int64_t symbols = operands.count;
    for (int64_t i = 0; i < operands.count; ++i) symbols += operands.digits[i];
    uint8_t* written = at_least(scratch.digits, symbols + 2 * margin) + margin;
    digits_.bytes(digits_.draw(symbols, words, scratch), symbols, written);
    set_leading(operands, words, written);
    if (hard_) lay_carry_chain(operands, words, written, scratch);
    const int64_t answer_digits = add_up(operands, written, nobody, scratch);
    return {operands, symbols, written, answer_in(scratch), answer_digits};
  }

  void set_leading(const Operands& operands, Words& words, uint8_t* written) const {
    const bool least_first = order_ == DigitOrder::least_significant_first;
    for (int64_t i = 0; i < operands.count; ++i) {
      const int64_t size = operands.digits[i];
      if (size > 1) written[least_first ? size - 1 : 0] = static_cast<uint8_t>(1 + words.below(9));
      written += size + 1;
    }
  }

  static constexpr int64_t nobody = -1;
  static uint8_t* answer_in(Scratch& scratch) { return scratch.sum.data() + margin; }

  // The sum of all operands but one, in answer_in(scratch); returns its digits.
  int64_t add_up(const Operands& operands, const uint8_t* written, int64_t but, Scratch& scratch) const {
    const int64_t longest = *std::max_element(operands.digits, operands.digits + operands.count);
    at_least(scratch.sum, longest + 3 * margin);
    uint8_t* answer = answer_in(scratch);
    for (int64_t i = 0; i < longest + margin; i += 32) std::fill_n(answer + i, 32, 0);
    for (int64_t i = 0; i < operands.count; written += operands.digits[i++] + 1) {
      if (i != but) add_digits({written, operands.digits[i], order_}, answer);
    }
    int64_t top = longest + 2;
    while (top > 1 && answer[top - 1] == 0) --top;
    return top;
  }

  LENGEN_SEPARATE void lay_carry_chain(const Operands& operands, Words& words, uint8_t* written, Scratch& scratch) const {
    const int64_t* const sizes = operands.digits;
    const int64_t longest = std::max_element(sizes, sizes + operands.count) - sizes, top = sizes[longest];
    int64_t second = 0, before = 0;
    for (int64_t i = 0; i < operands.count; ++i) {
      if (i != longest) second = std::max(second, sizes[i]);
      if (i < longest) before += sizes[i] + 1;
    }
    add_up(operands, written, longest, scratch);
    const uint8_t* others = answer_in(scratch);
    uint8_t* completing = written + before;
    const Digits number{completing, top, order_};
    const int64_t start = words.below(static_cast<uint32_t>((second + 1) / 2));
    const uint32_t other = others[start];
    const bool carries = other == 9 || (words.below(2) == 1 && other > 0);
    completing[number.place(start)] = static_cast<uint8_t>(carries ? 10 - other + words.below(other) : words.below(9 - other));
    for (int64_t i = start + 1; i < top; ++i) completing[number.place(i)] = static_cast<uint8_t>(9 - others[i]);
    uint8_t& leading = completing[number.place(top - 1)];
    if (top > 1 && leading == 0) leading = 1;
  }

  OperandLengths lengths_;
  DigitOrder order_;
  bool hard_;
  Letters digits_{10};
};

}  // namespace lengen
