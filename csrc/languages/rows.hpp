// Rows `BOS x EOS` of a language, scored at every place from BOS to the last symbol.
#pragma once

#include <cstring>
#include <memory>
#include <utility>

#include "../sampler.hpp"
#include "labels.hpp"
#include "strings.hpp"

namespace lengen {

template <class Labels>
class LanguageRows final : public RowsOf<LanguageRows<Labels>> {
 public:
  LanguageRows(std::shared_ptr<const Strings> strings, Labels labels, int64_t bos)
      : strings_(std::move(strings)), labels_(std::move(labels)), bos_(bos) {}

  int64_t shortest() const override { return 0; }
  int64_t usual_words(int64_t n) const override { return strings_->usual_words(n); }
  RowShape largest_shape(int64_t n) const override { return {n + 2, n + 1}; }
  int64_t scored_spill() const override { return labels_.scored_spill(); }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    uint8_t* x = at_least(scratch.letters, stride(n));
    strings_->draw(n, words, scratch, x);
    end_string(n, x);
    return put_row(n, x, row);
  }

  bool draws_together(int64_t longest) const { return longest <= strings_->longest_together(); }

  void draw_together(const Placement* placements, int64_t rows, int64_t longest, const Heads& heads, Scratch& scratch) const {
    uint8_t* x = at_least(scratch.letters, rows * stride(longest));
    strings_->draw_rows(placements, rows, heads, scratch, x, stride(longest));
    for (int64_t i = 0; i < rows; ++i) end_string(placements[i].length, x + i * stride(longest));
  }

  RowShape write_drawn(int64_t i, int64_t n, int64_t longest, Scratch& scratch, const RowView& row) const {
    return put_row(n, scratch.letters.data() + i * stride(longest), row);
  }

 private:
  // Room for a string and what is written behind it, of a size that keeps rows apart in the cache.
  static int64_t stride(int64_t n) { return (n + 64) / 64 * 64 + 64; }

  // Labels read on past the end of a string.
  LENGEN_INLINE static void end_string(int64_t n, uint8_t* x) { std::memset(x + n, 0, string_padding); }

  LENGEN_INLINE RowShape put_row(int64_t n, const uint8_t* x, const RowView& row) const {
    row.tokens[0] = bos_;
    labels_.put_row(x, n, row.tokens + 1, row);
    row.tokens[n + 1] = bos_ + 2;
    return {n + 2, n + 1};
  }

  std::shared_ptr<const Strings> strings_;
  Labels labels_;
  int64_t bos_;
};

}  // namespace lengen
