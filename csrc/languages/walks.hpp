// Walks on an automaton, a random choice at every step.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <vector>

#include "../random.hpp"
#include "../sampler.hpp"
#include "../tasks/bits.hpp"
#include "automaton.hpp"

namespace lengen {

// Every legal symbol with equal probability, of which no state has more than two; every live state must be accepting.
class CoinWalk {
 public:
  explicit CoinWalk(const Automaton& automaton) : entries_(static_cast<size_t>(automaton.states() * row)) {
    for (int64_t state = 0; state < automaton.states(); ++state) {
      if (!automaton.is_live(state)) continue;
      if (!automaton.accepts(state)) throw std::invalid_argument("a walk of coins may end in a state that does not accept");
      for (int64_t bits = 0; bits < row; ++bits) entries_[static_cast<size_t>(state * row + bits)] = walk(automaton, state, bits);
    }
  }

  int64_t usual_words(int64_t n) const { return 2 * words_of_bits(n); }

  // Up to seven more bytes are written.
  void draw(int64_t n, Words& words, Scratch& scratch, uint8_t* x) const {
    uint64_t short_bits;
    uint64_t* bits = n <= 64 ? &short_bits : at_least(scratch.bits[0], words_of_bits(n));
    words.fill(bits, words_of_bits(n));
    const Entry* from = entries_.data();
    for (int64_t i = 0; i < n; i += 8) {
      const Entry& entry = from[bits[i / 64] >> (i % 64) & 255];
      std::memcpy(x + i, &entry.symbols, sizeof entry.symbols);
      from = entries_.data() + entry.next;
    }
  }

 private:
  static constexpr int64_t row = 256;

  struct Entry {
    uint64_t symbols = 0;
    int64_t next = 0;
  };

  static Entry walk(const Automaton& automaton, int64_t state, int64_t bits) {
    Entry entry;
    for (int64_t i = 0; i < 8; ++i) {
      const std::vector<uint8_t> legal = automaton.legal(state);
      if (legal.empty() || legal.size() > 2) throw std::invalid_argument("a walk of coins needs one or two legal symbols");
      const uint8_t symbol = legal[legal.size() == 1 ? 0 : static_cast<size_t>(bits >> i & 1)];
      entry.symbols |= uint64_t{symbol} << (8 * i);
      state = automaton.next(state, symbol);
    }
    entry.next = state * row;
    return entry;
  }

  std::vector<Entry> entries_;
};

// A number too large or too small for a float: mantissa in [1/2, 1) or 0, times 2^exponent.
struct ScaledNumber {
  long double mantissa = 0;
  int64_t exponent = 0;

  static ScaledNumber of(long double value, int64_t exponent) {
    int shift = 0;
    const long double mantissa = std::frexp(value, &shift);
    return {mantissa, value == 0 ? 0 : exponent + shift};
  }

  // The number as a multiple of 2^unit.
  long double over(int64_t unit) const {
    constexpr int64_t least = -16000;
    return mantissa == 0 ? 0 : std::ldexp(mantissa, static_cast<int>(std::max(exponent - unit, least)));
  }
};

// Every member of one length with equal probability: each step is drawn in proportion to the number of ways to complete it.
class UniformWalk {
 public:
  UniformWalk(const Automaton& automaton, int64_t longest) {
    number_live_states(automaton);
    list_steps(automaton);
    if (choices_ > 1) count_paths(automaton, longest);
  }

  int64_t usual_words(int64_t n) const { return choices_ > 1 ? n : 0; }

  void draw(int64_t n, Words& words, Scratch& scratch, uint8_t* x) const { draw_from(0, n, words, scratch, x); }

  // The same from another state, from which some n symbols lead to acceptance.
  void draw_from(int64_t start, int64_t n, Words& words, Scratch& scratch, uint8_t* x) const {
    const int64_t state = numbers_[static_cast<size_t>(start)];
    if (choices_ == 1) return put_only_walk(state, n, x);
    uint32_t* draws = at_least(scratch.draws, n + 1);
    words.fill(draws, n);
    switch (choices_) {
      case 2: return walk<2>(state, n, draws, words, x);
      case 3: return walk<3>(state, n, draws, words, x);
      case 4: return walk<4>(state, n, draws, words, x);
      default: return walk<0>(state, n, draws, words, x);
    }
  }

 private:
  static constexpr int64_t most_bytes = int64_t{1} << 32;
  static constexpr uint64_t certain = uint64_t{1} << 63;

  void number_live_states(const Automaton& automaton) {
    for (int64_t state = 0; state < automaton.states(); ++state) {
      numbers_.push_back(automaton.is_live(state) ? static_cast<int64_t>(live_.size()) : -1);
      if (automaton.is_live(state)) live_.push_back(state);
    }
    if (numbers_[0] != 0) throw std::invalid_argument("the language is empty");
  }

  void list_steps(const Automaton& automaton) {
    for (const int64_t state : live_) choices_ = std::max(choices_, static_cast<int64_t>(automaton.legal(state).size()));
    steps_.resize(live_.size() * static_cast<size_t>(choices_));
    for (size_t i = 0; i < live_.size(); ++i) {
      const std::vector<uint8_t> legal = automaton.legal(live_[i]);
      for (size_t j = 0; j < legal.size(); ++j) {
        const int64_t target = numbers_[static_cast<size_t>(automaton.next(live_[i], legal[j]))];
        steps_[i * static_cast<size_t>(choices_) + j] = static_cast<uint32_t>(target) << 8 | legal[j];
      }
    }
  }

