// The hard distribution of counting languages: words that change no counter, between long climbs and falls.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <utility>
#include <vector>

#include "../random.hpp"
#include "../sampler.hpp"
#include "hard_walk.hpp"

namespace lengen {

// What the symbols of a counting language with one state do.
struct CountingSymbols {
  struct Rise {
    uint8_t symbol;
    int64_t by;
  };
  struct Counter {
    std::vector<Rise> rises;
    std::vector<uint8_t> falls;  // each by one
  };

  std::vector<Counter> counters;
  std::vector<std::vector<uint8_t>> neutral;  // words that change no counter, the shortest first
  bool ends_with_fall = false;                // behind everything else, of the first counter
};

// One word that changes no counter, over and over; at an event, one counter climbs or falls, by a number of symbols uniform up to
// what the rest can undo, or down to zero. At the end all counters fall to zero, the first one first.
class HardCounting {
 public:
  explicit HardCounting(CountingSymbols symbols) : symbols_(std::move(symbols)) {
    if (symbols_.counters.empty() || symbols_.counters.size() > 3 || symbols_.neutral.empty()) {
      throw std::invalid_argument("hard counting takes one to three counters and a neutral word");
    }
    for (const auto& counter : symbols_.counters) {
      if (counter.rises.empty() || counter.falls.empty()) throw std::invalid_argument("a counter must rise and fall");
    }
  }

  int64_t usual_words(int64_t) const { return 24; }

  void draw(int64_t n, Words& words, Scratch&, uint8_t* x) const {
    const int64_t whole = n - symbols_.ends_with_fall;
    Walk walk{x, whole};
    Events events(whole, words);
    const std::vector<uint8_t>* word = &draw_one(symbols_.neutral, words);
    while (walk.spare() >= size_of(symbols_.neutral[0])) {
      if (events.is_due(whole - walk.left)) {
        move(words, walk);
        events.happen(words);
        word = &draw_one(symbols_.neutral, words);
      } else {
        walk.put(size_of(*word) <= walk.spare() ? *word : symbols_.neutral[0]);
      }
    }
    for (size_t i = 0; i < symbols_.counters.size(); ++i) walk.fall(i, walk.heights[i], draw_one(symbols_.counters[i].falls, words));
    if (symbols_.ends_with_fall) *walk.x = draw_one(symbols_.counters[0].falls, words);
  }

 private:
  struct Walk {
    uint8_t* x;
    int64_t left, total = 0;
    std::array<int64_t, 3> heights{};

    // Symbols that are not needed to fall to zero.
    int64_t spare() const { return left - total; }

    void put(const std::vector<uint8_t>& word) {
      std::memcpy(x, word.data(), word.size());
      x += word.size();
      left -= size_of(word);
    }
    void rise(size_t counter, int64_t count, const CountingSymbols::Rise& rise) {
      repeat(rise.symbol, count);
      change(counter, count * rise.by);
    }
    void fall(size_t counter, int64_t count, uint8_t symbol) {
      repeat(symbol, count);
      change(counter, -count);
    }

   private:
    void repeat(uint8_t symbol, int64_t count) {
      std::memset(x, symbol, static_cast<size_t>(count));
      x += count;
      left -= count;
    }
    void change(size_t counter, int64_t by) {
      heights[counter] += by;
      total += by;
    }
  };

  static int64_t size_of(const std::vector<uint8_t>& word) { return static_cast<int64_t>(word.size()); }

  // One of several, uniform; a single one takes no random word.
  template <class T>
  static const T& draw_one(const std::vector<T>& several, Words& words) {
    return several.size() == 1 ? several[0] : several[words.below(static_cast<uint32_t>(several.size()))];
  }

  void move(Words& words, Walk& walk) const {
    const size_t which = symbols_.counters.size() == 1 ? 0 : words.below(static_cast<uint32_t>(symbols_.counters.size()));
    const CountingSymbols::Counter& counter = symbols_.counters[which];
    const bool climbs = words.below(2) == 1;
    if (climbs) {
      const CountingSymbols::Rise& rise = draw_one(counter.rises, words);
      walk.rise(which, words.below(static_cast<uint32_t>(walk.spare() / (1 + rise.by) + 1)), rise);
    } else {
      const uint8_t symbol = draw_one(counter.falls, words);
      walk.fall(which, words.below(static_cast<uint32_t>(walk.heights[which] + 1)), symbol);
    }
  }

  CountingSymbols symbols_;
};

}  // namespace lengen
