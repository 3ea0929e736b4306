// What the algorithmic tasks share: token ids and the frame `BOS x SEP y EOS`.
#pragma once

#include <cstdint>

#include "../batch.hpp"

namespace lengen {

// Ordinary symbols 0..symbols-1, then BOS, SEP, EOS.
struct Alphabet {
  int64_t symbols;

  int64_t bos() const { return symbols; }
  int64_t sep() const { return symbols + 1; }
  int64_t eos() const { return symbols + 2; }
};

// `BOS x SEP y EOS` with |x| = n and |y| = answer; `y EOS` is scored.
inline RowShape question_shape(int64_t n, int64_t answer) { return {n + answer + 3, answer + 1}; }

inline int64_t* question_of(const RowView& row) { return row.tokens + 1; }
inline int64_t* answer_of(const RowView& row, int64_t n) { return row.tokens + n + 2; }

// Writes the special tokens around x and y, which the caller has written, and scores `y EOS`; returns the size of the row.
inline RowShape frame_question(const Alphabet& alphabet, int64_t n, int64_t answer, const RowView& row) {
  row.tokens[0] = alphabet.bos();
  row.tokens[n + 1] = alphabet.sep();
  row.tokens[n + answer + 2] = alphabet.eos();
  row.score(n + 1, answer + 1);
  return question_shape(n, answer);
}

}  // namespace lengen
