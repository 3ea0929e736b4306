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

// A number too large or too small for a float: mantissa / 2^64 in [1/2, 1) or 0, times 2^exponent.
struct ScaledNumber {
  uint64_t mantissa = 0;
  int64_t exponent = 0;

  static ScaledNumber of(long double value, int64_t exponent) {
    if (value == 0) return {};
    int shift = 0;
    const long double mantissa = std::frexp(value, &shift);
    return {static_cast<uint64_t>(std::ldexp(mantissa, 64)), exponent + shift};
  }

  // The number as a multiple of 2^unit.
  long double over(int64_t unit) const {
    constexpr int64_t least = -16000;
    if (mantissa == 0) return 0;
    return std::ldexp(static_cast<long double>(mantissa), static_cast<int>(std::max(exponent - unit, least) - 64));
  }
};

// Twice as many as those of 16 numbers that are below `draw`.
template <bool avx2>
LENGEN_INLINE int64_t twice_below(const int16_t* numbers, int16_t draw);

#if LENGEN_HAS_AVX2_PATH
// Not inlined by force, because not every function that it is written into is compiled for AVX2; those that run are.
LENGEN_AVX2 inline int64_t twice_below_avx2(const int16_t* numbers, int16_t draw) {
  const __m256i sixteen = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(numbers));
  const __m256i below = _mm256_cmpgt_epi16(_mm256_set1_epi16(draw), sixteen);
  return __builtin_popcount(static_cast<uint32_t>(_mm256_movemask_epi8(below)));
}

template <>
LENGEN_INLINE int64_t twice_below<true>(const int16_t* numbers, int16_t draw) {
  return twice_below_avx2(numbers, draw);
}
#endif

template <>
LENGEN_INLINE int64_t twice_below<false>(const int16_t* numbers, int16_t draw) {
  int64_t below = 0;
  for (int64_t i = 0; i < 16; ++i) below += numbers[i] < draw;
  return 2 * below;
}

// Every member of one length with equal probability, each block's to 56 bits.
// A string is drawn in blocks of a few symbols, each by one of the paths that
// lead on from a state, in proportion to the number of ways to complete it; all blocks but the first are whole.
class UniformWalk {
 public:
  // Which states a walk may begin in, beside the automaton's first.
  enum class Starts { first_state, any_state };

  UniformWalk(const Automaton& automaton, int64_t longest, Starts starts = Starts::first_state) {
    number_live_states(automaton);
    starts_ = starts == Starts::any_state ? states() : 1;
    list_paths(automaton);
    if (most_paths_ > 1) count_paths(automaton, longest);
  }

  int64_t usual_words(int64_t n) const { return most_paths_ > 1 ? words_of_blocks(blocks(n)) : 0; }

  // Up to seven more bytes are written.
  template <bool avx2>
  void draw(int64_t n, Words& words, Scratch& scratch, uint8_t* x) const {
    draw_from<avx2>(0, n, words, scratch, x);
  }

  // The same from another state, from which some n symbols lead to acceptance.
  template <bool avx2>
  void draw_from(int64_t start, int64_t n, Words& words, Scratch& scratch, uint8_t* x) const {
    const int64_t state = numbers_[static_cast<size_t>(start)];
    if (most_paths_ == 1) return put_only_path(state, n, x);
    if (slots_ == slots_at_once) {
      draw_one<avx2, true>(state, n, words, scratch, x);
    } else {
      draw_one<avx2, false>(state, n, words, scratch, x);
    }
  }

  // Strings of several rows, string i at x + i * stride; side by side, because a step waits for the one before.
  template <bool avx2>
  void draw_rows(const Placement* placements, int64_t rows, const Heads& heads, Scratch& scratch, uint8_t* x, int64_t stride) const {
    if (most_paths_ == 1) {
      for (int64_t i = 0; i < rows; ++i) put_only_path(0, placements[i].length, x + i * stride);
    } else if (slots_ == slots_at_once) {
      draw_side_by_side<avx2, true>(placements, rows, heads, scratch, x, stride);
    } else {
      draw_side_by_side<avx2, false>(placements, rows, heads, scratch, x, stride);
    }
  }

