// Expressions in Polish notation, uniform over those of one length.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <utility>
#include <vector>

#include "../random.hpp"
#include "../sampler.hpp"
#include "automaton.hpp"
#include "uniform_walk.hpp"

namespace lengen {

// Chances of the sums of 1, 2, 4, ... blocks of `block` independent steps, as shares of the greatest, times 2^63.
class ChancesOfSums {
 public:
  // step[i] is the weight of a step of i - 1.
  ChancesOfSums(const std::vector<double>& step, int64_t block, int64_t longest) {
    Chances one{-1, step};
    for (int64_t length = 1; length < block; length *= 2) one = twice(one);
    for (int64_t length = block; length == block || length <= longest / 2; length *= 2) {
      if (length > block) one = twice(one);
      tables_.push_back(thresholds(one));
    }
  }

  // The threshold of a sum over block * 2^level steps.
  uint64_t of(size_t level, int64_t sum) const {
    const Thresholds& table = tables_[level];
    const int64_t i = sum - table.first;
    return i < 0 || i >= static_cast<int64_t>(table.values.size()) ? 0 : table.values[static_cast<size_t>(i)];
  }

 private:
  struct Chances {
    int64_t first;  // the least sum
    std::vector<double> values;
  };

  struct Thresholds {
    int64_t first;
    std::vector<uint64_t> values;
  };

  static Chances twice(const Chances& one) {
    const size_t size = one.values.size();
    std::vector<double> sums(2 * size - 1, 0.0);
    for (size_t i = 0; i < size; ++i) {
      for (size_t j = 0; j < size; ++j) sums[i + j] += one.values[i] * one.values[j];
    }
    const double most = *std::max_element(sums.begin(), sums.end());
    size_t begin = 0, end = sums.size();
    while (sums[begin] < negligible * most) ++begin;
    while (sums[end - 1] < negligible * most) --end;
    Chances found{2 * one.first + static_cast<int64_t>(begin), {}};
    for (size_t i = begin; i < end; ++i) found.values.push_back(sums[i] / most);
    return found;
  }

  static Thresholds thresholds(const Chances& chances) {
    const double most = *std::max_element(chances.values.begin(), chances.values.end());
    Thresholds found{chances.first, {}};
    for (const double chance : chances.values) found.values.push_back(static_cast<uint64_t>(std::ldexp(chance / most, 63)));
    return found;
  }

  static constexpr double negligible = 1e-40;

  std::vector<Thresholds> tables_;
};

// Expressions over symbols of given arities, those of arity 0 first, all expressions of n symbols equally likely: one rotation of
// a string of arities whose sum is n - 1 is an expression (the cycle lemma of Dvoretzky and Motzkin, 1947). Such a string is
// drawn as independent symbols whose mean arity is near one, which are kept with a probability in proportion to the chance that
// as many more complete the sum; the last `block` symbols by counting paths.
class Trees {
 public:
  Trees(const std::vector<int64_t>& arities, int64_t longest)
      : arities_(arities), weights_(weigh(arities)), bound_(std::accumulate(weights_.begin(), weights_.end(), uint32_t{0})),
        chances_(step_weights(arities_, weights_), block, longest), ends_(sums(arities), std::min(block, longest), UniformWalk::Starts::any_state) {}

  int64_t usual_words(int64_t n) const { return n <= block ? n : 2 * n; }

  template <bool avx2>
  void draw(int64_t n, Words& words, Scratch& scratch, uint8_t* x) const {
    uint8_t* drawn = at_least(scratch.parts, n + 16);
    int64_t left = n, wanted = -1;
    while (left > block) {
      const int64_t level = level_below(left), rest = block << level, free = left - rest;
      int64_t sum;
      uint64_t draw;
      do {
        sum = draw_free(free, words, drawn + n - left);
        draw = words.next_pair() >> 1;
      } while (draw >= chances_.of(static_cast<size_t>(level), wanted - sum));
      wanted -= sum;
      left = rest;
    }
    ends_.draw_from<avx2>(state_of(wanted), left, words, scratch, drawn + n - left);
    rotate(drawn, n, x);
  }

 private:
  static constexpr int64_t block = 32;

