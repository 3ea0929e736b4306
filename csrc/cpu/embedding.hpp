// Token and position embedding of packed sequences in fp32, and its gradients.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "loops.hpp"
#include "workers.hpp"

namespace lengen::cpu {

struct Embedding {
  int64_t sequences, width;
  const int64_t* tokens;   // [rows]
  const int64_t* bounds;   // [sequences + 1]
  const int64_t* offsets;  // [sequences] position of each first row, or null: 0
  int64_t vocabulary, context;  // rows of the tables; context 0: no positions
};

inline constexpr int64_t sequences_at_once = 16;
inline constexpr int64_t columns_at_once = 32;

inline int64_t first_position(const Embedding& problem, int64_t sequence) {
  return problem.offsets == nullptr ? 0 : problem.offsets[sequence];
}

// out[rows][width] = vector of the token + vector of the position. Returns false, with out unfinished, if a token or a position
// has no vector.
inline bool embed(const Embedding& problem, const float* token_table, const float* position_table, float* out, int threads) {
  std::atomic<bool> found{true};
  const int64_t width = problem.width;
  const auto embed_sequence = [&](int64_t s) {
    int64_t position = first_position(problem, s);
    const int64_t begin = problem.bounds[s], end = problem.bounds[s + 1];
    if (problem.context != 0 && (position < 0 || position + (end - begin) > problem.context)) return false;
    for (int64_t row = begin; row < end; ++row, ++position) {
      const int64_t token = problem.tokens[row];
      if (token < 0 || token >= problem.vocabulary) return false;
      std::copy_n(token_table + token * width, width, out + row * width);
      if (problem.context != 0) add_to(out + row * width, position_table + position * width, width);
    }
    return true;
  };
  share_among_threads((problem.sequences + sequences_at_once - 1) / sequences_at_once, threads, [&](int64_t i) {
    const int64_t end = std::min(problem.sequences, (i + 1) * sequences_at_once);
    for (int64_t s = i * sequences_at_once; s < end; ++s) {
      if (!embed_sequence(s)) found.store(false, std::memory_order_relaxed);
    }
  });
  return found;
}

// Adds the gradients of the rows, in their order, to the gradients of the tables, which are all zero before.
inline void embed_backward(const Embedding& problem, const float* gradient, float* token_table, float* position_table, int threads) {
  const int64_t width = problem.width;
  share_among_threads((width + columns_at_once - 1) / columns_at_once, threads, [&](int64_t i) {
    const int64_t column = i * columns_at_once, columns = std::min(columns_at_once, width - column);
    for (int64_t s = 0; s < problem.sequences; ++s) {
      int64_t position = first_position(problem, s);
      for (int64_t row = problem.bounds[s]; row < problem.bounds[s + 1]; ++row, ++position) {
        const float* const from = gradient + row * width + column;
        add_to(token_table + problem.tokens[row] * width + column, from, columns);
        if (problem.context != 0) add_to(position_table + position * width + column, from, columns);
      }
    }
  });
}

}  // namespace lengen::cpu
