// The label of every prefix of a string: several symbols at a time, by a table of every situation and every short string.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

#include "../batch.hpp"
#include "../vector.hpp"
#include "automaton.hpp"
#include "counter_machine.hpp"

namespace lengen {

// How many bytes behind a string are read, and must be zero; and how many behind its labels are written.
inline constexpr int64_t string_padding = 8, label_spill = 8;

// With `counters` counters; an automaton has none. A group of k symbols looks only at the state and, of each counter, at its value
// up to k + 1: what is greater stays positive throughout.
template <int64_t counters>
class PrefixLabels {
 public:
  explicit PrefixLabels(const CounterMachine& machine)
      : symbols_(machine.symbols), symbol_bits_(std::max<int64_t>(1, std::bit_width(static_cast<uint64_t>(machine.symbols - 1)))),
        at_once_(group_size(machine)), levels_(at_once_ + 2), start_(machine.packed(machine.start.data())) {
    const int64_t dead = machine.states();
    first_label_ = machine.label_of(0, start_);
    entries_.resize(static_cast<size_t>((dead + 1) * combinations(levels_)) << index_bits());
    for (int64_t state = 0; state <= dead; ++state) {
      for (int64_t level = 0; level < combinations(levels_); ++level) fill_row(machine, state, level);
    }
  }

  // out[0..n] = the labels of the prefixes of x[0..n-1], the empty one first.
  LENGEN_INLINE void put(const uint8_t* x, int64_t n, uint8_t* out) const {
    *out++ = first_label_;
    for_each_group(x, n, [&](int64_t i, const Entry& entry, auto) { std::memcpy(out + i, &entry.labels, sizeof entry.labels); });
  }

  // The same for a row that is scored everywhere: its tokens x, targets and scored places.
  LENGEN_INLINE void put_row(const uint8_t* x, int64_t n, int64_t* tokens, const RowView& row) const {
    row.targets[0] = first_label_;
    row.scored[0] = row.start;
    for_each_group(x, n, [&](int64_t i, const Entry& entry, auto size) {
      if constexpr (size() >= 4) {
        widen_group<size()>(x + i, tokens + i);
        widen_group<size()>(reinterpret_cast<const uint8_t*>(&entry.labels), row.targets + 1 + i);
        count_group<size()>(row.start + 1 + i, row.scored + 1 + i);
      } else {
        for (int64_t j = 0; j < size(); ++j) {
          tokens[i + j] = x[i + j];
          row.targets[1 + i + j] = static_cast<int64_t>(entry.labels >> (8 * j) & 255);
          row.scored[1 + i + j] = row.start + 1 + i + j;
        }
      }
    });
  }

 private:
  static constexpr int64_t most_entries = 1 << 16;

  struct Entry {
    uint64_t labels = 0;  // after each symbol of the group
    int64_t next = 0;     // where the entries of the next state begin, in rows
    int64_t change = 0;   // of all counters
  };

  static constexpr int64_t combinations(int64_t levels) {
    int64_t product = 1;
    for (int64_t i = 0; i < counters; ++i) product *= levels;
    return product;
  }

  int64_t index_bits() const { return symbol_bits_ * at_once_; }

  int64_t group_size(const CounterMachine& machine) const {
    for (const int64_t size : {8, 4, 2}) {
      const int64_t bits = symbol_bits_ * size;
      if (bits <= 16 && ((machine.states() + 1) * combinations(size + 2)) << bits <= most_entries) return size;
    }
    return 1;
  }

  // Entries of a state with counters at some levels, of which the greatest stands for all greater values.
  void fill_row(const CounterMachine& machine, int64_t state, int64_t level) {
    std::array<int64_t, CounterMachine::most_counters> values{};
    for (int64_t i = 0; i < counters; ++i, level /= levels_) values[static_cast<size_t>(i)] = level % levels_;
    const int64_t from = machine.packed(values.data()), row = state * combinations(levels_) + level_of(from);
    for (int64_t index = 0; index < int64_t{1} << index_bits(); ++index) {
      Entry& entry = entries_[static_cast<size_t>(row << index_bits() | index)];
      int64_t at = state, counted = from;
      for (int64_t i = 0; i < at_once_; ++i) {
        const int64_t symbol = index >> (symbol_bits_ * i) & ((int64_t{1} << symbol_bits_) - 1);
        if (symbol < symbols_) machine.step(at, counted, symbol);
        entry.labels |= uint64_t{machine.label_of(at, counted)} << (8 * i);
      }
      entry.next = at * combinations(levels_);
      entry.change = counted - from;
    }
  }

  // Which of its rows a state with these counters has.
  LENGEN_INLINE int64_t level_of(int64_t values) const {
    int64_t level = 0;
    for (int64_t i = counters - 1; i >= 0; --i) {
      level = level * levels_ + std::min(CounterMachine::value(values, i, counters), levels_ - 1);
    }
    return level;
  }

  // The symbols of a group side by side.
  template <int64_t at_once>
  LENGEN_INLINE int64_t index_of(const uint8_t* x) const {
    if constexpr (at_once == 8) {
      uint64_t bytes;
      std::memcpy(&bytes, x, sizeof bytes);
      if (symbol_bits_ == 1) return static_cast<int64_t>((bytes * 0x0102040810204080u) >> 56);
    }
    int64_t index = 0;
    for (int64_t i = at_once - 1; i >= 0; --i) index = index << symbol_bits_ | x[i];
    return index;
  }

  template <class Visit>
  LENGEN_INLINE void for_each_group(const uint8_t* x, int64_t n, Visit&& visit) const {
    switch (at_once_) {
      case 8: return visit_groups<8>(x, n, visit);
      case 4: return visit_groups<4>(x, n, visit);
      case 2: return visit_groups<2>(x, n, visit);
      default: return visit_groups<1>(x, n, visit);
    }
  }

  template <int64_t at_once, class Visit>
  LENGEN_INLINE void visit_groups(const uint8_t* x, int64_t n, Visit&& visit) const {
    int64_t values = start_, state_row = 0;
    const int64_t bits = index_bits();
    for (int64_t i = 0; i < n; i += at_once) {
      const Entry& entry = entries_[static_cast<size_t>((state_row + level_of(values)) << bits | index_of<at_once>(x + i))];
      visit(i, entry, std::integral_constant<int64_t, at_once>{});
      state_row = entry.next;
      values += entry.change;
    }
  }

  int64_t symbols_, symbol_bits_, at_once_, levels_, start_;
  uint8_t first_label_;
  std::vector<Entry> entries_;
};

}  // namespace lengen
