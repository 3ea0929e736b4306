// Decimal numbers, a digit to a byte, and their sums.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "../sampler.hpp"
#include "alphabet.hpp"
#include "letters.hpp"
#include "operands.hpp"

namespace lengen {

// The order of the digits of numbers as they are written.
enum class DigitOrder { most_significant_first, least_significant_first };

// Adds numbers 32 columns at a time, and then hands the carries on, eight columns at a time.
class DigitSum {
 public:
  // Columns a sum is written in: more than it has digits.
  static constexpr int64_t columns_of(int64_t digits) { return (digits + 2 + columns - 1) / columns * columns; }

  // Where `columns_of` columns begin, and the order of digits in them and in all numbers.
  DigitSum(uint8_t* memory, int64_t digits, DigitOrder order)
      : begin_(memory), end_(memory + columns_of(digits)), digits_(digits), order_(order) {}

  uint8_t digit(int64_t i) const { return order_ == DigitOrder::least_significant_first ? begin_[i] : end_[-1 - i]; }
  // The first of `size` digits as they are written.
  const uint8_t* written(int64_t size) const { return order_ == DigitOrder::least_significant_first ? begin_ : end_ - size; }

  // Writes the sum of numbers as they are written, one behind the other with a sign between them, but for number `but`; all are
  // readable 32 bytes before their beginning and past their end, and have no more digits than this was made for.
  void add(const Operands& numbers, const uint8_t* written, int64_t but) const {
    for (int64_t first = 0; first < numbers.count; first += most_at_once) {
      const Operands some{std::min(most_at_once, numbers.count - first), numbers.digits + first};
      if (order_ == DigitOrder::least_significant_first) {
        add_some<DigitOrder::least_significant_first>(some, written, but - first, first > 0);
      } else {
        add_some<DigitOrder::most_significant_first>(some, written, but - first, first > 0);
      }
      for (int64_t i = 0; i < some.count; ++i) written += some.digits[i] + 1;
    }
  }

 private:
  static constexpr int64_t columns = 32, most_at_once = 10;  // ten numbers and a digit: 99 in a column, whose tens are a digit

  using Pairs = uint16_t __attribute__((vector_size(32)));

  // What is handed on from column to column.
  struct Carry {
    uint64_t tens = 0;
    bool one = false;
  };

  template <DigitOrder order>
  void add_some(const Operands& numbers, const uint8_t* written, int64_t but, bool more) const {
    const bool few = numbers.count <= 2 && !more;
    Carry carry;
    for (int64_t i = 0; i < digits_ + 2; i += columns) {
      uint8_t* const to = order == DigitOrder::least_significant_first ? begin_ + i : end_ - columns - i;
      Bytes total{};
      if (more) std::memcpy(&total, to, sizeof total);
      const uint8_t* number = written;
      for (int64_t k = 0; k < numbers.count; number += numbers.digits[k++] + 1) {
        if (k != but && i < numbers.digits[k]) add_digits<order>(number, numbers.digits[k], i, total);
      }
      if (few) {
        put<order, true>(total, carry, to);
      } else {
        put<order, false>(total, carry, to);
      }
    }
  }

  // Adds digits i .. i+31 of a number, as many as it has, as they are written.
  template <DigitOrder order>
  LENGEN_INLINE static void add_digits(const uint8_t* written, int64_t size, int64_t i, Bytes& total) {
    constexpr bool forwards = order == DigitOrder::least_significant_first;
    const int64_t there = std::min(columns, size - i);
    Bytes digits, inside;
    std::memcpy(&digits, forwards ? written + i : written + size - columns - i, sizeof digits);
    std::memcpy(&inside, inside_.data() + (forwards ? 2 * columns - there : there), sizeof inside);
    total += digits & inside;
  }

  // Writes 32 columns with carries handed on; `few`: each holds 18 at most.
  template <DigitOrder order, bool few>
  LENGEN_INLINE static void put(Bytes& total, Carry& carry, uint8_t* to) {
    alignas(columns) uint8_t ones[columns], tens[columns];
    if constexpr (!few) {
      const auto pairs = reinterpret_cast<Pairs>(total);
      const Pairs tenths = ((pairs & 255) * 205 >> 11) | ((pairs >> 8) * 205 >> 11) << 8;
      total = reinterpret_cast<Bytes>(pairs - 10 * tenths);
      std::memcpy(tens, &tenths, sizeof tens);
    }
    std::memcpy(ones, &total, sizeof ones);
    uint64_t last = carry.tens;
    for (int64_t i = 0; i < columns; i += 8) {
      uint64_t eight = eight_from<order>(ones, i);
      if constexpr (!few) {
        const uint64_t fresh = eight_from<order>(tens, i);
        eight += fresh << 8 | last;
        last = fresh >> 56;
      }
      eight = carried(eight, carry.one);
      if constexpr (order == DigitOrder::most_significant_first) eight = __builtin_bswap64(eight);
      std::memcpy(to + place<order>(i), &eight, sizeof eight);
    }
    carry.tens = last;
  }

  template <DigitOrder order>
  static constexpr int64_t place(int64_t i) {
    return order == DigitOrder::least_significant_first ? i : columns - 8 - i;
  }

  template <DigitOrder order>
  static uint64_t eight_from(const uint8_t* written, int64_t i) {
    uint64_t eight;
    std::memcpy(&eight, written + place<order>(i), sizeof eight);
    return order == DigitOrder::least_significant_first ? eight : __builtin_bswap64(eight);
  }

