// Rows `BOS x EOS` of a language, scored at every place from BOS to the last symbol.
#pragma once

#include <cstring>
#include <memory>
#include <utility>

#include "../sampler.hpp"
#include "automaton.hpp"
#include "strings.hpp"

namespace lengen {

// Labels writes the token of each of the n + 1 prefixes of a string.
template <class Labels>
class LanguageRows final : public RowsOf<LanguageRows<Labels>> {
 public:
  LanguageRows(std::shared_ptr<const Strings> strings, Labels labels, int64_t bos)
      : strings_(std::move(strings)), labels_(std::move(labels)), bos_(bos) {}

  int64_t shortest() const override { return 0; }
  int64_t usual_words(int64_t n) const override { return strings_->usual_words(n); }
  RowShape largest_shape(int64_t n) const override { return {n + 2, n + 1}; }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    uint8_t* x = at_least(scratch.letters, n + slack);
    uint8_t* labels = at_least(scratch.labels, n + slack);
    draw(n, words, scratch, x);
    labels_.put(x, n, labels);
    return put_row(n, x, labels, row);
  }

  bool drafts(int64_t n) const { return n < Draft::longest; }

  void draft(int64_t n, Words& words, Draft& draft) const { draw(n, words, Scratch::of_this_thread(), draft.x); }

  void finish_draft(int64_t n, Draft& draft) const { labels_.put(draft.x, n, draft.y); }

  RowShape write_draft(int64_t n, const Draft& draft, const RowView& row) const { return put_row(n, draft.x, draft.y, row); }

 private:
  static constexpr int64_t slack = 64;

  LENGEN_INLINE void draw(int64_t n, Words& words, Scratch& scratch, uint8_t* x) const {
    strings_->draw(n, words, scratch, x);
    std::memset(x + n, 0, string_padding);
  }

  LENGEN_INLINE RowShape put_row(int64_t n, const uint8_t* x, const uint8_t* labels, const RowView& row) const {
    row.tokens[0] = bos_;
    widen(x, n, row.tokens + 1);
    row.tokens[n + 1] = bos_ + 2;
    widen(labels, n + 1, row.targets);
    row.score(0, n + 1);
    return {n + 2, n + 1};
  }

  std::shared_ptr<const Strings> strings_;
  Labels labels_;
  int64_t bos_;
};

}  // namespace lengen
