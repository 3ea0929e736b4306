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
  // Up to which length several rows are drawn at once.
  virtual int64_t longest_together() const = 0;
  // The strings of a group of such rows, string i at x + i * stride.
  virtual void draw_rows(const Placement* placements, int64_t rows, const Heads& heads, Scratch& scratch, uint8_t* x,
                         int64_t stride) const = 0;
};

// Something whose draw differs by path: a template of whether it is the one for AVX2.
template <class Draw>
concept DrawsByPath = requires(const Draw& draw, Words& words, Scratch& scratch, uint8_t* x) {
  draw.template draw<false>(int64_t{}, words, scratch, x);
};

// Something that gains from drawing several long rows at once, too.
template <class Draw>
concept DrawsRows = requires(const Draw& draw, const Placement* placements, const Heads& heads, Scratch& scratch, uint8_t* x) {
  draw.template draw_rows<false>(placements, int64_t{}, heads, scratch, x, int64_t{});
};

// Draw has usual_words and draw as above, and perhaps draw_rows; they are compiled with everything they call, for either path.
template <class Draw>
class StringsOf final : public Strings {
 public:
  explicit StringsOf(Draw draw) : draw_(std::move(draw)) {}

  int64_t usual_words(int64_t n) const override { return draw_.usual_words(n); }

  void draw(int64_t n, Words& words, Scratch& scratch, uint8_t* x) const override {
#if LENGEN_HAS_AVX2_PATH
    if (use_avx2()) return draw_with_avx2(draw_, n, words, scratch, x);
#endif
    draw_string<false>(draw_, n, words, scratch, x);
  }

  int64_t longest_together() const override { return DrawsRows<Draw> ? 1 << 14 : short_rows; }

  void draw_rows(const Placement* placements, int64_t rows, const Heads& heads, Scratch& scratch, uint8_t* x,
                 int64_t stride) const override {
#if LENGEN_HAS_AVX2_PATH
    if (use_avx2()) return draw_rows_with_avx2(draw_, placements, rows, heads, scratch, x, stride);
#endif
    draw_rows_of<false>(draw_, placements, rows, heads, scratch, x, stride);
  }

 private:
  static constexpr int64_t short_rows = 64;

  template <bool avx2>
  LENGEN_INLINE static void draw_string(const Draw& draw, int64_t n, Words& words, Scratch& scratch, uint8_t* x) {
    if constexpr (DrawsByPath<Draw>) {
      draw.template draw<avx2>(n, words, scratch, x);
    } else {
      draw.draw(n, words, scratch, x);
    }
  }

  template <bool avx2>
  LENGEN_INLINE static void draw_rows_of(const Draw& draw, const Placement* placements, int64_t rows, const Heads& heads,
                                         Scratch& scratch, uint8_t* x, int64_t stride) {
    if constexpr (DrawsRows<Draw>) {
      draw.template draw_rows<avx2>(placements, rows, heads, scratch, x, stride);
    } else {
      for (int64_t row = 0; row < rows; ++row) {
        Words words = heads.words(row);
        draw_string<avx2>(draw, placements[row].length, words, scratch, x + row * stride);
      }
    }
  }

#if LENGEN_HAS_AVX2_PATH
  LENGEN_AVX2 LENGEN_WITH_ALL_IT_CALLS static void draw_with_avx2(const Draw& draw, int64_t n, Words& words, Scratch& scratch,
                                                                  uint8_t* x) {
    draw_string<true>(draw, n, words, scratch, x);
  }

  LENGEN_AVX2 LENGEN_WITH_ALL_IT_CALLS static void draw_rows_with_avx2(const Draw& draw, const Placement* placements, int64_t rows,
                                                                       const Heads& heads, Scratch& scratch, uint8_t* x,
                                                                       int64_t stride) {
    draw_rows_of<true>(draw, placements, rows, heads, scratch, x, stride);
  }
#endif

  Draw draw_;
};

}  // namespace lengen
