// What draws the strings of a language.
#pragma once

#include <cstdint>
#include <utility>

#include "../random.hpp"
#include "../sampler.hpp"

namespace lengen {

// Immutable, shared by every thread. A string is a pure function of its words and its length.
class Strings {
 public:
  virtual ~Strings() = default;

  // How many words a string of length n usually needs; more are drawn when it needs more. 0: none ever.
  virtual int64_t usual_words(int64_t n) const = 0;
  // Writes the symbols of a string, a byte each, and up to 31 more bytes.
  virtual void draw(int64_t n, Words& words, Scratch& scratch, uint8_t* x) const = 0;
  // The same for several short rows.
  virtual void draft(const Placement* placements, int64_t rows, const Heads& heads, Scratch& scratch, Draft* drafts) const = 0;
};

// Draw has usual_words and draw as above; its draw is compiled with everything it calls, for either path.
template <class Draw>
class StringsOf final : public Strings {
 public:
  explicit StringsOf(Draw draw) : draw_(std::move(draw)) {}

  int64_t usual_words(int64_t n) const override { return draw_.usual_words(n); }

  void draw(int64_t n, Words& words, Scratch& scratch, uint8_t* x) const override {
#if LENGEN_HAS_AVX2_PATH
    if (use_avx2()) return draw_with_avx2(draw_, n, words, scratch, x);
#endif
    draw_.draw(n, words, scratch, x);
  }

  void draft(const Placement* placements, int64_t rows, const Heads& heads, Scratch& scratch, Draft* drafts) const override {
#if LENGEN_HAS_AVX2_PATH
    if (use_avx2()) return draft_with_avx2(draw_, placements, rows, heads, scratch, drafts);
#endif
    draft_rows(draw_, placements, rows, heads, scratch, drafts);
  }

 private:
  LENGEN_INLINE static void draft_rows(const Draw& draw, const Placement* placements, int64_t rows, const Heads& heads,
                                       Scratch& scratch, Draft* drafts) {
    for (int64_t row = 0; row < rows; ++row) {
      Words words = heads.words(row);
      draw.draw(placements[row].length, words, scratch, drafts[row].x);
    }
  }

#if LENGEN_HAS_AVX2_PATH
  LENGEN_AVX2 LENGEN_WITH_ALL_IT_CALLS static void draw_with_avx2(const Draw& draw, int64_t n, Words& words, Scratch& scratch,
                                                                  uint8_t* x) {
    draw.draw(n, words, scratch, x);
  }

  LENGEN_AVX2 LENGEN_WITH_ALL_IT_CALLS static void draft_with_avx2(const Draw& draw, const Placement* placements, int64_t rows,
                                                                   const Heads& heads, Scratch& scratch, Draft* drafts) {
    draft_rows(draw, placements, rows, heads, scratch, drafts);
  }
#endif

  Draw draw_;
};

}  // namespace lengen
