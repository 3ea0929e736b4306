// Distinct symbols in random order.
#pragma once

#include <algorithm>
#include <utility>

#include "../random.hpp"
#include "../sampler.hpp"

namespace lengen {

// Puts the `count` values of `order` in random order, all arrangements equally likely; with steps < count only the first
// `steps` places, each subset and arrangement equally likely (Fisher-Yates from the front).
template <class T>
void shuffle_front(T* order, int64_t steps, int64_t count, Words& words) {
  draw_shuffle_indices(steps, count, words, [order](int64_t i, int64_t index) { std::swap(order[i], order[i + index]); });
}

// The identity order of `symbols` symbols, kept in the scratch memory.
inline uint32_t* identity_of(int64_t symbols, Scratch& scratch) {
  uint32_t* order = at_least(scratch.order, symbols);
  if (scratch.identity < symbols) identity_order(symbols, order);
  scratch.identity = std::max(scratch.identity, symbols);
  return order;
}

// drawn[n]: distinct values of 0..symbols-1 in random order, all arrangements equally likely. `drawn` is not scratch.order.
inline void draw_distinct(int64_t n, int64_t symbols, Words& words, Scratch& scratch, uint32_t* drawn) {
  uint32_t* order = identity_of(symbols, scratch);
  uint32_t* moved = at_least(scratch.moved, n);
  draw_shuffle_indices(n, symbols, words, [&](int64_t i, int64_t index) {
    const int64_t j = i + index;
    drawn[i] = order[j];
    order[j] = order[i];
    moved[i] = static_cast<uint32_t>(j);
  });
  for (int64_t i = 0; i < n; ++i) order[moved[i]] = moved[i];
}

}  // namespace lengen
