// The label of every prefix of a string: several symbols at a time, by a table of every situation and every short string.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include "../batch.hpp"
#include "../vector.hpp"
#include "counter_machine.hpp"

namespace lengen {

// How many bytes behind a string are read, and must be zero; and how many behind its labels are written.
inline constexpr int64_t string_padding = 8, label_spill = 8;

// The situations of a machine as far as a few symbols can tell them apart: its state and, of each counter, its value up to a
// greatest one, which stands for all above it.
template <int64_t counters>
class CappedSituations {
 public:
  CappedSituations(const CounterMachine& machine, int64_t greatest)
      : machine_(machine), greatest_(greatest), level_bits_(level_bits(greatest)),
        numbers_(static_cast<size_t>((machine.states() + 1) * combinations(level_bits_)), -1) {
    reach({0, machine.packed(machine.start.data())});
    for (size_t i = 0; i < reached_.size(); ++i) {
      const Situation from = reached_[i];
      for (int64_t symbol = 0; symbol < machine.symbols; ++symbol) reach_from(from, symbol);
    }
  }

  // With its counters at their levels.
  struct Situation {
    int64_t state, values;
  };

  // Those that some string leads to, and perhaps a few more.
  const std::vector<Situation>& reached() const { return reached_; }

  // Which of those reached each is, or -1: [states and one more][combinations of levels]
  const std::vector<int32_t>& numbers() const { return numbers_; }

  static int64_t level_bits(int64_t greatest) { return std::bit_width(static_cast<uint64_t>(greatest)); }
  static int64_t combinations(int64_t level_bits) { return int64_t{1} << level_bits * counters; }

  // The levels of the counters side by side.
  LENGEN_INLINE static int64_t combination(int64_t values, int64_t greatest, int64_t level_bits) {
    int64_t found = 0;
    for (int64_t i = 0; i < counters; ++i) {
      found |= std::min(CounterMachine::value(values, i, counters), greatest) << (level_bits * i);
    }
    return found;
  }

 private:
  void reach(Situation situation) {
    std::array<int64_t, CounterMachine::most_counters> values{};
    for (int64_t i = 0; i < counters; ++i) {
      values[static_cast<size_t>(i)] = std::min(CounterMachine::value(situation.values, i, counters), greatest_);
    }
    situation.values = machine_.packed(values.data());
    const int64_t place = situation.state * combinations(level_bits_) + combination(situation.values, greatest_, level_bits_);
    int32_t& number = numbers_[static_cast<size_t>(place)];
    if (number >= 0) return;
    number = static_cast<int32_t>(reached_.size());
    reached_.push_back(situation);
  }

  // A counter at the greatest level may stay there when it falls.
  void reach_from(Situation from, int64_t symbol) {
    Situation to = from;
    machine_.step(to.state, to.values, symbol);
    for (int64_t stays = 0; stays < int64_t{1} << counters; ++stays) {
      std::array<int64_t, CounterMachine::most_counters> values{};
      for (int64_t i = 0; i < counters; ++i) {
        const int64_t before = CounterMachine::value(from.values, i, counters), after = CounterMachine::value(to.values, i, counters);
        values[static_cast<size_t>(i)] = before == greatest_ && (stays >> i & 1) ? before : after;
      }
      reach({to.state, machine_.packed(values.data())});
    }
  }

  const CounterMachine& machine_;
  int64_t greatest_, level_bits_;
  std::vector<int32_t> numbers_;
  std::vector<Situation> reached_;
};

// With `counters` counters; an automaton has none. A group of k symbols looks only at the state and, of each counter, at its value
// up to k + 1: what is greater stays positive throughout.
template <int64_t counters>
class PrefixLabels {
 public:
  explicit PrefixLabels(const CounterMachine& machine)
      : symbols_(machine.symbols), symbol_bits_(std::max<int64_t>(1, std::bit_width(static_cast<uint64_t>(machine.symbols - 1)))),
        start_(machine.packed(machine.start.data())), first_label_(machine.label_of(0, start_)) {
    for (const int64_t size : {8, 4, 2, 1}) {
      if (fill(machine, size)) return;
    }
  }

  // How far the writing of a row goes past the end of what is scored.
  int64_t scored_spill() const { return at_once_ < 4 ? spill : label_spill; }

  // out[0..n] = the labels of the prefixes of x[0..n-1], the empty one first.
  LENGEN_INLINE void put(const uint8_t* x, int64_t n, uint8_t* out) const {
    *out++ = first_label_;
    for_each_group(x, n, [&](int64_t i, size_t entry, auto size) {
      std::memcpy(out + i, labels_of<size()>(entry), size());
    });
  }

  // The same for a row that is scored everywhere: its symbols, targets and scored places.
  LENGEN_INLINE void put_row(const uint8_t* x, int64_t n, int32_t* tokens, const RowView& row) const {
    row.targets[0] = first_label_;
    row.scored[0] = static_cast<int32_t>(row.start);
    EightWords places = EightWords{1, 2, 3, 4, 5, 6, 7, 8} + row.scored[0];
    for_each_group(x, n, [&](int64_t i, size_t entry, auto size) {
      widen_few<size()>(x + i, tokens + i);
      widen_few<size()>(labels_of<size()>(entry), row.targets + 1 + i);
      if constexpr (size() >= 4) {
        std::memcpy(row.scored + 1 + i, &places, size() * sizeof(int32_t));
        places += static_cast<int32_t>(size());
      }
    });
    if (at_once_ < 4) row.score(0, n + 1);
  }

