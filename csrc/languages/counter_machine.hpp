// Counter machines: automata that count, and see of each counter only whether it is zero.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "../vector.hpp"
#include "automaton.hpp"

namespace lengen {

// A machine that starts in state 0. Its situation is its state and which counters are positive: state * 2^counters + mask. One more
// state, the last, is that of strings that are no prefix of a member.
struct CounterMachine {
  static constexpr int64_t most_counters = 3;

  int64_t symbols, counters;
  std::vector<int64_t> start;        // [counters]
  std::vector<int32_t> next_states;  // [situations][symbols]; -1: the string is no prefix of a member
  std::vector<int64_t> changes;      // [situations][symbols][counters]
  std::vector<uint8_t> labels;       // [situations], and last that of a string that is no prefix

  // An automaton is a machine without counters, of which every string is a prefix.
  static CounterMachine of(const Automaton& automaton) {
    CounterMachine machine{automaton.symbols, 0, {}, automaton.transitions, {}, automaton.labels};
    machine.labels.push_back(0);
    return machine;
  }

  int64_t situations() const { return static_cast<int64_t>(labels.size()) - 1; }
  int64_t states() const { return situations() >> counters; }

  // All counters live in one word.
  static constexpr int64_t bits(int64_t counters) { return counters == 0 ? 63 : 63 / counters; }
  LENGEN_INLINE static int64_t value(int64_t values, int64_t which, int64_t counters) {
    const uint64_t field = (uint64_t{1} << bits(counters)) - 1;
    return static_cast<int64_t>(static_cast<uint64_t>(values) >> (bits(counters) * which) & field);
  }
  int64_t packed(const int64_t* each) const {
    int64_t values = 0;
    for (int64_t i = 0; i < counters; ++i) values += each[i] * (int64_t{1} << (bits(counters) * i));
    return values;
  }

  void step(int64_t& state, int64_t& values, int64_t symbol) const {
    if (state == states()) return;
    const auto cell = static_cast<size_t>(situation(state, values) * symbols + symbol);
    state = next_states[cell] < 0 ? states() : next_states[cell];
    if (next_states[cell] >= 0 && counters > 0) values += packed(&changes[cell * static_cast<size_t>(counters)]);
  }

  uint8_t label_of(int64_t state, int64_t values) const {
    return state == states() ? labels.back() : labels[static_cast<size_t>(situation(state, values))];
  }

  void check() const {
    const auto cells = static_cast<size_t>(situations() * symbols);
    if (counters < 1 || counters > most_counters || symbols < 1 || symbols > 255 || labels.size() < 2 ||
        start.size() != static_cast<size_t>(counters) || next_states.size() != cells ||
        changes.size() != cells * static_cast<size_t>(counters)) {
      throw std::invalid_argument("the tables of the counter machine do not fit together");
    }
    for (const int32_t state : next_states) {
      if (state < -1 || state >= states()) throw std::invalid_argument("a transition leads out of the states");
    }
    for (size_t i = 0; i < changes.size(); ++i) {
      const auto cell = static_cast<int64_t>(i) / counters, counter = static_cast<int64_t>(i) % counters;
      const bool is_positive = cell / symbols >> counter & 1;
      if (changes[i] < -int64_t{is_positive} || changes[i] >= int64_t{1} << (bits(counters) - 20)) {
        throw std::invalid_argument("a transition changes a counter by " + std::to_string(changes[i]));
      }
    }
  }

 private:
  int64_t situation(int64_t state, int64_t values) const {
    int64_t mask = 0;
    for (int64_t i = 0; i < counters; ++i) mask |= int64_t{value(values, i, counters) != 0} << i;
    return state << counters | mask;
  }
};

}  // namespace lengen
