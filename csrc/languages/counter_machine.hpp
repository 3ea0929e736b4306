// Counter machines: automata that count, and see of each counter only whether it is zero.
#pragma once

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "../vector.hpp"

namespace lengen {

// A machine that starts in state 0. Its situation is its state and which counters are positive: state * 2^counters + mask.
struct CounterMachine {
  static constexpr int64_t most_counters = 3;

  // Bits of one counter: all of them live in one word.
  static constexpr int64_t bits(int64_t counters) { return 63 / counters; }

  int64_t symbols, counters;
  std::vector<int64_t> start;        // [counters]
  std::vector<int32_t> next_states;  // [situations][symbols]; -1: the string is no prefix of a member
  std::vector<int64_t> changes;      // [situations][symbols][counters]
  std::vector<uint8_t> labels;       // [situations], and last that of a string that is no prefix

  int64_t situations() const { return static_cast<int64_t>(labels.size()) - 1; }

  void check() const {
    const auto cells = static_cast<size_t>(situations() * symbols);
    if (counters < 1 || counters > most_counters || symbols < 1 || symbols > 255 || labels.empty() ||
        start.size() != static_cast<size_t>(counters) || next_states.size() != cells ||
        changes.size() != cells * static_cast<size_t>(counters)) {
      throw std::invalid_argument("the tables of the counter machine do not fit together");
    }
    for (const int32_t state : next_states) {
      if (state < -1 || (state + 1) << counters > situations()) throw std::invalid_argument("a transition leads out of the states");
    }
    for (size_t i = 0; i < changes.size(); ++i) {
      const auto cell = static_cast<int64_t>(i) / counters, counter = static_cast<int64_t>(i) % counters;
      const bool is_positive = cell / symbols >> counter & 1;
      if (changes[i] < -int64_t{is_positive} || changes[i] >= int64_t{1} << (bits(counters) - 20)) {
        throw std::invalid_argument("a transition changes a counter by " + std::to_string(changes[i]));
      }
    }
  }
};

// The label of every prefix of a string, a symbol at a time.
class CounterLabels {
 public:
  explicit CounterLabels(const CounterMachine& machine)
      : symbols_(machine.symbols), counters_(machine.counters), start_(pack(machine.start.data(), machine.counters)) {
    const int64_t situations = machine.situations(), dead = situations >> counters_;
    steps_.resize(static_cast<size_t>((dead + 1) << counters_) * static_cast<size_t>(symbols_), {0, dead << counters_});
    for (int64_t i = 0; i < situations * symbols_; ++i) {
      const auto at = static_cast<size_t>(i);
      if (machine.next_states[at] < 0) continue;
      steps_[at] = {pack(&machine.changes[at * static_cast<size_t>(counters_)], counters_),
                    int64_t{machine.next_states[at]} << counters_};
    }
    labels_.assign(machine.labels.begin(), machine.labels.end() - 1);
    labels_.resize(static_cast<size_t>((dead + 1) << counters_), machine.labels.back());
  }

  // out[0..n] = the labels of the prefixes of x[0..n-1], the empty one first.
  LENGEN_INLINE void put(const uint8_t* x, int64_t n, uint8_t* out) const {
    switch (counters_) {
      case 1: return put_counting<1>(x, n, out);
      case 2: return put_counting<2>(x, n, out);
      default: return put_counting<3>(x, n, out);
    }
  }

 private:
  struct Step {
    int64_t change;  // of all counters
    int64_t first_situation;
  };

  static int64_t pack(const int64_t* values, int64_t counters) {
    int64_t packed = 0;
    for (int64_t i = 0; i < counters; ++i) packed += values[i] * (int64_t{1} << (CounterMachine::bits(counters) * i));
    return packed;
  }

  template <int64_t counters>
  LENGEN_INLINE static int64_t mask_of(int64_t values) {
    constexpr uint64_t field = (uint64_t{1} << CounterMachine::bits(counters)) - 1;
    int64_t mask = 0;
    for (int64_t i = 0; i < counters; ++i) {
      mask |= int64_t{(static_cast<uint64_t>(values) >> (CounterMachine::bits(counters) * i) & field) != 0} << i;
    }
    return mask;
  }

  template <int64_t counters>
  LENGEN_INLINE void put_counting(const uint8_t* x, int64_t n, uint8_t* out) const {
    int64_t values = start_, situation = mask_of<counters>(values);
    out[0] = labels_[static_cast<size_t>(situation)];
    for (int64_t i = 0; i < n; ++i) {
      const Step& step = steps_[static_cast<size_t>(situation * symbols_ + x[i])];
      values += step.change;
      situation = step.first_situation | mask_of<counters>(values);
      out[i + 1] = labels_[static_cast<size_t>(situation)];
    }
  }

  int64_t symbols_, counters_, start_;
  std::vector<Step> steps_;
  std::vector<uint8_t> labels_;
};

}  // namespace lengen
