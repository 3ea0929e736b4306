// Token and position embedding of packed sequences in fp32, and its gradients.
#pragma once

#include <algorithm>
#include <cstdint>

#include "loops.hpp"
#include "workers.hpp"

namespace lengen::cpu {

struct Embedding {
  int64_t sequences, rows, width;
  const int64_t* tokens;   // [rows]
  const int64_t* bounds;   // [sequences + 1]
  const int64_t* offsets;  // [sequences] position of each first row, or null: 0
  int64_t vocabulary, context;  // rows of the tables; context 0: no positions

  int64_t first_position(int64_t sequence) const { return offsets == nullptr ? 0 : offsets[sequence]; }

  // Whether the bounds are those of the rows, and every token and position has a vector: then nothing else is touched.
  bool fits() const {
    if (bounds[0] != 0 || bounds[sequences] != rows) return false;
    for (int64_t s = 0; s < sequences; ++s) {
      const int64_t count = bounds[s + 1] - bounds[s], position = first_position(s);
      if (count < 0) return false;
      if (context != 0 && (position < 0 || count > context || position > context - count)) return false;
    }
    bool found = true;
    for (int64_t row = 0; row < rows; ++row) found &= tokens[row] >= 0 && tokens[row] < vocabulary;
    return found;
  }
};

inline constexpr int64_t sequences_at_once = 16;
inline constexpr int64_t columns_at_once = 32;

// out[rows][width] = vector of the token + vector of the position. Does nothing and returns false unless the problem fits.
inline bool embed(const Embedding& problem, const float* token_table, const float* position_table, float* out, int threads) {
  if (!problem.fits()) return false;
  const int64_t width = problem.width;
  share_among_threads((problem.sequences + sequences_at_once - 1) / sequences_at_once, threads, [&](int64_t i) {
    const int64_t end = std::min(problem.sequences, (i + 1) * sequences_at_once);
    for (int64_t s = i * sequences_at_once; s < end; ++s) {
      int64_t position = problem.first_position(s);
      for (int64_t row = problem.bounds[s]; row < problem.bounds[s + 1]; ++row, ++position) {
        std::copy_n(token_table + problem.tokens[row] * width, width, out + row * width);
        if (problem.context != 0) add_to(out + row * width, position_table + position * width, width);
      }
    }
  });
  return true;
}

// Adds the gradients of the rows, in their order, to the gradients of the tables, which are all zero before.
inline bool embed_backward(const Embedding& problem, const float* gradient, float* token_table, float* position_table,
                           int threads) {
  if (!problem.fits()) return false;
  const int64_t width = problem.width;
  share_among_threads((width + columns_at_once - 1) / columns_at_once, threads, [&](int64_t i) {
    const int64_t column = i * columns_at_once, columns = std::min(columns_at_once, width - column);
    for (int64_t s = 0; s < problem.sequences; ++s) {
      int64_t position = problem.first_position(s);
      for (int64_t row = problem.bounds[s]; row < problem.bounds[s + 1]; ++row, ++position) {
        const float* const from = gradient + row * width + column;
        add_to(token_table + problem.tokens[row] * width + column, from, columns);
        if (problem.context != 0) add_to(position_table + position * width + column, from, columns);
      }
    }
  });
  return true;
}

}  // namespace lengen::cpu