 private:
  using Situations = CappedSituations<counters>;

  static constexpr int64_t most_labels = 1 << 17;  // in the table

  // What a group does to a state and its counters.
  struct Step {
    int64_t next;  // without counters its row, or else the first of its places in `numbers_`
    int64_t change;
  };

  // Makes the tables for groups of some size, unless they would be too large.
  bool fill(const CounterMachine& machine, int64_t size) {
    const int64_t bits = symbol_bits_ * size, level_bits = Situations::level_bits(size + 1);
    const int64_t places = (machine.states() + 1) * Situations::combinations(level_bits);
    if (size > 1 && (bits > (size == 8 ? 8 : 16) || places > most_labels)) return false;
    const Situations situations(machine, size + 1);
    const auto rows = static_cast<int64_t>(situations.reached().size());
    if (size > 1 && (size * rows) << bits > most_labels) return false;
    at_once_ = size;
    level_bits_ = level_bits;
    numbers_ = situations.numbers();
    for (const auto& situation : situations.reached()) fill_row(machine, situation.state, situation.values);
    return true;
  }

  void fill_row(const CounterMachine& machine, int64_t state, int64_t values) {
    for (int64_t index = 0; index < int64_t{1} << symbol_bits_ * at_once_; ++index) {
      int64_t at = state, counted = values;
      for (int64_t i = 0; i < at_once_; ++i) {
        if (symbol_in(index, i) < symbols_) machine.step(at, counted, symbol_in(index, i));
        labels_.push_back(machine.label_of(at, counted));
      }
      const int64_t next = counters == 0 ? numbers_[static_cast<size_t>(at)] : at * Situations::combinations(level_bits_);
      steps_.push_back({next, counted - values});
    }
  }

  int64_t symbol_in(int64_t index, int64_t i) const { return index >> (symbol_bits_ * i) & ((int64_t{1} << symbol_bits_) - 1); }

  template <int64_t at_once>
  LENGEN_INLINE const uint8_t* labels_of(size_t entry) const {
    return &labels_[entry * at_once];
  }

  // The symbols of a group side by side, `bits` to each, 4 at most unless it is one symbol alone.
  template <int64_t at_once>
  LENGEN_INLINE static int64_t index_of(const uint8_t* x, int64_t bits) {
    if constexpr (at_once == 8) {  // for which symbols have one bit
      uint64_t bytes;
      std::memcpy(&bytes, x, sizeof bytes);
      return static_cast<int64_t>((bytes * 0x0102040810204080u) >> 56);
    } else if constexpr (at_once == 4) {
      uint32_t bytes;
      std::memcpy(&bytes, x, sizeof bytes);
      bytes = (bytes | bytes >> (8 - bits)) & 0x00FF00FFu;
      return (bytes | bytes >> (16 - 2 * bits)) & 0xFFFF;
    } else {
      return at_once == 2 ? x[0] | x[1] << bits : x[0];
    }
  }

  template <class Visit>
  LENGEN_INLINE void for_each_group(const uint8_t* x, int64_t n, Visit&& visit) const {
    constexpr int64_t least_steady = 256;
    const bool is_steady = counters > 1 && n >= least_steady;
    switch (at_once_) {
      case 8: return visit_groups<8, false>(x, n, visit);
      case 4: return is_steady ? visit_groups<4, true>(x, n, visit) : visit_groups<4, false>(x, n, visit);
      case 2: return is_steady ? visit_groups<2, true>(x, n, visit) : visit_groups<2, false>(x, n, visit);
      default: return visit_groups<1, false>(x, n, visit);
    }
  }

  // A steady string rarely changes its row of the table: then a branch, guessed right, saves waiting for the row.
  template <int64_t at_once, bool is_steady, class Visit>
  LENGEN_INLINE void visit_groups(const uint8_t* x, int64_t n, Visit&& visit) const {
    const int64_t symbol_bits = symbol_bits_, bits = at_once * symbol_bits, level_bits = level_bits_;
    const Step* const steps = steps_.data();
    const int32_t* const numbers = numbers_.data();
    int64_t values = start_, next = 0, row = 0, place = -1;
    for (int64_t i = 0; i < n; i += at_once) {
      const int64_t index = index_of<at_once>(x + i, symbol_bits);
      if constexpr (counters == 0) {
        row = next;
      } else {
        const int64_t here = next + Situations::combination(values, at_once + 1, level_bits);
        if (!is_steady || here != place) row = numbers[here];
        place = here;
      }
      const auto entry = static_cast<size_t>(row << bits | index);
      next = steps[entry].next;
      if constexpr (counters > 0) values += steps[entry].change;
      visit(i, entry, std::integral_constant<int64_t, at_once>{});
    }
  }

  int64_t symbols_, symbol_bits_, start_, at_once_ = 1, level_bits_ = 2;
  uint8_t first_label_;
  std::vector<int32_t> numbers_;  // see CappedSituations
  std::vector<Step> steps_;       // [situations reached][groups]
  std::vector<uint8_t> labels_;   // [situations reached][groups][at_once]
};

}  // namespace lengen
