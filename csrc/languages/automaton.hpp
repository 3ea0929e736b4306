// Deterministic automata as tables, and the label of every prefix of a string.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../vector.hpp"

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

// How many bytes behind a string are read, and must be zero; and how many behind its labels are written.
inline constexpr int64_t string_padding = 8, label_spill = 8;

// Labels prefixes several symbols at a time: an entry for every state and every short string.
class PrefixLabels {
 public:
  explicit PrefixLabels(const Automaton& automaton)
      : at_once_(symbols_at_once(automaton)), start_(automaton.labels[0]),
        row_(at_once_ == 1 ? automaton.symbols : rows_of_bytes) {
    const int64_t bits = 8 / at_once_;
    entries_.resize(static_cast<size_t>(automaton.states() * row_));
    for (int64_t state = 0; state < automaton.states(); ++state) {
      for (int64_t index = 0; index < row_; ++index) {
        Entry& entry = entries_[static_cast<size_t>(state * row_ + index)];
        int64_t at = state;
        for (int64_t i = 0; i < at_once_; ++i) {
          const int64_t symbol = at_once_ == 1 ? index : index >> (bits * i) & ((1 << bits) - 1);
          if (symbol < automaton.symbols) at = automaton.next(at, symbol);
          entry.labels |= uint64_t{automaton.labels[static_cast<size_t>(at)]} << (8 * i);
        }
        entry.next = at * row_;
      }
    }
  }

  // out[0..n] = the labels of the prefixes of x[0..n-1], the empty one first.
  LENGEN_INLINE void put(const uint8_t* x, int64_t n, uint8_t* out) const {
    switch (at_once_) {
      case 8: return put_groups<8>(x, n, out);
      case 4: return put_groups<4>(x, n, out);
      case 2: return put_groups<2>(x, n, out);
      default: return put_groups<1>(x, n, out);
    }
  }

 private:
  static constexpr int64_t rows_of_bytes = 256, most_states = 4096;

  struct Entry {
    uint64_t labels = 0;
    int64_t next = 0;  // where the entries of the state after the group begin
  };

  static int64_t symbols_at_once(const Automaton& automaton) {
    if (automaton.states() > most_states) return 1;  // or the table would be too large
    return automaton.symbols <= 2 ? 8 : automaton.symbols <= 4 ? 4 : automaton.symbols <= 16 ? 2 : 1;
  }

  // The symbols of a group side by side, in 8 bits.
  template <int64_t at_once>
  LENGEN_INLINE static int64_t index_of(const uint8_t* x) {
    if constexpr (at_once == 8) {
      uint64_t bytes;
      std::memcpy(&bytes, x, sizeof bytes);
      return static_cast<int64_t>((bytes * 0x0102040810204080u) >> 56);
    } else if constexpr (at_once == 4) {
      uint32_t bytes;
      std::memcpy(&bytes, x, sizeof bytes);
      return (bytes * 0x01041040u) >> 24;
    } else if constexpr (at_once == 2) {
      return x[0] | x[1] << 4;
    } else {
      return x[0];
    }
  }

  template <int64_t at_once>
  LENGEN_INLINE void put_groups(const uint8_t* x, int64_t n, uint8_t* out) const {
    *out++ = start_;
    const Entry* row = entries_.data();
    for (int64_t i = 0; i < n; i += at_once) {
      const Entry& entry = row[index_of<at_once>(x + i)];
      std::memcpy(out + i, &entry.labels, sizeof entry.labels);
      row = entries_.data() + entry.next;
    }
  }

  int64_t at_once_;
  uint8_t start_;
  int64_t row_;
  std::vector<Entry> entries_;
};

}  // namespace lengen
