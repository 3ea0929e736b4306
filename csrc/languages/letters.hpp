// Independent symbols from a range.
#pragma once

#include <algorithm>

#include "../random.hpp"
#include "../sampler.hpp"

namespace lengen {

// Words that `n` letters take: eight letters to a block.
inline int64_t words_for_letters(int64_t n) { return (n + 7) / 8 * words_per_block; }

// x[i] uniform in 0..bound-1, i in 0..n-1, bound < 256: sixteen random bits a letter; the few that would make letters uneven are
// drawn again, from left to right. Up to seven more bytes are written.
inline void draw_letters(int64_t n, uint16_t bound, Words& words, uint8_t* x, Scratch& scratch) {
  constexpr int64_t at_once = 256;
  const int64_t size = words_for_letters(n);
  uint32_t* draws = at_least(scratch.draws, size);
  words.fill(draws, size);
  const auto threshold = static_cast<uint16_t>(65536u % bound);
  const auto* halves = reinterpret_cast<const uint16_t*>(draws);
  for (int64_t first = 0; first < n; first += at_once) {
    const int64_t count = std::min(at_once, n - first);
    bool rejected = false;
    scale_draws(halves + first, count, bound, threshold, x + first, rejected);
    for (int64_t i = first; rejected && i < first + count; ++i) {
      if (static_cast<uint16_t>(halves[i] * bound) < threshold) x[i] = static_cast<uint8_t>(words.below(bound));
    }
  }
}

}  // namespace lengen
