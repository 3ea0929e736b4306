// Strings made of a few long pieces: a repeated word, ordered blocks, runs, nested brackets. Distributions of arXiv 2410.02140.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "../tasks/bits.hpp"
#include "../tasks/letters.hpp"
#include "automaton.hpp"

namespace lengen {

// One word over and over, cut off at length n.
class RepeatedWord {
 public:
  explicit RepeatedWord(const std::vector<uint8_t>& word) {
    if (word.empty()) throw std::invalid_argument("the repeated word is empty");
    const auto period = static_cast<int64_t>(word.size());
    step_ = period * std::max<int64_t>(1, at_once / period);
    while (static_cast<int64_t>(pattern_.size()) < step_ + at_once) pattern_.insert(pattern_.end(), word.begin(), word.end());
  }

  int64_t usual_words(int64_t) const { return 0; }

  // Up to 31 more bytes are written.
  void draw(int64_t n, Words&, Scratch&, uint8_t* x) const {
    if (step_ <= at_once) {
      for (int64_t i = 0; i < n; i += step_) std::memcpy(x + i, pattern_.data(), at_once);
    } else {
      for (int64_t i = 0; i < n; i += step_) std::memcpy(x + i, pattern_.data(), static_cast<size_t>(std::min(step_, n - i)));
    }
  }

 private:
  static constexpr int64_t at_once = 32;

  int64_t step_;
  std::vector<uint8_t> pattern_;
};

// Blocks of symbols in a fixed order: all lengths but the last uniform in what is left by those before and the least of those
// behind; the last takes the rest. The symbols of a block are independent and uniform.
class Blocks {
 public:
  struct Block {
    int64_t least, most;
    uint8_t first_symbol, symbols;
  };

  explicit Blocks(std::vector<Block> blocks) : blocks_(std::move(blocks)) {
    for (const Block& block : blocks_) {
      least_ += block.least;
      letters_.emplace_back(block.symbols > 1 ? std::make_shared<Letters>(block.symbols) : nullptr);
    }
  }

  int64_t usual_words(int64_t n) const {
    int64_t found = 0, most = 0;
    for (const auto& letters : letters_) {
      found += letters == nullptr ? 1 : 1 + letters->usual_words(1);
      most = std::max(most, letters == nullptr ? 0 : letters->usual_words(n));
    }
    return found + most;
  }

  void draw(int64_t n, Words& words, Scratch& scratch, uint8_t* x) const {
    int64_t spare = n - least_;
    for (size_t i = 0; i < blocks_.size(); ++i) {
      const Block& block = blocks_[i];
      const int64_t most = std::min(block.most, block.least + spare);
      const bool is_last = i + 1 == blocks_.size();
      const int64_t length = is_last ? block.least + spare
                             : most == block.least
                                 ? most
                                 : block.least + words.below(static_cast<uint32_t>(most - block.least + 1));
      spare -= length - block.least;
      put(block, letters_[i].get(), length, words, scratch, x);
      x += length;
    }
  }

 private:
  LENGEN_INLINE static void put(const Block& block, const Letters* letters, int64_t length, Words& words, Scratch& scratch,
                                uint8_t* x) {
    if (letters == nullptr || length == 0) return fill_bytes(block.first_symbol, length, x);
    letters->bytes(letters->draw(length, words, scratch), length, x);
    if (block.first_symbol == 0) return;
    for (int64_t i = 0; i < length; ++i) x[i] = static_cast<uint8_t>(x[i] + block.first_symbol);
  }

  std::vector<Block> blocks_;
  std::vector<std::shared_ptr<const Letters>> letters_;  // of each block, or nothing if it has one symbol
  int64_t least_ = 0;
};

// Runs: a fair coin for one of two symbols, then a length uniform among those in what is left after which the string so far is
// in the language; where one symbol has no such length it is the other's turn. Every string that the language's automaton
// accepts after some run can be drawn; lengths that keep it accepting must be a, a + d, a + 2d, ... for each state and symbol.
class Runs {
 public:
  explicit Runs(const Automaton& automaton) {
    if (automaton.symbols != 2) throw std::invalid_argument("runs need two symbols");
    for (int64_t state = 0; state < automaton.states(); ++state) {
      for (int64_t symbol = 0; symbol < 2; ++symbol) orbits_.push_back(orbit_of(automaton, state, symbol));
    }
  }

  int64_t usual_words(int64_t n) const { return 2 + static_cast<int64_t>(std::bit_width(static_cast<uint64_t>(n))); }

  // Up to 31 more bytes are written.
  template <bool>
  void draw(int64_t n, Words& words, Scratch&, uint8_t* x) const {
    for (Walk walk{n, 0, x}; walk.left > 0;) step(walk, words);
  }

  // Several strings, a run of each in turn: a run waits for the one before it in its string.
  template <bool avx2>
  void draw_rows(const Placement* placements, int64_t rows, const Heads& heads, Scratch& scratch, uint8_t* x, int64_t stride) const {
    if (rows < rows_at_once) {
      for (int64_t i = 0; i < rows; ++i) {
        Words words = heads.words(i);
        draw<avx2>(placements[i].length, words, scratch, x + i * stride);
      }
      return;
    }
    Words words[rows_at_once] = {heads.words(0), heads.words(1), heads.words(2), heads.words(3),
                                 heads.words(4), heads.words(5), heads.words(6), heads.words(7)};
    Walk walks[rows_at_once];
    int64_t going_on[rows_at_once], count = 0;  // which strings are not at their end
    for (int64_t i = 0; i < rows_at_once; ++i) {
      walks[i] = {placements[i].length, 0, x + i * stride};
      going_on[count] = i;
      count += walks[i].left > 0;
    }
    while (count > 0) {
      int64_t kept = 0;
      for (int64_t i = 0; i < count; ++i) {
        const int64_t which = going_on[i];
        step(walks[which], words[which]);
        going_on[kept] = which;
        kept += walks[which].left > 0;
      }
      count = kept;
    }
  }

