// Strings that are not in the language.
#pragma once

#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "../tasks/letters.hpp"
#include "labels.hpp"
#include "strings.hpp"
#include "uniform_walk.hpp"

namespace lengen {

// Strings outside a regular language that are members but for one symbol, every pair of a member and such a string equally likely.
// The walk is drawn from all words `u mark a b v` for which `u a v` is a member and `u b v` is none.
class Replaced {
 public:
  // What a word has beside the string: the mark and one of the two symbols.
  static constexpr int64_t beside = 2;

  // With `undone` the replacement is taken back: the members that the strings come from.
  Replaced(UniformWalk walk, int64_t mark, bool undone)
      : walk_(std::move(walk)), mark_(static_cast<uint8_t>(mark)), undone_(undone) {}

  int64_t usual_words(int64_t n) const { return walk_.usual_words(n + beside); }

  template <bool avx2>
  void draw(int64_t n, Words& words, Scratch& scratch, uint8_t* x) const {
    walk_.draw<avx2>(n + beside, words, scratch, x);
    settle(n, x);
  }

  template <bool avx2>
  void draw_rows(const Placement* placements, int64_t rows, const Heads& heads, Scratch& scratch, uint8_t* x, int64_t stride) const {
    Placement longer[rows_at_once]{};
    for (int64_t i = 0; i < rows; ++i) longer[i] = {static_cast<int32_t>(placements[i].length + beside), placements[i].offset_draw};
    walk_.draw_rows<avx2>(longer, rows, heads, scratch, x, stride);
    for (int64_t i = 0; i < rows; ++i) settle(placements[i].length, x + i * stride);
  }

 private:
  // Turns a word into the string, or into the member.
  void settle(int64_t n, uint8_t* x) const {
    auto* const place = static_cast<uint8_t*>(std::memchr(x, mark_, static_cast<size_t>(n)));
    place[0] = place[undone_ ? 1 : 2];
    std::memmove(place + 1, place + 1 + beside, static_cast<size_t>(x + n - (place + 1)));
  }

  UniformWalk walk_;
  uint8_t mark_;
  bool undone_;
};

// Which strings are members of a counting language.
template <int64_t counters>
class CountingMembers {
 public:
  // The label of a string in the language is `inside`.
  CountingMembers(PrefixLabels<counters> labels, uint8_t inside) : labels_(std::move(labels)), inside_(inside) {}

  bool contains(uint8_t* x, int64_t n, Scratch& scratch) const {
    std::memset(x + n, 0, string_padding);
    uint8_t* labels = at_least(scratch.labels, n + 64);
    labels_.put(x, n, labels);
    return labels[n] == inside_;
  }

 private:
  PrefixLabels<counters> labels_;
  uint8_t inside_;
};

// The same as `Replaced` of a counting language: a member, a place and another symbol, all drawn again while they make a member.
template <class Members>
class Corrupted {
 public:
  // With `undone` the replacement is taken back: the members that the strings come from.
  Corrupted(std::shared_ptr<const Strings> strings, Members members, int64_t symbols, bool undone)
      : strings_(std::move(strings)), members_(std::move(members)), symbols_(static_cast<uint32_t>(symbols)), undone_(undone) {}

  int64_t usual_words(int64_t n) const { return strings_->usual_words(n) + 4; }

  void draw(int64_t n, Words& words, Scratch& scratch, uint8_t* x) const {
    for (int attempt = 0; n > 0 && attempt < most; ++attempt) {
      strings_->draw(n, words, scratch, x);
      const int64_t place = words.below(static_cast<uint32_t>(n));
      const uint8_t before = x[place];
      x[place] = static_cast<uint8_t>((before + 1 + words.below(symbols_ - 1)) % symbols_);
      if (members_.contains(x, n, scratch)) continue;
      if (undone_) x[place] = before;
      return;
    }
    throw std::invalid_argument("of " + std::to_string(most) + " members of length " + std::to_string(n) +
                                " one other symbol took none out of the language; draw 'negative' strings instead");
  }

 private:
  static constexpr int most = 256;

  std::shared_ptr<const Strings> strings_;
  Members members_;
  uint32_t symbols_;
  bool undone_;
};

// Independent uniform symbols, drawn again until they are not in the language: for languages with few strings.
template <class Members>
class Outsiders {
 public:
  Outsiders(Members members, int64_t symbols)
      : members_(std::move(members)), letters_(symbols > 1 ? std::make_shared<Letters>(symbols) : nullptr) {}

  int64_t usual_words(int64_t n) const { return letters_ == nullptr ? 0 : letters_->usual_words(n); }

  void draw(int64_t n, Words& words, Scratch& scratch, uint8_t* x) const {
    for (int attempt = 0; attempt < most; ++attempt) {
      if (letters_ == nullptr) {
        fill_bytes(0, n, x);
      } else {
        letters_->bytes(letters_->draw(n, words, scratch), n, x);
      }
      if (!members_.contains(x, n, scratch)) return;
    }
    throw std::invalid_argument("found no string of length " + std::to_string(n) + " outside the language");
  }

 private:
  static constexpr int most = 4096;

  Members members_;
  std::shared_ptr<const Letters> letters_;  // nothing if there is one symbol
};

}  // namespace lengen
