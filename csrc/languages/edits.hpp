// Strings that are not in the language.
#pragma once

#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "automaton.hpp"
#include "labels.hpp"
#include "letters.hpp"
#include "strings.hpp"

namespace lengen {

// Members of a regular language: whether they stay members when a symbol is replaced.
class RegularMembers {
 public:
  explicit RegularMembers(const Automaton& automaton) : automaton_(automaton) {}

  // To be called before `survives`, for each string.
  void read(const uint8_t* x, int64_t n, Scratch& scratch) const {
    uint32_t* states = at_least(scratch.moved, n + 1);
    states[0] = 0;
    for (int64_t i = 0; i < n; ++i) states[i + 1] = static_cast<uint32_t>(automaton_.next(states[i], x[i]));
  }

  // Whether x with another symbol at `place` is a member: followed until its states are those of x again.
  bool survives(const uint8_t* x, int64_t n, int64_t place, uint8_t symbol, Scratch& scratch) const {
    const uint32_t* states = scratch.moved.data();
    auto state = static_cast<uint32_t>(automaton_.next(states[place], symbol));
    for (int64_t i = place + 1; state != states[i]; ++i) {
      if (i == n) return automaton_.accepts(state);
      state = static_cast<uint32_t>(automaton_.next(state, x[i]));
    }
    return true;
  }

 private:
  Automaton automaton_;
};

// The same of a counting language, of which all of a string is read again: few replacements leave a member.
template <int64_t counters>
class CountingMembers {
 public:
  // The label of a string in the language is `inside`.
  CountingMembers(PrefixLabels<counters> labels, uint8_t inside) : labels_(std::move(labels)), inside_(inside) {}

  void read(const uint8_t*, int64_t, Scratch&) const {}

  bool survives(uint8_t* x, int64_t n, int64_t place, uint8_t symbol, Scratch& scratch) const {
    const uint8_t before = std::exchange(x[place], symbol);
    const bool found = contains(x, n, scratch);
    x[place] = before;
    return found;
  }

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

// A member with one symbol replaced, so that it is none any more: place and symbol are uniform among those that do it. Members
// that stay members whatever is replaced are drawn again.
template <class Members>
class Corrupted {
 public:
  // With `undone` the replacement is taken back: the members that the strings come from.
  Corrupted(std::shared_ptr<const Strings> strings, Members members, int64_t symbols, bool undone)
      : strings_(std::move(strings)), members_(std::move(members)), symbols_(static_cast<uint32_t>(symbols)), undone_(undone) {}

  int64_t usual_words(int64_t n) const { return strings_->usual_words(n) + 4; }

  void draw(int64_t n, Words& words, Scratch& scratch, uint8_t* x) const {
    const int64_t most_edits = n == 0 || symbols_ == 1 ? 0 : edits_a_symbol * n * symbols_;
    for (int member = 0; member < most_members; ++member) {
      strings_->draw(n, words, scratch, x);
      members_.read(x, n, scratch);
      for (int64_t edit = 0; edit < most_edits; ++edit) {
        const int64_t place = words.below(static_cast<uint32_t>(n));
        const auto symbol = static_cast<uint8_t>((x[place] + 1 + words.below(symbols_ - 1)) % symbols_);
        if (members_.survives(x, n, place, symbol, scratch)) continue;
        if (!undone_) x[place] = symbol;
        return;
      }
    }
    throw std::invalid_argument("of " + std::to_string(most_members) + " members of length " + std::to_string(n) +
                                " one other symbol took none out of the language; draw 'negative' strings instead");
  }

 private:
  static constexpr int64_t edits_a_symbol = 32;
  static constexpr int most_members = 256;

  std::shared_ptr<const Strings> strings_;
  Members members_;
  uint32_t symbols_;
  bool undone_;
};

// Independent uniform symbols, drawn again until they are not in the language: for languages with few strings.
template <class Members>
class Outsiders {
 public:
  Outsiders(Members members, int64_t symbols) : members_(std::move(members)), symbols_(static_cast<uint16_t>(symbols)) {}

  int64_t usual_words(int64_t n) const { return words_for_letters(n, symbols_); }

  void draw(int64_t n, Words& words, Scratch& scratch, uint8_t* x) const {
    for (int attempt = 0; attempt < most; ++attempt) {
      draw_letters(n, symbols_, words, x, scratch);
      if (!members_.contains(x, n, scratch)) return;
    }
    throw std::invalid_argument("found no string of length " + std::to_string(n) + " outside the language");
  }

 private:
  static constexpr int most = 4096;

  Members members_;
  uint16_t symbols_;
};

}  // namespace lengen