 private:
  static constexpr int64_t longest_block = 8, side_by_side = 4;
  static constexpr int64_t slots_at_once = 16;  // paths of a block, unless it is one symbol and there are more
  static constexpr int64_t most_bytes = int64_t{1} << 32;
  static constexpr uint64_t certain = uint64_t{1} << 63;
  static constexpr int64_t known_bits = 15;  // of a draw, before it has to be drawn further

  // One way from a state: its symbols, a byte each, and the state that it leads to.
  struct Path {
    uint64_t symbols;
    int64_t next;
  };

  // The same in a table: where the paths from there begin.
  struct Slot {
    uint64_t symbols;
    int64_t place;
  };

  // The random numbers of the blocks of a string, 16 bits each, low half of a word first.
  struct Draws {
    const char* end;

    Draws() = default;
    Draws(const uint32_t* words, int64_t blocks) : end(reinterpret_cast<const char*>(words) + 2 * blocks) {}

    LENGEN_INLINE uint16_t before_end(int64_t blocks) const {
      uint16_t found;
      std::memcpy(&found, end - 2 * blocks, sizeof found);
      return found;
    }
  };

  // One string being drawn: how many whole blocks are missing, the place of the paths from where it is, and what it is drawn by.
  struct Walker {
    int64_t missing, place;
    uint8_t* x;
    Draws draws;
    Words* words;
  };

  int64_t states() const { return static_cast<int64_t>(live_.size()); }
  int64_t blocks(int64_t n) const { return static_cast<int64_t>(static_cast<uint64_t>(n + symbols_ - 1) * reciprocal_ >> 32); }
  static int64_t words_of_blocks(int64_t blocks) { return (blocks + 1) / 2; }

  void number_live_states(const Automaton& automaton) {
    for (int64_t state = 0; state < automaton.states(); ++state) {
      numbers_.push_back(automaton.is_live(state) ? states() : -1);
      if (automaton.is_live(state)) live_.push_back(state);
    }
    if (numbers_[0] != 0) throw std::invalid_argument("the language is empty");
  }

  // The paths of 1, 2, ... symbols from every state in lexicographic order, as long as they are few.
  void list_paths(const Automaton& automaton) {
    std::vector<std::vector<Path>> found(live_.size());
    for (int64_t i = 0; i < states(); ++i) found[static_cast<size_t>(i)] = {{0, i}};
    for (int64_t length = 1; length <= longest_block; ++length) {
      size_t most = 1;
      for (std::vector<Path>& paths : found) {
        paths = extended(automaton, paths, length);
        most = std::max(most, paths.size());
      }
      if (length > 1 && most > slots_at_once) break;
      symbols_ = length;
      most_paths_ = std::max(most_paths_, static_cast<int64_t>(most));
      paths_.push_back(found);
    }
    reciprocal_ = ((uint64_t{1} << 32) + static_cast<uint64_t>(symbols_) - 1) / static_cast<uint64_t>(symbols_);
    slots_ = (most_paths_ + slots_at_once - 1) / slots_at_once * slots_at_once;
    for (const auto& from_states : paths_) {
      for (const auto& paths : from_states) {
        const size_t end = table_.size() + static_cast<size_t>(slots_);
        for (const Path& path : paths) table_.push_back({path.symbols, path.next * slots_});
        table_.resize(end, Slot{0, 0});
      }
    }
  }

  std::vector<Path> extended(const Automaton& automaton, const std::vector<Path>& paths, int64_t length) const {
    std::vector<Path> found;
    for (const Path& path : paths) {
      const int64_t state = live_[static_cast<size_t>(path.next)];
      for (const uint8_t symbol : automaton.legal(state)) {
        const int64_t next = numbers_[static_cast<size_t>(automaton.next(state, symbol))];
        found.push_back({path.symbols | uint64_t{symbol} << (8 * (length - 1)), next});
      }
    }
    return found;
  }

  const std::vector<Path>& paths(int64_t length, int64_t state) const {
    return paths_[static_cast<size_t>(length - 1)][static_cast<size_t>(state)];
  }

