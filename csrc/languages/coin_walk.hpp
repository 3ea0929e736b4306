// Walks on an automaton that need a coin at most at every step.
#pragma once

#include <cstring>
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

}  // namespace lengen
