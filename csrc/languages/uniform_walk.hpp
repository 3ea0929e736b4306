// Walks on an automaton, every string of one length equally likely.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <vector>

#include "../random.hpp"
#include "../sampler.hpp"
#include "automaton.hpp"

namespace lengen {

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
    if (choices_ > 1) {
      count_paths(automaton, longest);
    } else {
      follow_only_walks();
    }
  }

  int64_t usual_words(int64_t n) const { return choices_ > 1 ? n : 0; }

  void draw(int64_t n, Words& words, Scratch& scratch, uint8_t* x) const { draw_from(0, n, words, scratch, x); }

  // The same from another state, from which some n symbols lead to acceptance.
  void draw_from(int64_t start, int64_t n, Words& words, Scratch& scratch, uint8_t* x) const {
    const int64_t state = numbers_[static_cast<size_t>(start)];
    if (choices_ == 1) return put_only_walk(state, n, x);
    uint32_t* draws = at_least(scratch.draws, n);
    words.fill(draws, n);
    Walker walker{state, n, draws, x, &words};
    walk_all(&walker, 1);
  }

  // Strings of several rows, string i at x + i * stride; side by side, because a step waits for the one before.
  void draw_rows(const Placement* placements, int64_t rows, const Heads& heads, Scratch& scratch, uint8_t* x, int64_t stride) const {
    if (choices_ == 1) {
      for (int64_t i = 0; i < rows; ++i) put_only_walk(0, placements[i].length, x + i * stride);
      return;
    }
    Words words[rows_at_once] = {heads.words(0), heads.words(1), heads.words(2), heads.words(3),
                                 heads.words(4), heads.words(5), heads.words(6), heads.words(7)};
    Walker walkers[rows_at_once];
    uint32_t* draws = at_least(scratch.draws, rows * stride);
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t n = placements[i].length;
      int64_t longer = 0;  // rows go before it, those of the same length by their number
      for (int64_t j = 0; j < rows; ++j) longer += placements[j].length * rows_at_once + j > n * rows_at_once + i;
      walkers[longer] = {0, n, take(n, words[i], draws + i * stride), x + i * stride, &words[i]};
    }
    for (int64_t i = 0; i < rows; i += side_by_side) walk_all(walkers + i, std::min(side_by_side, rows - i));
  }

 private:
  static constexpr int64_t most_bytes = int64_t{1} << 32;
  static constexpr uint64_t certain = uint64_t{1} << 63;
  static constexpr int64_t side_by_side = 4;

  // One string being drawn: where it is, and the random numbers for all its steps.
  struct Walker {
    int64_t state, n;
    const uint32_t* draws;
    uint8_t* x;
    Words* words;
  };

  // What eight steps without a choice write, and where they lead.
  struct OnlyWalk {
    uint64_t symbols;
    int64_t next;
  };

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

  // The next `count` words, in `room` unless they are at hand.
  static const uint32_t* take(int64_t count, Words& words, uint32_t* room) {
    if (const uint32_t* found = words.peek(count)) {
      words.skip(count);
      return found;
    }
    words.fill(room, count);
    return room;
  }

  void follow_only_walks() {
    for (int64_t state = 0; state < static_cast<int64_t>(live_.size()); ++state) {
      OnlyWalk walk{0, state};
      for (int64_t i = 0; i < 8; ++i) {
        const uint32_t step = steps_[static_cast<size_t>(walk.next)];
        walk.symbols |= uint64_t{step & 255} << (8 * i);
        walk.next = step >> 8;
      }
      only_walks_.push_back(walk);
    }
  }

  // Up to seven more bytes are written.
  void put_only_walk(int64_t state, int64_t n, uint8_t* x) const {
    for (int64_t i = 0; i < n; i += 8) {
      const OnlyWalk& walk = only_walks_[static_cast<size_t>(state)];
      std::memcpy(x + i, &walk.symbols, sizeof walk.symbols);
      state = walk.next;
    }
  }

  // The longest string first.
  LENGEN_INLINE void walk_all(Walker* walkers, int64_t count) const {
    switch (choices_) {
      case 2: return walk_all<2>(walkers, count);
      case 3: return walk_all<3>(walkers, count);
      default: return walk_all<0>(walkers, count);
    }
  }

  // They end together, so that the same symbols are missing.
  template <int64_t known>
  LENGEN_INLINE void walk_all(Walker* walkers, int64_t count) const {
    int64_t missing = walkers[0].n;
    for (int64_t active = 1; active <= count; ++active) {
      const int64_t end = active < count ? walkers[active].n : 0;
      switch (active) {
        case 1: walk<known, 1>(walkers, missing, end); break;
        case 2: walk<known, 2>(walkers, missing, end); break;
        case 3: walk<known, 3>(walkers, missing, end); break;
        default: walk<known, 4>(walkers, missing, end);
      }
      missing = end;
    }
  }

  // The first `active` of the walkers, from where `missing` symbols are missing to where `end` are. With at most `known` choices
  // a state, or any number if that is 0.
  template <int64_t known, int64_t active>
  LENGEN_INLINE void walk(Walker* walkers, int64_t missing, int64_t end) const {
    const int64_t choices = known == 0 ? choices_ : known, row = static_cast<int64_t>(live_.size()) * (choices - 1);
    const uint32_t* const steps = steps_.data();
    const uint32_t* draws[active];
    uint8_t* x[active];
    uint64_t states[active];
    for (int64_t i = 0; i < active; ++i) {
      draws[i] = walkers[i].draws + walkers[i].n;
      x[i] = walkers[i].x + walkers[i].n;
      states[i] = static_cast<uint64_t>(walkers[i].state);
    }
    const uint32_t* thresholds = high_.data() + (missing - 1) * row;
    for (int64_t place = -missing; place < -end; ++place, thresholds -= row) {
#pragma GCC unroll 4
      for (int64_t i = 0; i < active; ++i) {
        const uint32_t draw = draws[i][place] >> 1;
        const uint32_t* const own = thresholds + states[i] * static_cast<uint64_t>(choices - 1);
        const uint32_t* const own_steps = steps + states[i] * static_cast<uint64_t>(choices);
        bool tied = draw == own[0];
        uint32_t step;
        if constexpr (known == 2) {
          const uint32_t takes_second = 0 - static_cast<uint32_t>(draw >= own[0]);  // a mask: a branch would be guessed wrong
          step = own_steps[0] ^ ((own_steps[0] ^ own_steps[1]) & takes_second);
        } else {
          uint64_t choice = draw >= own[0];
          for (int64_t j = 1; j < choices - 1; ++j) {
            choice += draw >= own[j];
            tied |= draw == own[j];
          }
          step = own_steps[choice];
        }
        if (tied) [[unlikely]] step = own_steps[settle_tie(own - high_.data(), draw, *walkers[i].words)];
        x[i][place] = static_cast<uint8_t>(step);
        states[i] = step >> 8;
      }
    }
    for (int64_t i = 0; i < active; ++i) walkers[i].state = static_cast<int64_t>(states[i]);
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
  std::vector<OnlyWalk> only_walks_;
  std::vector<std::vector<uint8_t>> legal_;
};

}  // namespace lengen