  // The part of the table for paths of a number of symbols.
  const Slot* table(int64_t length) const { return table_.data() + (length - 1) * states() * slots_; }

  // How many strings of so many whole blocks lead from each state to acceptance.
  const ScaledNumber* counts(int64_t whole_blocks) const { return counts_.data() + whole_blocks * states(); }

  void count_paths(const Automaton& automaton, int64_t longest) {
    const int64_t most = longest / symbols_, row = slots_ * static_cast<int64_t>(sizeof(int16_t));
    const auto bytes_of_state = static_cast<int64_t>(sizeof(ScaledNumber)) + row;
    if (states() > most_bytes / bytes_of_state / (most + 1) || starts_ > most_bytes / row / (longest + 1)) {
      throw std::length_error("counting the paths of this automaton takes over 4 GiB");
    }
    counts_.resize(static_cast<size_t>((most + 1) * states()));
    thresholds_.resize(static_cast<size_t>(most * states() * slots_));
    for (int64_t i = 0; i < states(); ++i) counts_[static_cast<size_t>(i)] = ScaledNumber::of(automaton.accepts(live_[static_cast<size_t>(i)]), 0);
    for (int64_t blocks = 1; blocks <= most; ++blocks) {
      for (int64_t i = 0; i < states(); ++i) {
        int16_t* row_of_state = thresholds_.data() + ((blocks - 1) * states() + i) * slots_;
        counts_[static_cast<size_t>(blocks * states() + i)] = fill_thresholds(counts(blocks - 1), symbols_, i, row_of_state);
      }
    }
    keep_until_settled(most);
    first_thresholds_.resize(static_cast<size_t>((longest + 1) * starts_ * slots_));
    for (int64_t n = 1; n <= longest; ++n) {
      const int64_t after = blocks(n) - 1;
      for (int64_t i = 0; i < starts_; ++i) {
        fill_thresholds(counts(after), n - after * symbols_, i, first_thresholds_.data() + (n * starts_ + i) * slots_);
      }
    }
  }

  // Far from the end the chances of the paths hardly depend on how far it is: from some number of blocks on the known bits of all
  // thresholds stay the same, for many automata, and need to be there once. So they stay in cache.
  void keep_until_settled(int64_t most) {
    const int64_t row = states() * slots_;
    const auto same_as_last = [&](int64_t blocks) {
      return std::equal(thresholds_.end() - row, thresholds_.end(), thresholds_.begin() + (blocks - 1) * row);
    };
    settled_ = most;
    while (settled_ > 1 && same_as_last(settled_ - 1)) --settled_;
    thresholds_.resize(static_cast<size_t>(settled_ * row));
    thresholds_.shrink_to_fit();
  }

  // Calls visit(j, threshold) for j = 0, 1, ...: 2^63 times the probability that a path from `state` is one of the first j, where
  // `after` says how many ways there are to complete it from where it leads. Returns how many ways there are from `state`.
  template <class Visit>
  ScaledNumber visit_thresholds(const ScaledNumber* after, int64_t length, int64_t state, Visit&& visit) const {
    const std::vector<Path>& ways = paths(length, state);
    int64_t unit = std::numeric_limits<int64_t>::min();
    for (const Path& path : ways) {
      if (after[path.next].mantissa != 0) unit = std::max(unit, after[path.next].exponent);
    }
    long double total = 0, sum = 0;
    for (const Path& path : ways) total += after[path.next].over(unit);
    visit(int64_t{0}, uint64_t{0});
    for (size_t j = 0; j + 1 < ways.size(); ++j) {
      sum += after[ways[j].next].over(unit);
      visit(static_cast<int64_t>(j + 1), sum >= total ? certain : rounded(sum / total));
    }
    return ScaledNumber::of(total, unit);
  }

  // To 56 bits, so that what tends to a number like one half, as from the middle of something symmetric, comes to be it.
  static uint64_t rounded(long double probability) {
    constexpr uint64_t unit = uint64_t{1} << (63 - 56);
    return (static_cast<uint64_t>(probability * static_cast<long double>(certain)) + unit / 2) / unit * unit;
  }

