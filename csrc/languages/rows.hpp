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
  int64_t scored_spill() const override { return short_spill; }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    uint8_t* x = at_least(scratch.letters, n + slack);
    strings_->draw(n, words, scratch, x);
    return put_row(n, x, row);
  }

  bool drafts(int64_t n) const { return n < Draft::longest; }

  void draft_group(const Placement* placements, int64_t rows, const Heads& heads, Scratch& scratch, Draft* drafts) const {
    strings_->draft(placements, rows, heads, scratch, drafts);
  }

  RowShape write_draft(int64_t n, Draft& draft, const RowView& row) const { return put_row(n, draft.x, row); }

 private:
  static constexpr int64_t slack = 64;

  LENGEN_INLINE RowShape put_row(int64_t n, uint8_t* x, const RowView& row) const {
    std::memset(x + n, 0, string_padding);
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
