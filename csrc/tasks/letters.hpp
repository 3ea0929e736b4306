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

  explicit Letters(int64_t count) : count_(count), per_draw_(1) {
    if (count < 2 || count > most) {
      throw std::invalid_argument("there are " + std::to_string(count) + " letters; there must be 2..256");
    }
    int64_t bound = count;
    for (; bound * count <= most; bound *= count) ++per_draw_;
    bound_ = static_cast<uint16_t>(bound);
    threshold_ = static_cast<uint16_t>(65536 % bound);
    inverse_ = ((int64_t{1} << 32) + per_draw_ - 1) / per_draw_;
    for (int64_t number = 0; number < bound; ++number) {
      letters_[static_cast<size_t>(number)] = digits_of(number);
      for (int64_t i = 0; i < per_draw_; ++i) {
        tokens_[static_cast<size_t>(number)][static_cast<size_t>(i)] = static_cast<int32_t>(letter(number, i));
        if (count <= 8) packed_counts_[static_cast<size_t>(number)] += uint64_t{1} << (8 * letter(number, i));
      }
    }
  }

  int64_t count() const { return count_; }
  int64_t per_draw() const { return per_draw_; }

  // Draws for n letters, and draws that give no more than n.
  int64_t draws(int64_t n) const { return whole_draws(n + per_draw_ - 1); }
  int64_t whole_draws(int64_t n) const { return n * inverse_ >> 32; }  // n / per_draw_ for n up to 2^21
  int64_t usual_words(int64_t n) const { return words_for_draws(draws(n)); }

  // Letter i of a drawn number.
  int64_t letter(int64_t number, int64_t i) const {
    return static_cast<int64_t>(letters_[static_cast<size_t>(number)] >> (8 * i) & 255);
  }

  // The numbers of the draws for n letters, in memory of the scratch, readable 31 bytes past their end. Sixteen random bits to a
  // number; the few that would make numbers uneven are drawn again, from left to right in each stretch of `at_once`.
  uint8_t* draw(int64_t n, Words& words, Scratch& scratch) const {
    uint8_t* numbers = at_least(scratch.numbers, draws(n) + 31);
    draw(n, words, scratch, numbers);
    return numbers;
  }

  // The same, written to `numbers`, and up to 7 more.
  void draw(int64_t n, Words& words, Scratch& scratch, uint8_t* numbers) const {
    const int64_t count = draws(n), needed = words_for_draws(count);
    const uint32_t* drawn = words.peek(needed);
    if (drawn != nullptr) {
      words.skip(needed);
    } else {
      uint32_t* filled = at_least(scratch.draws, needed);
      words.fill(filled, needed);
      drawn = filled;
    }
    const auto* halves = reinterpret_cast<const uint16_t*>(drawn);
    for (int64_t i = 0; i < count; i += at_once) scale(halves + i, std::min(at_once, count - i), words, numbers + i);
  }

  // Writes the letters of drawn numbers, and up to 31 more values.
  LENGEN_INLINE void put(const uint8_t* numbers, int64_t n, int32_t* out) const {
    const int64_t step = per_draw_;
    if (step == 1) return widen(numbers, n, out);
    for (int64_t i = 0; i < n; i += step, ++numbers) copy_eight(tokens_[*numbers].data(), out + i);
  }

  // The letters as bytes, readable 31 bytes past their end.
  const uint8_t* bytes(const uint8_t* numbers, int64_t n, Scratch& scratch) const {
    return per_draw_ == 1 ? numbers : bytes(numbers, n, at_least(scratch.letters, n + 31));
  }

  // The same, written to x, and up to 31 more.
  uint8_t* bytes(const uint8_t* numbers, int64_t n, uint8_t* x) const {
    const int64_t step = per_draw_;
    if (step == 2) {
      split_bytes(numbers, n, static_cast<uint16_t>(count_), x);
      return x;
    }
    for (int64_t i = 0; i < n; i += step) std::memcpy(x + i, &letters_[*numbers++], sizeof(uint64_t));
    return x;
  }

  // Writes letters as put does; counts[letter] is how often each occurs.
  void put_and_count(const uint8_t* numbers, int64_t n, int32_t* out, int32_t* counts, Scratch& scratch) const {
    if (count_ > 8 || n > 255) {
      put(numbers, n, out);
      return count_each(numbers, n, counts, scratch);
    }
    const uint64_t packed = put_and_count_few(numbers, n, out);
    for (int64_t letter = 0; letter < count_; ++letter) counts[letter] = static_cast<int32_t>(packed >> (8 * letter) & 255);
  }

  // counts[letter]: how often each letter occurs.
  void count_each(const uint8_t* numbers, int64_t n, int32_t* counts, Scratch& scratch) const {
    const uint8_t* x = bytes(numbers, n, scratch);
    std::fill_n(counts, count_, 0);
    if (count_ <= 32 && n >= 256) {
      count_letters(x, n, count_, counts);
    } else {
      for (int64_t i = 0; i < n; ++i) ++counts[x[i]];
    }
  }

 private:
  static constexpr int64_t at_once = 256;

  static int64_t words_for_draws(int64_t draws) { return (draws + 7) / 8 * words_per_block; }

  uint64_t digits_of(int64_t number) const {
    uint64_t digits = 0;
    for (int64_t i = 0; i < per_draw_; ++i, number /= count_) digits |= static_cast<uint64_t>(number % count_) << (8 * i);
    return digits;
  }

  // At most 255 of at most 8 letters: their counts, a byte each.
  uint64_t put_and_count_few(const uint8_t* numbers, int64_t n, int32_t* out) const {
    const int64_t step = per_draw_;
    uint64_t counts = 0;
    int64_t i = 0;
    for (; i + step <= n; i += step, ++numbers) {
      copy_eight(tokens_[*numbers].data(), out + i);
      counts += packed_counts_[*numbers];
    }
    for (const int32_t* left = tokens_[*numbers].data(); i < n; ++i, ++left) {
      out[i] = *left;
      counts += uint64_t{1} << (8 * *left);
    }
    return counts;
  }

  void scale(const uint16_t* halves, int64_t count, Words& words, uint8_t* numbers) const {
    bool rejected = false;
    scale_draws(halves, count, bound_, threshold_, numbers, rejected);
    if (rejected) draw_again(halves, count, words, numbers);
  }

  // Drawing may overwrite the memory that the draws are in.
  LENGEN_RARE void draw_again(const uint16_t* halves, int64_t count, Words& words, uint8_t* numbers) const {
    std::array<uint16_t, at_once> kept;
    std::copy_n(halves, count, kept.begin());
    for (int64_t i = 0; i < count; ++i) {
      const auto left = static_cast<uint16_t>(kept[static_cast<size_t>(i)] * bound_);
      if (left < threshold_) numbers[i] = static_cast<uint8_t>(words.below(bound_));
    }
  }

  int64_t count_, per_draw_, inverse_;
  uint16_t bound_, threshold_;
  std::array<uint64_t, most> letters_{};  // of each number, a byte each
  std::array<std::array<int32_t, 8>, most> tokens_{};  // the same as they are written
  std::array<uint64_t, most> packed_counts_{};         // how often each letter is in it, a byte each, if there are at most 8
};

}  // namespace lengen