  // Weights a^i b^(D - i) for arity i, D the greatest, that sum up to four thousand million at most: with the fraction a / b
  // where the mean arity is nearest to 1, of those next to where it is 1.
  static std::vector<uint32_t> weigh(const std::vector<int64_t>& arities) {
    if (arities.size() < 2 || arities[0] != 0 || !std::is_sorted(arities.begin(), arities.end()) || arities.back() < 2) {
      throw std::invalid_argument("arities must rise from 0 to 2 or more");
    }
    const double balance = balanced_tilt(arities);
    const auto most = static_cast<double>(arities.back());
    std::pair<int64_t, int64_t> best{1, 1};
    double least = 2;
    for (int64_t b = 1; std::pow(static_cast<double>(b), most) <= 4e9; ++b) {
      const auto below = static_cast<int64_t>(balance * static_cast<double>(b));
      for (const int64_t a : {below, below + 1}) {
        const double tilt = static_cast<double>(a) / static_cast<double>(b);
        const auto [total, mean] = tilted(arities, tilt);
        const double error = std::abs(mean - 1);
        if (a < 1 || total * std::pow(static_cast<double>(b), most) > 4e9 || error >= least) continue;
        least = error;
        best = {a, b};
      }
    }
    std::vector<uint32_t> weights;
    for (const int64_t arity : arities) {
      weights.push_back(power(best.first, arity) * power(best.second, arities.back() - arity));
    }
    return weights;
  }

  // The sum of tilt^arity, and the mean arity with these weights.
  static std::pair<double, double> tilted(const std::vector<int64_t>& arities, double tilt) {
    double total = 0, sum = 0;
    for (const int64_t arity : arities) {
      const double weight = std::pow(tilt, static_cast<double>(arity));
      total += weight;
      sum += weight * static_cast<double>(arity);
    }
    return {total, sum / total};
  }

  static double balanced_tilt(const std::vector<int64_t>& arities) {
    double low = 0, high = static_cast<double>(arities.size());
    for (int i = 0; i < 100; ++i) {
      const double middle = (low + high) / 2;
      (tilted(arities, middle).second < 1 ? low : high) = middle;
    }
    return low;
  }

  static uint32_t power(int64_t base, int64_t exponent) {
    uint32_t product = 1;
    for (int64_t i = 0; i < exponent; ++i) product *= static_cast<uint32_t>(base);
    return product;
  }

  static std::vector<double> step_weights(const std::vector<int64_t>& arities, const std::vector<uint32_t>& weights) {
    std::vector<double> found(static_cast<size_t>(arities.back() + 1), 0.0);
    for (size_t i = 0; i < arities.size(); ++i) found[static_cast<size_t>(arities[i])] += weights[i];
    const double total = std::accumulate(found.begin(), found.end(), 0.0);
    for (double& weight : found) weight /= total;
    return found;
  }

  // States count what is missing of the sum, from -block up to all that a block can add; and one is for what it cannot.
  static Automaton sums(const std::vector<int64_t>& arities) {
    const int64_t most = block * (arities.back() - 1), dead = block + most + 1, states = dead + 1;
    Automaton automaton{static_cast<int64_t>(arities.size()), {}, {}, {}, {}};
    for (int64_t state = 0; state < states; ++state) {
      for (const int64_t arity : arities) {
        const int64_t missing = state - block - (arity - 1);
        const bool is_lost = state == dead || missing < -block || missing > most;
        automaton.transitions.push_back(static_cast<int32_t>(is_lost ? dead : missing + block));
      }
      automaton.accepting.push_back(state == block);
      automaton.live.push_back(state != dead);
      automaton.labels.push_back(0);
    }
    return automaton;
  }

  static int64_t state_of(int64_t wanted) { return wanted + block; }

  // The greatest level with fewer than `left` steps, and at most half of them if that is more than a block.
  static int64_t level_below(int64_t left) {
    int64_t level = 0;
    while (block << (level + 1) <= left / 2) ++level;
    return level;
  }

  int64_t draw_free(int64_t count, Words& words, uint8_t* out) const {
    int64_t sum = 0;
    for (int64_t i = 0; i < count; ++i) {
      uint32_t draw = words.below(bound_);
      uint8_t symbol = 0;
      while (draw >= weights_[symbol]) draw -= weights_[symbol++];
      out[i] = symbol;
      sum += arities_[symbol] - 1;
    }
    return sum;
  }

  void rotate(const uint8_t* drawn, int64_t n, uint8_t* x) const {
    int64_t level = 0, lowest = 1, start = 0;
    for (int64_t i = 0; i < n; ++i) {
      level += arities_[drawn[i]] - 1;
      if (level < lowest) {
        lowest = level;
        start = i + 1;
      }
    }
    std::memcpy(x, drawn + start, static_cast<size_t>(n - start));
    std::memcpy(x + n - start, drawn, static_cast<size_t>(start));
  }

  std::vector<int64_t> arities_;
  std::vector<uint32_t> weights_;
  uint32_t bound_;
  ChancesOfSums chances_;
  UniformWalk ends_;
};

}  // namespace lengen