  // For each slot one less than the known bits of its threshold, so that a draw has to be greater.
  ScaledNumber fill_thresholds(const ScaledNumber* after, int64_t length, int64_t state, int16_t* row) const {
    std::fill_n(row, slots_, std::numeric_limits<int16_t>::max());
    return visit_thresholds(after, length, state, [&](int64_t j, uint64_t threshold) {
      row[j] = static_cast<int16_t>(static_cast<int64_t>(threshold >> (63 - known_bits)) - 1);
    });
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

  // Up to seven more bytes are written.
  void put_only_path(int64_t state, int64_t n, uint8_t* x) const {
    const Slot* const only = table(longest_block);
    int64_t place = state * slots_;
    for (int64_t i = 0; i < n; i += longest_block) {
      std::memcpy(x + i, &only[place].symbols, sizeof only[place].symbols);
      place = only[place].place;
    }
  }

  template <bool avx2, bool few>
  LENGEN_INLINE void draw_one(int64_t state, int64_t n, Words& words, Scratch& scratch, uint8_t* x) const {
    const int64_t count = words_of_blocks(blocks(n));
    uint32_t* draws = at_least(scratch.draws, count);
    words.fill(draws, count);
    Walker walker = begin<avx2, few>(state, n, draws, x, words);
    walk_all<avx2, few>(&walker, 1);
  }

  template <bool avx2, bool few>
  LENGEN_INLINE void draw_side_by_side(const Placement* placements, int64_t rows, const Heads& heads, Scratch& scratch, uint8_t* x,
                                       int64_t stride) const {
    Words words[rows_at_once] = {heads.words(0), heads.words(1), heads.words(2), heads.words(3),
                                 heads.words(4), heads.words(5), heads.words(6), heads.words(7)};
    Walker walkers[rows_at_once];
    uint32_t* draws = at_least(scratch.draws, rows * stride);
    int64_t ranks[rows_at_once];  // by blocks, of as many by their number
    for (int64_t i = 0; i < rows; ++i) ranks[i] = blocks(placements[i].length) * rows_at_once + i;
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t n = placements[i].length;
      int64_t longer = 0;
      for (int64_t j = 0; j < rows; ++j) longer += ranks[j] > ranks[i];
      const uint32_t* drawn = take(words_of_blocks(blocks(n)), words[i], draws + i * stride);
      walkers[longer] = begin<avx2, few>(0, n, drawn, x + i * stride, words[i]);
    }
    for (int64_t i = 0; i < rows; i += side_by_side) walk_all<avx2, few>(walkers + i, std::min(side_by_side, rows - i));
  }

  // Draws the first block.
  template <bool avx2, bool few>
  LENGEN_INLINE Walker begin(int64_t state, int64_t n, const uint32_t* drawn, uint8_t* x, Words& words) const {
    const int64_t slots = few ? slots_at_once : slots_, missing = blocks(n) - 1, first = n - missing * symbols_;
    const Draws draws(drawn, missing + 1);
    if (n == 0) return {0, 0, x, draws, &words};
    const int16_t* row = first_thresholds_.data() + (n * starts_ + state) * slots;
    const Slot& slot = choose<avx2, few>(row, table(first) + state * slots, draws.before_end(missing + 1), missing, first, words);
    std::memcpy(x, &slot.symbols, sizeof slot.symbols);
    return {missing, slot.place, x + first, draws, &words};
  }

  // The walker that misses most first. They end together, so that as many blocks are missing.
  template <bool avx2, bool few>
  LENGEN_INLINE void walk_all(Walker* walkers, int64_t count) const {
    int64_t missing = walkers[0].missing;
    for (int64_t active = 1; active <= count; ++active) {
      const int64_t end = active < count ? walkers[active].missing : 0;
      switch (active) {
        case 1: walk<avx2, few, 1>(walkers, missing, end); break;
        case 2: walk<avx2, few, 2>(walkers, missing, end); break;
        case 3: walk<avx2, few, 3>(walkers, missing, end); break;
        default: walk<avx2, few, 4>(walkers, missing, end);
      }
      missing = end;
    }
  }

