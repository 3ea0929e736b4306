// What the algorithmic tasks share: token ids and the frame `BOS x SEP y EOS`.
#pragma once

#include <cstdint>

#include "../batch.hpp"

namespace lengen {

// Ordinary symbols 0..symbols-1, then BOS, SEP, EOS.
struct Alphabet {
  int64_t symbols;

  int32_t bos() const { return static_cast<int32_t>(symbols); }
  int32_t sep() const { return static_cast<int32_t>(symbols + 1); }
  int32_t eos() const { return static_cast<int32_t>(symbols + 2); }
};

// `BOS x SEP y EOS` with |x| = n and |y| = answer; `y EOS` is scored.
inline RowShape question_shape(int64_t n, int64_t answer) { return {n + answer + 3, answer + 1}; }

inline int32_t* question_of(const RowView& row) { return row.tokens + 1; }

// Writes `y EOS` behind `first` tokens of the row, and scores it; put(tokens, targets) writes the `answer` tokens of y to both.
template <class Put>
LENGEN_INLINE void put_answer(int64_t first, int64_t answer, int32_t eos, const RowView& row, Put&& put) {
  put(row.tokens + first, row.targets);
  row.targets[answer] = row.tokens[first + answer] = eos;
  row.score(first - 1, answer + 1);
}

// Completes `BOS x SEP y EOS`, of which the caller has written x; returns the size of the row.
template <class Put>
LENGEN_INLINE RowShape frame_question(const Alphabet& alphabet, int64_t n, int64_t answer, const RowView& row, Put&& put) {
  row.tokens[0] = alphabet.bos();
  row.tokens[n + 1] = alphabet.sep();
  put_answer(n + 2, answer, alphabet.eos(), row, put);
  return question_shape(n, answer);
}

}  // namespace lengen
