// Independent letters, all equally likely, several to one 16-bit draw.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <string>

#include "../random.hpp"
#include "../sampler.hpp"

namespace lengen {

// Letters 0..count-1. A draw is a number below count^per_draw <= 256, whose digits in base `count`, lowest first, are letters.
class Letters {
 public:
  static constexpr int64_t most = 256;

  explicit Letters(int64_t count) : count_(count), per_draw_(1), bound_(count) {
    if (count < 2 || count > most) {
      throw std::invalid_argument("there are " + std::to_string(count) + " letters; there must be 2..256");
    }
    for (; bound_ * count <= most; bound_ *= count) ++per_draw_;
    for (int64_t number = 0; number < bound_; ++number) letters_[static_cast<size_t>(number)] = digits_of(number);
  }

  int64_t count() const { return count_; }
  int64_t per_draw() const { return per_draw_; }
  int64_t draws(int64_t n) const { return (n + per_draw_ - 1) / per_draw_; }
  int64_t usual_words(int64_t n) const { return words_for_draws(draws(n)); }

  // Letter i of a drawn number.
  int64_t letter(int64_t number, int64_t i) const {
    return static_cast<int64_t>(letters_[static_cast<size_t>(number)] >> (8 * i) & 255);
  }

  // The numbers of the draws for n letters, readable 31 bytes past their end. Sixteen random bits to a number; the few that would
  // make numbers uneven are drawn again, from left to right in each stretch of `at_once`.
  const uint8_t* draw(int64_t n, Words& words, Scratch& scratch) const {
    const int64_t count = draws(n);
    uint8_t* numbers = at_least(scratch.numbers, count + 31);
    uint32_t* drawn = at_least(scratch.draws, words_for_draws(count));
    if (count <= 64) {
      for (int64_t i = 0; i < words_for_draws(count); i += words_per_block) words.fill(drawn + i, words_per_block);
    } else {
      words.fill(drawn, words_for_draws(count));
    }
    const auto* halves = reinterpret_cast<const uint16_t*>(drawn);
    for (int64_t i = 0; i < count; i += at_once) scale(halves + i, std::min(at_once, count - i), words, numbers + i);
    return numbers;
  }

  // Writes the letters of drawn numbers to every out, and up to 16 more.
  template <class... Out>
  LENGEN_INLINE void put(const uint8_t* numbers, int64_t n, Out*... out) const {
    const int64_t step = per_draw_;
    if (step == 1) {
      widen(numbers, n, out...);
    } else if (step <= 4) {
      for (int64_t i = 0; i < n; i += step) (put_four(letters_[*numbers], out + i), ...), ++numbers;
    } else {
      for (int64_t i = 0; i < n; i += step, ++numbers) {
        (put_four(letters_[*numbers], out + i), ...);
        (put_four(letters_[*numbers] >> 32, out + i + 4), ...);
      }
    }
  }

  // The letters as bytes, readable 31 bytes past their end.
  const uint8_t* bytes(const uint8_t* numbers, int64_t n, Scratch& scratch) const {
    return per_draw_ == 1 ? numbers : bytes(numbers, n, at_least(scratch.letters, n + 31));
  }

  // The same, written to x, and up to 7 more.
  uint8_t* bytes(const uint8_t* numbers, int64_t n, uint8_t* x) const {
    const int64_t step = per_draw_;
    for (int64_t i = 0; i < n; i += step) std::memcpy(x + i, &letters_[*numbers++], sizeof(uint64_t));
    return x;
  }

 private:
  static constexpr int64_t at_once = 256;

  static int64_t words_for_draws(int64_t draws) { return (draws + 7) / 8 * words_per_block; }

  uint64_t digits_of(int64_t number) const {
    uint64_t digits = 0;
    for (int64_t i = 0; i < per_draw_; ++i, number /= count_) digits |= static_cast<uint64_t>(number % count_) << (8 * i);
    return digits;
  }

  void scale(const uint16_t* halves, int64_t count, Words& words, uint8_t* numbers) const {
    const auto bound = static_cast<uint16_t>(bound_);
    bool rejected = false;
    scale_draws(halves, count, bound, numbers, rejected);
    for (int64_t i = 0; rejected && i < count; ++i) {
      if (static_cast<uint16_t>(halves[i] * bound_) < 65536 % bound_) numbers[i] = static_cast<uint8_t>(words.below(bound));
    }
  }

  int64_t count_, per_draw_, bound_;
  std::array<uint64_t, most> letters_{};  // of each number, a byte each
};

// How often each letter occurs among n bytes: counts[0..letters), of an array with room for Letters::most.
inline void count_each(const uint8_t* x, int64_t n, int64_t letters, int32_t* counts) {
  std::fill_n(counts, letters, 0);
  if (letters <= 32 && n >= 256) {
    count_letters(x, n, letters, counts);
  } else {
    for (int64_t i = 0; i < n; ++i) ++counts[x[i]];
  }
}

}  // namespace lengen