  // The first `active` of the walkers, from where `missing` blocks are missing to where `end` are.
  template <bool avx2, bool few, int64_t active>
  LENGEN_INLINE void walk(Walker* walkers, int64_t missing, int64_t end) const {
    const Slot* const slots = table(symbols_);
    const int64_t symbols = symbols_, row = states() * (few ? slots_at_once : slots_);
    Draws draws[active];
    uint8_t* x[active];
    int64_t places[active];
    for (int64_t i = 0; i < active; ++i) {
      draws[i] = walkers[i].draws;
      x[i] = walkers[i].x;
      places[i] = walkers[i].place;
    }
    const auto step_to = [&](int64_t until, int64_t down) __attribute__((always_inline)) {
      if (missing <= until) return;
      const int16_t* thresholds = thresholds_.data() + (std::min(missing, settled_) - 1) * row;
      for (; missing > until; --missing, thresholds -= down) {
#pragma GCC unroll 4
        for (int64_t i = 0; i < active; ++i) {
          const uint16_t draw = draws[i].before_end(missing);
          const Slot& slot =
              choose<avx2, few>(thresholds + places[i], slots + places[i], draw, missing - 1, symbols, *walkers[i].words);
          std::memcpy(x[i], &slot.symbols, sizeof slot.symbols);
          x[i] += symbols;
          places[i] = slot.place;
        }
      }
    };
    step_to(std::max(end, settled_), 0);
    step_to(end, row);
    for (int64_t i = 0; i < active; ++i) {
      walkers[i].x = x[i];
      walkers[i].place = places[i];
    }
  }

  // The slot that a draw chooses of those from `first` on, whose thresholds are in `row`. A draw at the border of a path has to be
  // drawn further. (Addresses are made of twice the number below, because that is there one instruction earlier.)
  template <bool avx2, bool few>
  LENGEN_INLINE const Slot& choose(const int16_t* row, const Slot* first, uint16_t draw, int64_t blocks_after, int64_t length,
                                   Words& words) const {
    const auto known = static_cast<int16_t>(draw >> (16 - known_bits));
    int64_t twice = twice_below<avx2>(row, known);
    for (int64_t i = slots_at_once; !few && i < slots_; i += slots_at_once) twice += twice_below<avx2>(row + i, known);
    int16_t border;
    std::memcpy(&border, reinterpret_cast<const char*>(row - 1) + twice, sizeof border);
    if (border == known - 1) [[unlikely]] return first[draw_further(known, blocks_after, length, first, words) - 1];
    static_assert(sizeof(Slot) == 16);
    return *reinterpret_cast<const Slot*>(reinterpret_cast<const char*>(first - 1) + 8 * twice);
  }

  LENGEN_RARE int64_t draw_further(int16_t known, int64_t blocks_after, int64_t length, const Slot* first, Words& words) const {
    const uint64_t whole = static_cast<uint64_t>(known) << (63 - known_bits) | words.next_pair() >> (1 + known_bits);
    int64_t below = 0;
    visit_thresholds(counts(blocks_after), length, (first - table(length)) / slots_, [&](int64_t, uint64_t threshold) { below += threshold <= whole; });
    return below;
  }

  std::vector<int64_t> live_, numbers_;
  int64_t symbols_ = 1;     // of a block
  uint64_t reciprocal_ = 0;  // 2^32 / symbols_, upwards: exact for lengths up to 2^20
  int64_t most_paths_ = 1;  // of a block, from any state
  int64_t slots_ = 1;       // for them
  int64_t starts_ = 1;      // states that a walk may begin in
  std::vector<std::vector<std::vector<Path>>> paths_;  // by the number of symbols, from 1 on, and by the state
  std::vector<Slot> table_;                            // the same as [symbols][states][slots]
  std::vector<ScaledNumber> counts_;                   // [whole blocks][states]
  int64_t settled_ = 0;                                // whole blocks from which on the thresholds are those of so many
  std::vector<int16_t> thresholds_;                    // [whole blocks, from 1 to settled_][states][slots]
  std::vector<int16_t> first_thresholds_;              // [n][starts][slots], of first blocks
};

}  // namespace lengen