  // Eight columns of 18 at most, with a carry of one, as digits: each byte is raised by 246, so that ten overflows it.
  static uint64_t carried(uint64_t total, bool& carry) {
    constexpr uint64_t raised = 0xF6F6F6F6F6F6F6F6, highest_bits = 0x8080808080808080;
    total += carry;
    carry = __builtin_add_overflow(total, raised, &total);
    return total - ((total & highest_bits) >> 7) * (raised & 255);
  }

  // 32 bytes from 64 - n on keep the first n of 32, from n on the last n.
  static constexpr std::array<uint8_t, 3 * columns> inside_ = [] {
    std::array<uint8_t, 3 * columns> inside{};
    for (int64_t i = columns; i < 2 * columns; ++i) inside[static_cast<size_t>(i)] = 255;
    return inside;
  }();

  uint8_t *begin_, *end_;
  int64_t digits_;
  DigitOrder order_;
};

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
  int64_t usual_words(int64_t n) const override {
    return digits_.usual_words(lengths_.most_symbols(n)) + lengths_.usual_words() + lengths_.usual_count();
  }
  RowShape largest_shape(int64_t n) const override { return shape_of(lengths_.most_symbols(n), lengths_.most_answer(n)); }

  // Kept: how many symbols there are up to =, and digits in the answer; the symbols, and the columns of the answer.
  int64_t kept_bytes(int64_t n) const { return sizeof(Sizes) + 2 * lengths_.most_symbols(n) + 64; }

  Kept keep(int64_t n, Words& words, Scratch& scratch, uint8_t* at) const {
    const Operands operands = lengths_.draw(n, words, scratch);
    int64_t symbols = operands.count, longest = 0;
    for (int64_t i = 0; i < operands.count; ++i) {
      symbols += operands.digits[i];
      longest = std::max(longest, operands.digits[i]);
    }
    uint8_t* const written = at + sizeof(Sizes);
    digits_.bytes(digits_.draw(symbols, words, scratch), symbols, written);
    set_signs_and_leading(operands, words, written);
    if (hard_) lay_carry_chain(operands, words, written, scratch);
    const DigitSum sum(written + symbols, longest, order_);
    sum.add(operands, written, nobody);
    const bool tens = sum.digit(longest) != 0, hundreds = sum.digit(longest + 1) != 0;
    const Sizes sizes{static_cast<int32_t>(symbols), static_cast<int32_t>(longest + (tens | hundreds) + hundreds),
                      static_cast<int32_t>(DigitSum::columns_of(longest))};
    std::memcpy(at, &sizes, sizeof sizes);
    return {shape_of(sizes.symbols, sizes.answer_digits), written + symbols + sizes.columns};
  }

  RowShape write_kept(int64_t, const uint8_t*& at, const RowView& row) const {
    Sizes sizes;
    std::memcpy(&sizes, at, sizeof sizes);
    const uint8_t* const written = at + sizeof sizes;
    const uint8_t* answer = written + sizes.symbols;
    at = answer + sizes.columns;
    if (order_ == DigitOrder::most_significant_first) answer = at - sizes.answer_digits;
    row.tokens[0] = alphabet_.bos();
    widen(written, sizes.symbols, row.tokens + 1);
    put_answer(sizes.symbols + 1, sizes.answer_digits, alphabet_.eos(), row,
               [&](auto*... y) { widen(answer, sizes.answer_digits, y...); });
    return shape_of(sizes.symbols, sizes.answer_digits);
  }

 private:
  static constexpr Alphabet alphabet_{12};
  static constexpr uint8_t plus = 10, equals = 11;
  static constexpr int64_t nobody = -1;

  struct Sizes {
    int32_t symbols, answer_digits, columns;
  };

  static RowShape shape_of(int64_t symbols, int64_t answer) { return {symbols + answer + 2, answer + 1}; }

  void set_signs_and_leading(const Operands& operands, Words& words, uint8_t* written) const {
    const bool least_first = order_ == DigitOrder::least_significant_first;
    for (int64_t i = 0; i < operands.count; ++i) {
      const int64_t size = operands.digits[i];
      if (size > 1) written[least_first ? size - 1 : 0] = static_cast<uint8_t>(1 + words.below(9));
      written[size] = plus;
      written += size + 1;
    }
    written[-1] = equals;
  }

  LENGEN_SEPARATE void lay_carry_chain(const Operands& operands, Words& words, uint8_t* written, Scratch& scratch) const {
    const int64_t* const sizes = operands.digits;
    const int64_t longest = std::max_element(sizes, sizes + operands.count) - sizes, top = sizes[longest];
    int64_t second = 0;
    uint8_t* completing = written;
    for (int64_t i = 0; i < operands.count; ++i) {
      if (i != longest) second = std::max(second, sizes[i]);
      if (i < longest) completing += sizes[i] + 1;
    }
    const DigitSum others(at_least(scratch.sum, DigitSum::columns_of(top)), top, order_);
    others.add(operands, written, longest);
    const auto digit = [&](int64_t i) -> uint8_t& {
      return completing[order_ == DigitOrder::least_significant_first ? i : top - 1 - i];
    };
    const int64_t start = words.below(static_cast<uint32_t>((second + 1) / 2));
    const uint32_t other = others.digit(start);
    const bool carries = other == 9 || (words.below(2) == 1 && other > 0);
    digit(start) = static_cast<uint8_t>(carries ? 10 - other + words.below(other) : words.below(9 - other));
    for (int64_t i = start + 1; i < top; ++i) digit(i) = static_cast<uint8_t>(9 - others.digit(i));
    if (top > 1 && digit(top - 1) == 0) digit(top - 1) = 1;
  }

  OperandLengths lengths_;
  DigitOrder order_;
  bool hard_;
  Letters digits_{10};
};

}  // namespace lengen
