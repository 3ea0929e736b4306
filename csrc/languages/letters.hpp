// Independent symbols from a range.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#include "../random.hpp"
#include "../sampler.hpp"

namespace lengen {

// For each byte, its bits as bytes, lowest first.
inline constexpr auto bytes_of_bits = [] {
  std::array<uint64_t, 256> table{};
  for (uint64_t byte = 0; byte < 256; ++byte) {
    for (uint64_t i = 0; i < 8; ++i) table[byte] |= (byte >> i & 1) << (8 * i);
  }
  return table;
}();

// Words that `n` letters take: of two letters a bit each, of more eight letters to a block.
inline int64_t words_for_letters(int64_t n, int64_t bound) {
  return bound == 2 ? (n + 31) / 32 : (n + 7) / 8 * words_per_block;
}

// x[i] uniform in 0..bound-1, i in 0..n-1, bound < 256: one random bit a letter of two, lowest first, or sixteen of more; the few
// that would make letters uneven are drawn again, from left to right. Up to seven more bytes are written.
inline void draw_letters(int64_t n, uint16_t bound, Words& words, uint8_t* x, Scratch& scratch) {
  constexpr int64_t at_once = 256;
  const int64_t size = words_for_letters(n, bound);
  uint32_t* draws = at_least(scratch.draws, size);
  words.fill(draws, size);
  if (bound == 2) {
    for (int64_t i = 0; i < n; i += 8) std::memcpy(x + i, &bytes_of_bits[draws[i / 32] >> (i % 32) & 255], sizeof(uint64_t));
    return;
  }
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