 private:
  static constexpr int64_t listed_lengths = 64;  // and more if the states do not come again before

  // A string being drawn: how much of it is left, the state that it is in, and where it goes on.
  struct Walk {
    int64_t left, state;
    uint8_t* x;
  };

  // The states after 0, 1, 2, ... times one symbol, the last `cycle` of which come again and again.
  struct Orbit {
    int64_t first = int64_t{1} << 40, stride = 1, cycle = 1;
    uint64_t reciprocal = 0;  // 2^32 / stride, upwards: exact for lengths up to 2^20
    std::vector<int32_t> states;

    int64_t after(int64_t length) const {
      const auto last = static_cast<int64_t>(states.size()) - 1;
      if (length > last) [[unlikely]] length -= (length - last + cycle - 1) / cycle * cycle;
      return states[static_cast<size_t>(length)];
    }
  };

  // Draws a run by one word: the highest bit is the coin.
  LENGEN_INLINE void step(Walk& walk, Words& words) const {
    const uint32_t word = words.next();
    int64_t symbol = word >> 31;
    symbol ^= orbits_[orbit(walk.state, symbol)].first > walk.left;
    const Orbit& chosen = orbits_[orbit(walk.state, symbol)];
    const auto spare = static_cast<uint64_t>(walk.left - chosen.first);
    const auto choices = static_cast<uint32_t>(spare * chosen.reciprocal >> 32) + 1;
    const int64_t length = chosen.first + chosen.stride * words.below_by_low_bits(word, choices);
    fill_bytes(static_cast<uint8_t>(symbol), length, walk.x);
    walk.state = chosen.after(length);
    walk.x += length;
    walk.left -= length;
  }

  static size_t orbit(int64_t state, int64_t symbol) { return static_cast<size_t>(2 * state + symbol); }

  static Orbit orbit_of(const Automaton& automaton, int64_t state, int64_t symbol) {
    Orbit found;
    auto at = static_cast<int32_t>(state);
    auto seen = found.states.end();
    while ((seen = std::find(found.states.begin(), found.states.end(), at)) == found.states.end()) {
      found.states.push_back(at);
      at = automaton.next(at, symbol);
    }
    found.cycle = found.states.end() - seen;
    while (static_cast<int64_t>(found.states.size()) <= listed_lengths) {
      found.states.push_back(found.states[found.states.size() - static_cast<size_t>(found.cycle)]);
    }
    std::vector<int64_t> accepted;
    for (int64_t length = 1; length < static_cast<int64_t>(found.states.size()); ++length) {
      if (automaton.accepts(found.after(length))) accepted.push_back(length);
    }
    if (!accepted.empty()) found.first = accepted[0];
    if (accepted.size() > 1) found.stride = accepted[1] - accepted[0];
    for (size_t i = 1; i < accepted.size(); ++i) {
      if (accepted[i] - accepted[i - 1] != found.stride) throw std::invalid_argument("the accepted runs have no fixed stride");
    }
    found.reciprocal = ((uint64_t{1} << 32) + static_cast<uint64_t>(found.stride) - 1) / static_cast<uint64_t>(found.stride);
    return found;
  }

  std::vector<Orbit> orbits_;
};

// Nested brackets, 0 opens and 1 closes: at each level bracketed blocks one behind the other until the length is used up, each
// with an inside of about 0.75 of the pairs that are left, give or take a tenth of that (a binomial number, near normal); in the
// innermost level nothing is inside.
class NestedBlocks {
 public:
  explicit NestedBlocks(int64_t depth) : depth_(depth) {
    if (depth < 1 || depth > most_depth) throw std::invalid_argument("the depth must be in 1..64");
  }

  int64_t usual_words(int64_t n) const { return n / 4 + 4; }

  void draw(int64_t n, Words& words, Scratch&, uint8_t* x) const {
    std::array<int64_t, most_depth + 1> left;  // pairs, by how many levels may open
    int64_t level = depth_;
    left[static_cast<size_t>(level)] = n / 2;
    for (;;) {
      int64_t& pairs = left[static_cast<size_t>(level)];
      if (level == 1) x = put_pairs(std::exchange(pairs, 0), x);
      if (pairs > 0) {
        const int64_t inside = draw_inside(pairs, words);
        pairs -= inside + 1;
        *x++ = 0;
        left[static_cast<size_t>(--level)] = inside;
      } else {
        if (level == depth_) return;
        ++level;
        *x++ = 1;
      }
    }
  }

 private:
  static constexpr int64_t most_depth = 64;

  // The ones of 32 fair bits deviate from 16 by 2.83, and 265 of 10,000 times that is a tenth of 0.75.
  static int64_t draw_inside(int64_t pairs, Words& words) {
    if (pairs == 1) return 0;
    const int64_t share = 7500 + 265 * (ones_in_word(words.next()) - 16);
    return std::min(pairs * share / 10000, pairs - 1);
  }

  // Up to six more bytes are written.
  static uint8_t* put_pairs(int64_t pairs, uint8_t* x) {
    const uint64_t four = 0x0100010001000100u;
    for (int64_t i = 0; i < pairs; i += 4) std::memcpy(x + 2 * i, &four, sizeof four);
    return x + 2 * pairs;
  }

  int64_t depth_;
};

}  // namespace lengen
