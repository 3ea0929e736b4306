// The label of every prefix of a string: several symbols at a time, by a table of every situation and every short string.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>
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
    const auto entries = static_cast<size_t>((dead + 1) * combinations(levels_)) << index_bits();
    steps_.resize(entries);
    labels_.resize(entries * static_cast<size_t>(at_once_));
    for (int64_t index = 0; index < int64_t{1} << index_bits(); ++index) {
      for (int64_t i = 0; i < at_once_; ++i) tokens_.push_back(symbol_in(index, i));
    }
    for (int64_t state = 0; state <= dead; ++state) {
      for (int64_t level = 0; level < combinations(levels_); ++level) fill_row(machine, state, level);
    }
  }

  // out[0..n] = the labels of the prefixes of x[0..n-1], the empty one first.
  LENGEN_INLINE void put(const uint8_t* x, int64_t n, uint8_t* out) const {
    *out++ = first_label_;
    for_each_group(x, n, [&](int64_t i, size_t entry, int64_t, auto size) {
      for (int64_t j = 0; j < size(); ++j) out[i + j] = static_cast<uint8_t>(labels_of<size()>(entry)[j]);
    });
  }

  // The same for a row that is scored everywhere: its symbols, targets and scored places.
  LENGEN_INLINE void put_row(const uint8_t* x, int64_t n, int64_t* tokens, const RowView& row) const {
    row.targets[0] = first_label_;
    row.scored[0] = row.start;
    FourWords places = FourWords{1, 2, 3, 4} + row.start;
    for_each_group(x, n, [&](int64_t i, size_t entry, int64_t index, auto size) {
      std::memcpy(tokens + i, &tokens_[static_cast<size_t>(index * size())], size() * sizeof(int64_t));
      std::memcpy(row.targets + 1 + i, labels_of<size()>(entry), size() * sizeof(int64_t));
      if constexpr (size() >= 4) {
        for (int64_t j = 0; j < size(); j += 4, places += 4) std::memcpy(row.scored + 1 + i + j, &places, sizeof places);
      }
    });
    if (at_once_ < 4) row.score(0, n + 1);
  }

 private:
  static constexpr int64_t most_labels = 1 << 17;  // in the table

  // What a group does to a state and its counters.
  struct Step {
    int64_t next_row;  // the first of the next state
    int64_t change;
  };

  static constexpr int64_t combinations(int64_t levels) {
    int64_t product = 1;
    for (int64_t i = 0; i < counters; ++i) product *= levels;
    return product;
  }

  int64_t index_bits() const { return symbol_bits_ * at_once_; }

  int64_t group_size(const CounterMachine& machine) const {
    for (const int64_t size : {8, 4, 2}) {
      if (size == 8 && symbol_bits_ > 1) continue;
      const int64_t bits = symbol_bits_ * size;
      if (bits <= 16 && (size * (machine.states() + 1) * combinations(size + 2)) << bits <= most_labels) return size;
    }
    return 1;
  }

  // Entries of a state with counters at some levels, of which the greatest stands for all greater values.
  void fill_row(const CounterMachine& machine, int64_t state, int64_t level) {
    std::array<int64_t, CounterMachine::most_counters> values{};
    for (int64_t i = 0; i < counters; ++i, level /= levels_) values[static_cast<size_t>(i)] = level % levels_;
    const int64_t from = machine.packed(values.data()), row = state * combinations(levels_) + level_of(from);
    for (int64_t index = 0; index < int64_t{1} << index_bits(); ++index) {
      const auto entry = static_cast<size_t>(row << index_bits() | index);
      int64_t at = state, counted = from;
      for (int64_t i = 0; i < at_once_; ++i) {
        if (symbol_in(index, i) < symbols_) machine.step(at, counted, symbol_in(index, i));
        labels_[entry * static_cast<size_t>(at_once_) + static_cast<size_t>(i)] = machine.label_of(at, counted);
      }
      steps_[entry] = {at * combinations(levels_), counted - from};
    }
  }

  int64_t symbol_in(int64_t index, int64_t i) const { return index >> (symbol_bits_ * i) & ((int64_t{1} << symbol_bits_) - 1); }

  template <int64_t at_once>
  LENGEN_INLINE const int64_t* labels_of(size_t entry) const {
    return &labels_[entry * at_once];
  }

  // Which of its rows a state with these counters has.
  LENGEN_INLINE int64_t level_of(int64_t values) const {
    int64_t level = 0;
    for (int64_t i = counters - 1; i >= 0; --i) {
      level = level * levels_ + std::min(CounterMachine::value(values, i, counters), levels_ - 1);
    }
    return level;
  }

  // The symbols of a group side by side, `bits` to each.
  template <int64_t at_once>
  LENGEN_INLINE static int64_t index_of(const uint8_t* x, int64_t bits) {
    if constexpr (at_once == 8) {  // for which symbols have one bit
      uint64_t bytes;
      std::memcpy(&bytes, x, sizeof bytes);
      return static_cast<int64_t>((bytes * 0x0102040810204080u) >> 56);
    } else {
      int64_t index = 0;
      for (int64_t i = at_once - 1; i >= 0; --i) index = index << bits | x[i];
      return index;
    }
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
    const int64_t symbol_bits = symbol_bits_, bits = at_once * symbol_bits;
    const Step* const steps = steps_.data();
    int64_t values = start_, first_row = 0;
    for (int64_t i = 0; i < n; i += at_once) {
      const int64_t index = index_of<at_once>(x + i, symbol_bits);
      const auto entry = static_cast<size_t>((first_row + level_of(values)) << bits | index);
      first_row = steps[entry].next_row;
      if constexpr (counters > 0) values += steps[entry].change;
      visit(i, entry, index, std::integral_constant<int64_t, at_once>{});
    }
  }

  int64_t symbols_, symbol_bits_, at_once_, levels_, start_;
  uint8_t first_label_;
  std::vector<Step> steps_;               // [states][levels][groups]
  std::vector<int64_t> labels_, tokens_;  // [states][levels][groups][at_once] and [groups][at_once]
};

}  // namespace lengen
