// Arithmetic: binary addition.
#pragma once

#include <algorithm>
#include <bit>
#include <cstring>
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
  // Kept: how many digits A, B and the sum have, and the three numbers, as many words each.
  int64_t kept_bytes(int64_t n) const { return sizeof(Sizes) + 3 * 8 * words_of_bits(lengths_.most_symbols(n)); }

  Kept keep(int64_t n, Words& words, Scratch& scratch, uint8_t* at) const {
    const Operands operands = lengths_.draw(n, words, scratch);
    Sizes sizes{operands.digits[0], operands.digits[1], 0};
    const int64_t size = sizes.words();
    auto* const numbers = reinterpret_cast<uint64_t*>(at + sizeof sizes);
    sizes.answer = size == 1 && !hard_ ? draw_short(sizes, words, numbers) : draw(sizes, words, numbers);
    std::memcpy(at, &sizes, sizeof sizes);
    return {sizes.shape(), at + sizeof sizes + 3 * 8 * size};
  }

  RowShape write_kept(int64_t, const uint8_t*& at, const RowView& row) const {
    Sizes sizes;
    std::memcpy(&sizes, at, sizeof sizes);
    const int64_t n = sizes.a + sizes.b + 2, size = sizes.words();
    const auto* const a = reinterpret_cast<const uint64_t*>(at + sizeof sizes);
    at += sizeof sizes + 3 * 8 * size;
    row.tokens[0] = alphabet_.bos();
    expand_number(a, sizes.a, row.tokens + 1);
    row.tokens[sizes.a + 1] = plus;
    expand_number(a + size, sizes.b, row.tokens + sizes.a + 2);
    row.tokens[n] = equals;
    put_answer(n + 1, sizes.answer, alphabet_.eos(), row,
               [&](auto*... y) { expand_number(a + 2 * size, sizes.answer, y...); });
    return sizes.shape();
  }

 private:
  static constexpr Alphabet alphabet_{4};
  static constexpr int64_t plus = 2, equals = 3;

  // Digits of each number.
  struct Sizes {
    int64_t a, b, answer;

    int64_t words() const { return words_of_bits(std::max(a, b) + 1); }
    RowShape shape() const { return shape_of(a + b + 2, answer); }
  };

  static RowShape shape_of(int64_t n, int64_t answer) { return {n + answer + 2, answer + 1}; }

  // The same as draw where the sum fits in a word.
  static int64_t draw_short(const Sizes& sizes, Words& words, uint64_t* numbers) {
    const uint64_t a = draw_number(sizes.a, words), b = draw_number(sizes.b, words), answer = a + b;
    numbers[0] = a, numbers[1] = b, numbers[2] = answer;
    return std::max<int64_t>(1, std::bit_width(answer));
  }

  static uint64_t draw_number(int64_t digits, Words& words) {
    return (words.next_pair() & low_bits(digits)) | static_cast<uint64_t>(digits > 1) << (digits - 1);
  }

  // Draws A and B, adds them, and returns the digits of the sum.
  int64_t draw(const Sizes& sizes, Words& words, uint64_t* numbers) const {
    const int64_t size = sizes.words();
    uint64_t *a = numbers, *b = numbers + size;
    draw_digits(sizes.a, size, words, a);
    draw_digits(sizes.b, size, words, b);
    if (hard_) lay_carry_chain(a, sizes.a, b, sizes.b, words);
    set_leading(a, sizes.a);
    set_leading(b, sizes.b);
    return add(a, b, size, numbers + 2 * size);
  }

  static void draw_digits(int64_t digits, int64_t size, Words& words, uint64_t* number) {
    draw_fair_bits(digits, words, number);
    std::fill(number + words_of_bits(digits), number + size, 0);
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