  // thresholds[r - 1][state][j]: 2^63 times the probability that the step is one of the first j + 1 when r symbols are missing;
  // the high and the low 32 bits apart, because the low ones are needed once in 2^31 steps.
  void count_paths(const Automaton& automaton, int64_t longest) {
    const auto states = static_cast<int64_t>(live_.size()), row = states * (choices_ - 1);
    if (longest > most_bytes / 8 / row) throw std::length_error("counting the paths of this automaton takes over 4 GiB");
    high_.resize(static_cast<size_t>(longest * row));
    low_.resize(static_cast<size_t>(longest * row));
    std::vector<ScaledNumber> counts(live_.size()), before(live_.size());
    for (int64_t i = 0; i < states; ++i) counts[static_cast<size_t>(i)] = {automaton.accepts(live_[static_cast<size_t>(i)]) ? 0.5L : 0.0L, 1};
    for (int64_t missing = 1; missing <= longest; ++missing) {
      counts.swap(before);
      for (int64_t i = 0; i < states; ++i) {
        const auto first = static_cast<size_t>(((missing - 1) * states + i) * (choices_ - 1));
        counts[static_cast<size_t>(i)] = count_steps(automaton, i, before, first);
      }
    }
  }

  ScaledNumber count_steps(const Automaton& automaton, int64_t i, const std::vector<ScaledNumber>& before, size_t first) {
    const std::vector<uint8_t>& legal = legal_of(automaton, i);
    const uint32_t* steps = &steps_[static_cast<size_t>(i * choices_)];
    int64_t unit = std::numeric_limits<int64_t>::min();
    for (size_t j = 0; j < legal.size(); ++j) {
      const ScaledNumber& count = before[steps[j] >> 8];
      if (count.mantissa != 0) unit = std::max(unit, count.exponent);
    }
    long double total = 0;
    for (size_t j = 0; j < legal.size(); ++j) total += before[steps[j] >> 8].over(unit);
    long double sum = 0;
    for (size_t j = 0; j < static_cast<size_t>(choices_ - 1); ++j) {
      if (j < legal.size()) sum += before[steps[j] >> 8].over(unit);
      const bool is_certain = sum >= total;
      const uint64_t threshold = is_certain ? certain : static_cast<uint64_t>(sum / total * static_cast<long double>(certain));
      high_[first + j] = static_cast<uint32_t>(threshold >> 32);
      low_[first + j] = static_cast<uint32_t>(threshold);
    }
    return ScaledNumber::of(total, unit);
  }

  const std::vector<uint8_t>& legal_of(const Automaton& automaton, int64_t i) {
    if (legal_.empty()) {
      for (const int64_t state : live_) legal_.push_back(automaton.legal(state));
    }
    return legal_[static_cast<size_t>(i)];
  }

  void put_only_walk(int64_t state, int64_t n, uint8_t* x) const {
    for (int64_t i = 0; i < n; ++i) {
      const uint32_t step = steps_[static_cast<size_t>(state)];
      x[i] = static_cast<uint8_t>(step);
      state = step >> 8;
    }
  }

  // With at most `known` choices a state, or any number if that is 0.
  template <int64_t known>
  LENGEN_INLINE void walk(int64_t state, int64_t n, const uint32_t* draws, Words& words, uint8_t* x) const {
    const int64_t choices = known == 0 ? choices_ : known, row = static_cast<int64_t>(live_.size()) * (choices - 1);
    for (int64_t i = 0, first = (n - 1) * row; i < n; ++i, first -= row) {
      const int64_t place = first + state * (choices - 1);
      const uint32_t draw = draws[i] >> 1;
      int64_t choice = 0;
      bool tied = false;
      for (int64_t j = 0; j < choices - 1; ++j) {
        const uint32_t threshold = high_[static_cast<size_t>(place + j)];
        choice += draw >= threshold;
        tied |= draw == threshold;
      }
      if (tied) [[unlikely]] choice = settle_tie(place, draw, words);
      const uint32_t step = steps_[static_cast<size_t>(state * choices + choice)];
      x[i] = static_cast<uint8_t>(step);
      state = step >> 8;
    }
  }

  LENGEN_RARE int64_t settle_tie(int64_t place, uint32_t draw, Words& words) const {
    const uint64_t whole = uint64_t{draw} << 32 | words.next();
    int64_t choice = 0;
    for (int64_t j = 0; j < choices_ - 1; ++j) {
      const auto at = static_cast<size_t>(place + j);
      choice += whole >= (uint64_t{high_[at]} << 32 | low_[at]);
    }
    return choice;
  }

  std::vector<int64_t> live_, numbers_;
  int64_t choices_ = 1;
  std::vector<uint32_t> steps_;  // [live states][choices]: the next live state, and in the low 8 bits the symbol
  std::vector<uint32_t> high_, low_;
  std::vector<std::vector<uint8_t>> legal_;
};

}  // namespace lengen
