// How many operands a sum has, and how long each is.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

#include "../random.hpp"
#include "../sampler.hpp"

namespace lengen {

// How many digits each of `count` operands has.
struct Operands {
  int64_t count;
  const int64_t* digits;
};

// Two operands, or several. Their lengths come from one length n, their digits, the signs between them and = together: the number
// of operands is uniform over 2..10 as far as they fit, and every way to cut the digits among them is equally likely. Or they come
// from two ranges: of the digits of either of two operands, and then the row's length is the number of the pair, from 0; or of the
// number of operands and of the digits of each, and then the row's length is the number of operands beyond the least.
class OperandLengths {
 public:
  // From the least and the greatest of the first range and of the second; from nothing for one length.
  OperandLengths(bool many, const std::vector<int64_t>& bounds) : many_(many), pair_(!bounds.empty()) {
    if (!pair_) return;
    const int64_t least = many ? 2 : 1, most = many ? most_in_pair : longest_length;
    const bool fits = bounds.size() == 4 && least <= bounds[0] && bounds[0] <= bounds[1] && bounds[1] <= most &&
                      1 <= bounds[2] && bounds[2] <= bounds[3] && bounds[3] <= longest_length;
    if (!fits) throw std::invalid_argument("parameters must be the least and the greatest of two lengths");
    first_ = bounds[0], last_ = bounds[1], second_ = bounds[2], seconds_ = bounds[3] - bounds[2] + 1;
    if (longest() > std::numeric_limits<int32_t>::max()) throw std::invalid_argument("there are more than 2147483648 pairs");
  }

  int64_t shortest() const { return pair_ ? 0 : 4; }
  int64_t longest() const { return !pair_ ? longest_length : many_ ? last_ - first_ : (last_ - first_ + 1) * seconds_ - 1; }

  // Digits, signs and = of a row of length n, at most.
  int64_t most_symbols(int64_t n) const {
    if (!pair_) return n;
    return many_ ? (first_ + n) * (second_ + seconds_) : first_ + n / seconds_ + second_ + n % seconds_ + 2;
  }

  // Digits of the sum, at most.
  int64_t most_answer(int64_t n) const {
    if (!pair_) return n - 2;
    if (many_) return second_ + seconds_ - 1 + (first_ + n > 10 ? 2 : 1);
    return std::max(first_ + n / seconds_, second_ + n % seconds_) + 1;
  }

  // Operands there usually are, at most.
  int64_t usual_count() const { return !many_ ? 2 : pair_ ? last_ : most_of_one_length; }
  // Random words that `draw` usually takes, at most.
  int64_t usual_words() const { return many_ ? usual_count() : 1; }

  Operands draw(int64_t n, Words& words, Scratch& scratch) const {
    int64_t* digits = at_least(scratch.operands, most_in_pair);
    if (many_) return {pair_ ? draw_alike(first_ + n, words, digits) : draw_cut(n, words, digits), digits};
    digits[0] = pair_ ? first_ + n / seconds_ : 1 + words.below(static_cast<uint32_t>(n - 3));
    digits[1] = pair_ ? second_ + n % seconds_ : n - 2 - digits[0];
    return {2, digits};
  }

 private:
  static constexpr int64_t most_of_one_length = 10, most_in_pair = 99;

  int64_t draw_alike(int64_t count, Words& words, int64_t* digits) const {
    for (int64_t i = 0; i < count; ++i) digits[i] = second_ + words.below(static_cast<uint32_t>(seconds_));
    return count;
  }

  static int64_t draw_cut(int64_t n, Words& words, int64_t* digits) {
    const int64_t count = 2 + words.below(static_cast<uint32_t>(std::min(most_of_one_length, n / 2) - 1));
    draw_cuts(count - 1, n - count - 1, words, digits);
    digits[count - 1] = n - count - 1;
    int64_t begin = -1;
    for (int64_t i = 0; i < count; ++i) digits[i] -= std::exchange(begin, digits[i]);
    return count;
  }

  // `count` distinct places below `places`, in order, all sets equally likely (Floyd's algorithm: Bentley, "A sample of
  // brilliance", CACM 1987).
  static void draw_cuts(int64_t count, int64_t places, Words& words, int64_t* cuts) {
    if (places > 64) return draw_far_cuts(count, places, words, cuts);
    uint64_t taken = 0;
    for (int64_t newest = places - count; newest < places; ++newest) {
      const int64_t drawn = words.below(static_cast<uint32_t>(newest + 1));
      taken |= uint64_t{1} << (taken >> drawn & 1 ? newest : drawn);
    }
    for (int64_t i = 0; i < count; ++i, taken &= taken - 1) cuts[i] = std::countr_zero(taken);
  }

  // The same for any number of places.
  LENGEN_SEPARATE static void draw_far_cuts(int64_t count, int64_t places, Words& words, int64_t* cuts) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t newest = places - count + i, drawn = words.below(static_cast<uint32_t>(newest + 1));
      cuts[i] = std::find(cuts, cuts + i, drawn) == cuts + i ? drawn : newest;
    }
    std::sort(cuts, cuts + count);
  }

  bool many_, pair_;
  int64_t first_ = 0, last_ = 0, second_ = 0, seconds_ = 1;
};

}  // namespace lengen
