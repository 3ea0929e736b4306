// Deterministic automata as tables.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <vector>

namespace lengen {

// A complete automaton that starts in state 0. A state is live if some continuation is accepted; labels[s] is the token that
// says what state s means for a prefix that ends there.
struct Automaton {
  int64_t symbols;
  std::vector<int32_t> transitions;  // [states][symbols]
  std::vector<uint8_t> accepting, live, labels;

  int64_t states() const { return static_cast<int64_t>(accepting.size()); }
  int32_t next(int64_t state, int64_t symbol) const { return transitions[static_cast<size_t>(state * symbols + symbol)]; }
  bool is_live(int64_t state) const { return live[static_cast<size_t>(state)] != 0; }
  bool accepts(int64_t state) const { return accepting[static_cast<size_t>(state)] != 0; }

  // The symbols that some member goes on with.
  std::vector<uint8_t> legal(int64_t state) const {
    std::vector<uint8_t> found;
    for (int64_t symbol = 0; symbol < symbols; ++symbol) {
      if (is_live(next(state, symbol))) found.push_back(static_cast<uint8_t>(symbol));
    }
    return found;
  }

  void check() const {
    const auto size = accepting.size();
    if (symbols < 1 || symbols > 255 || size == 0 || live.size() != size || labels.size() != size ||
        transitions.size() != size * static_cast<size_t>(symbols)) {
      throw std::invalid_argument("the tables of the automaton do not fit together");
    }
    for (const int32_t target : transitions) {
      if (target < 0 || target >= states()) throw std::invalid_argument("a transition leads out of the states");
    }
  }
};

}  // namespace lengen
