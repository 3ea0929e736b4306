// Token and position embedding of packed sequences in fp32, and its gradients.
#pragma once

#include <algorithm>
#include <cstdint>

#include "loops.hpp"
#include "workers.hpp"

namespace lengen::cpu {

struct Embedding {
  int64_t sequences, rows, width;
  const int32_t* narrow_tokens;  // [rows], or null: they are wide
  const int64_t* wide_tokens;
  const int64_t* bounds;   // [sequences + 1]
  const int64_t* offsets;  // [sequences] position of each first row, or null: 0
  int64_t vocabulary, context;  // rows of the tables; context 0: no positions

  int64_t token(int64_t row) const { return narrow_tokens != nullptr ? narrow_tokens[row] : wide_tokens[row]; }
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
    for (int64_t row = 0; row < rows; ++row) found &= token(row) >= 0 && token(row) < vocabulary;
    return found;
  }
};

inline constexpr int64_t sequences_at_once = 16;
inline constexpr int64_t columns_at_once = 32;

// out[row] = vector of the token + vector of the position, for the rows of sequences begin..end-1.
template <Path path>
LENGEN_INLINE void embed_rows_body(const Embedding& problem, int64_t begin, int64_t end, const float* token_table,
                                   const float* position_table, float* out) {
  const int64_t width = problem.width, whole = width / lanes * lanes;
  for (int64_t s = begin; s < end; ++s) {
    int64_t position = problem.first_position(s);
    for (int64_t row = problem.bounds[s]; row < problem.bounds[s + 1]; ++row, ++position) {
      const float* const token = token_table + problem.token(row) * width;
      float* const to = out + row * width;
      if (problem.context == 0) {
        std::copy_n(token, width, to);
        continue;
      }
      const float* const place = position_table + position * width;
      for_each_vector<path>(0, whole, [&](auto vector, int64_t i) LENGEN_INLINE_LAMBDA {
        using V = decltype(vector);
        store(to + i, load<V>(token + i) + load<V>(place + i));
      });
      for (int64_t i = whole; i < width; ++i) to[i] = token[i] + place[i];
    }
  }
}

LENGEN_LOOP(embed_rows,
            (const Embedding& problem, int64_t begin, int64_t end, const float* token_table, const float* position_table, float* out),
            (problem, begin, end, token_table, position_table, out))

// out[rows][width]. Does nothing and returns false unless the problem fits.
inline bool embed(const Embedding& problem, const float* token_table, const float* position_table, float* out, int threads) {
  if (!problem.fits()) return false;
  share_among_threads((problem.sequences + sequences_at_once - 1) / sequences_at_once, threads, [&](int64_t i) {
    const int64_t begin = i * sequences_at_once;
    embed_rows(problem, begin, std::min(problem.sequences, begin + sequences_at_once), token_table, position_table, out);
  });
  return true;
}

// Adds some columns of the gradients of the rows, in their order, to the gradients of the tables.
template <Path path>
LENGEN_INLINE void add_columns_body(const Embedding& problem, int64_t column, int64_t columns, const float* gradient,
                                    float* token_table, float* position_table) {
  const int64_t width = problem.width, whole = columns / lanes * lanes;
  for (int64_t s = 0; s < problem.sequences; ++s) {
    int64_t position = problem.first_position(s);
    for (int64_t row = problem.bounds[s]; row < problem.bounds[s + 1]; ++row, ++position) {
      const float* const from = gradient + row * width + column;
      for (int both = 0; both < (problem.context == 0 ? 1 : 2); ++both) {
        float* const to = (both == 0 ? token_table + problem.token(row) * width : position_table + position * width) + column;
        for (int64_t i = 0; i < whole; i += lanes) store(to + i, load(to + i) + load(from + i));
        for (int64_t i = whole; i < columns; ++i) to[i] += from[i];
      }
    }
  }
}

LENGEN_LOOP(add_columns,
            (const Embedding& problem, int64_t column, int64_t columns, const float* gradient, float* token_table,
             float* position_table),
            (problem, column, columns, gradient, token_table, position_table))

// Adds the gradients of the rows to the gradients of the tables, which are all zero before.
inline bool embed_backward(const Embedding& problem, const float* gradient, float* token_table, float* position_table,
                           int threads) {
  if (!problem.fits()) return false;
  share_among_threads((problem.width + columns_at_once - 1) / columns_at_once, threads, [&](int64_t i) {
    const int64_t column = i * columns_at_once;
    add_columns(problem, column, std::min(columns_at_once, problem.width - column), gradient, token_table, position_table);
  });
  return true;
}

}  // namespace lengen::cpu
