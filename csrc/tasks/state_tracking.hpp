// State tracking: the answer is the state that a string of moves leads to.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../sampler.hpp"
#include "alphabet.hpp"
#include "bits.hpp"
#include "letters.hpp"

namespace lengen {

// x over moves; y is where they lead from 0 on a cycle of `positions` positions.
// paper: independent moves. hard: zero to three moves among moves that stay, each in the first half of its own equal stretch.
class CycleWalk final : public RowsOf<CycleWalk> {
 public:
  // Move i goes steps[i] forward; move 0 stays. The answer p is the token `first_answer` + p of `symbols`.
  CycleWalk(std::vector<int64_t> steps, int64_t positions, int64_t first_answer, int64_t symbols, bool hard)
      : moves_(static_cast<int64_t>(steps.size())), steps_(std::move(steps)), positions_(positions), first_answer_(first_answer),
        alphabet_{symbols}, hard_(hard) {
    for (int64_t number = 0; number < Letters::most; ++number) {
      for (int64_t i = 0; i < moves_.per_draw(); ++i) {
        sums_[static_cast<size_t>(number)] += static_cast<uint32_t>(steps_[static_cast<size_t>(moves_.letter(number, i))]);
      }
    }
  }

  int64_t usual_words(int64_t n) const override { return hard_ ? 7 : moves_.usual_words(n); }
  int64_t scored_spill() const override { return short_spill; }
  RowShape largest_shape(int64_t n) const override { return question_shape(n, 1); }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    const int64_t total = hard_ ? draw_few(n, words, question_of(row)) : draw_any(n, words, scratch, question_of(row));
    return frame_question(alphabet_, n, 1, row, [&](auto*... y) { ((*y = first_answer_ + total % positions_), ...); });
  }

 private:
  static constexpr int64_t most_moves = 3;

  int64_t draw_any(int64_t n, Words& words, Scratch& scratch, int32_t* x) const {
    const uint8_t* numbers = moves_.draw(n, words, scratch);
    moves_.put(numbers, n, x);
    const int64_t whole = moves_.whole_draws(n);
    int64_t total = 0;
    for (int64_t i = 0; i < whole; ++i) total += sums_[numbers[i]];
    for (int64_t i = 0; i < n - whole * moves_.per_draw(); ++i) total += steps_[static_cast<size_t>(moves_.letter(numbers[whole], i))];
    return total;
  }

  int64_t draw_few(int64_t n, Words& words, int32_t* x) const {
    const int64_t count = words.below(static_cast<uint32_t>(std::min(most_moves, n) + 1));
    put_run(0, n, x);
    int64_t total = 0;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t place = place_in_stretch(n, i, count, words);
      x[place] = static_cast<int32_t>(1 + words.below(static_cast<uint32_t>(moves_.count() - 1)));
      total += steps_[static_cast<size_t>(x[place])];
    }
    return total;
  }

  Letters moves_;
  std::vector<int64_t> steps_;
  std::array<uint32_t, Letters::most> sums_{};  // of the moves of each drawn number
  int64_t positions_, first_answer_;
  Alphabet alphabet_;
  bool hard_;
};

// x over 0..m-1; y is their sum modulo m.
inline CycleWalk modular_sum(int64_t m, bool hard) {
  std::vector<int64_t> steps(static_cast<size_t>(m));
  for (int64_t i = 0; i < m; ++i) steps[static_cast<size_t>(i)] = i;
  return CycleWalk(std::move(steps), m, 0, m, hard);
}

// x over stay, forward, back; y is the position after them on a cycle of m.
inline CycleWalk cycle_navigation(int64_t m, bool hard) { return CycleWalk({0, 1, m - 1}, m, 3, 3 + m, hard); }

// `BOS x EOS`: x is n/2 pairs of an instruction (write, read, ignore) and a bit; the bit after a read is the one written last, and
// each read is scored. The first instruction writes, the last reads.
// paper: others write or read with a chance of 1/10 each; bits are fair. hard: 1/100 each, and every ignored bit differs from the
// one to remember.
class FlipFlop final : public RowsOf<FlipFlop> {
 public:
  explicit FlipFlop(bool hard) : numbers_(2 * (hard ? 100 : 10)) {
    for (int64_t number = 0; number < numbers_.count(); ++number) pairs_[static_cast<size_t>(number)] = pair_of(number, hard);
  }

  int64_t shortest() const override { return 4; }
  int64_t stride() const override { return 2; }
  int64_t usual_words(int64_t n) const override { return numbers_.usual_words(n / 2); }
  RowShape largest_shape(int64_t n) const override { return {n + 2, n / 2 - 1}; }

  // Kept: the drawn numbers.
  int64_t kept_bytes(int64_t n) const { return n / 2; }

  Kept keep(int64_t n, Words& words, Scratch& scratch, uint8_t* at) const {
    const int64_t pairs = n / 2;
    numbers_.draw(pairs, words, scratch, at);
    const int64_t others = count_reads(at, pairs) - is_read(at[0]) - is_read(at[pairs - 1]);
    at[0] = static_cast<uint8_t>(2 * write_bit + at[0] % 2);
    at[pairs - 1] = 2 * read;
    return {{n + 2, others + 1}, at + pairs};
  }

  RowShape write_kept(int64_t n, const uint8_t*& at, const RowView& row) const {
    row.tokens[0] = alphabet_.bos();
    row.tokens[n + 1] = alphabet_.eos();
    int32_t *tokens = row.tokens + 1, *scored = row.scored;
    int64_t* targets = row.targets;
    int32_t memory = first_bit;
    int64_t reads = 0;
    const auto first = static_cast<int32_t>(row.start + 1);
    const uint8_t* numbers = at;
    at += n / 2;
    for (int32_t i = 0; i < n; i += 2) {
      const int32_t pair = pairs_[*numbers++];
      memory = (memory & pair >> keeps & 7) | (pair >> stores & 7);
      tokens[i] = pair >> instruction & 7;
      tokens[i + 1] = (memory & pair >> recalls & 7) ^ (pair >> shows & 7);
      scored[reads] = first + i;
      targets[reads] = memory;
      reads += pair >> scores & 1;
    }
    return {n + 2, reads};
  }

 private:
  static constexpr int32_t write_bit = 0, read = 1, ignore = 2, first_bit = 3;
  static constexpr Alphabet alphabet_{5};

  static bool is_read(uint8_t number) { return number / 2 == read; }

  // Eight at a time, as they were stored: a wider load would wait for the stores.
  static int64_t count_reads(const uint8_t* numbers, int64_t count) {
    constexpr uint64_t each = 0x0101010101010101, low = 0x7F * each;
    int64_t reads = 0;
    for (int64_t i = 0; i < count; i += 8) {
      uint64_t eight;
      std::memcpy(&eight, numbers + i, sizeof eight);
      const uint64_t others = (eight ^ 2 * read * each) & 0xFE * each;  // a byte is 0 where it is a read
      const uint64_t marks = ~(((others & low) + low) | others | low);
      reads += ones_in_word(marks & low_bits(8 * (count - i)));
    }
    return reads;
  }

  // What an instruction and a drawn bit do, in fields of three bits: memory becomes memory & keeps | stores, and the bit that is
  // shown is memory & recalls ^ shows. Memory holds the token of its bit.
  static constexpr int instruction = 0, keeps = 3, stores = 6, recalls = 9, shows = 12, scores = 15;

  // Number 2 i + b is instruction i with bit b; all from 2 on ignore.
  static int32_t pair_of(int64_t number, bool hard) {
    const auto token = static_cast<int32_t>(first_bit + number % 2);
    if (number / 2 == write_bit) return write_bit << instruction | token << stores | 7 << recalls;
    if (number / 2 == read) return read << instruction | 7 << keeps | 7 << recalls | 1 << scores;
    if (hard) return ignore << instruction | 7 << keeps | 7 << recalls | (first_bit ^ (first_bit + 1)) << shows;
    return ignore << instruction | 7 << keeps | token << shows;
  }

  Letters numbers_;
  std::array<int32_t, Letters::most> pairs_;  // of each drawn number
};

// A finite set with an associative product and an identity: products[a * elements + b] is the product of a and b.
struct Monoid {
  int64_t elements;
  int64_t identity;
  std::vector<uint8_t> products;

  // From the identity and then the rows of the table.
  explicit Monoid(const std::vector<int64_t>& parameters) {
    const auto entries = static_cast<int64_t>(parameters.size()) - 1;
    for (elements = 0; elements * elements < entries;) ++elements;
    const auto is_element = [this](int64_t element) { return element >= 0 && element < elements; };
    if (elements < 2 || elements > Letters::most || elements * elements != entries ||
        !std::all_of(parameters.begin(), parameters.end(), is_element)) {
      throw std::invalid_argument("parameters must be the identity and the table of a monoid of 2..256 elements");
    }
    identity = parameters[0];
    products.assign(parameters.begin() + 1, parameters.end());
  }
};

// `BOS x EOS`: x over the elements of a monoid; scored at every element, whose target is the product of all up to it.
// paper: independent elements. hard: zero to three elements other than the identity among identities, each in the first half of
// its own equal stretch.
class WordProblem final : public RowsOf<WordProblem> {
 public:
  WordProblem(const Monoid& monoid, bool hard)
      : letters_(monoid.elements), identity_(monoid.identity),
        shift_(std::bit_width(static_cast<uint64_t>(monoid.elements - 1))), alphabet_{monoid.elements}, hard_(hard) {
    products_.resize(static_cast<size_t>(monoid.elements << shift_));
    for (int64_t a = 0; a < monoid.elements; ++a) {
      std::copy_n(monoid.products.begin() + a * monoid.elements, monoid.elements, products_.begin() + (a << shift_));
    }
  }

  int64_t usual_words(int64_t n) const override { return hard_ ? 7 : letters_.usual_words(n); }
  RowShape largest_shape(int64_t n) const override { return {n + 2, n}; }

  RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const {
    const uint8_t* x = hard_ ? draw_few(n, words, scratch) : draw_any(n, words, scratch, question_of(row));
    if (hard_) widen(x, n, question_of(row));
    multiply(x, n, row.targets);
    row.tokens[0] = alphabet_.bos();
    row.tokens[n + 1] = alphabet_.eos();
    row.score(1, n);
    return {n + 2, n};
  }

 private:
  static constexpr int64_t most_elements = 3;

  const uint8_t* draw_any(int64_t n, Words& words, Scratch& scratch, int32_t* tokens) const {
    const uint8_t* numbers = letters_.draw(n, words, scratch);
    letters_.put(numbers, n, tokens);
    return letters_.bytes(numbers, n, scratch);
  }

  const uint8_t* draw_few(int64_t n, Words& words, Scratch& scratch) const {
    uint8_t* x = at_least(scratch.letters, n + 31);
    std::fill_n(x, n, static_cast<uint8_t>(identity_));
    const int64_t count = words.below(static_cast<uint32_t>(std::min(most_elements, n) + 1));
    for (int64_t i = 0; i < count; ++i) {
      const int64_t place = place_in_stretch(n, i, count, words);
      const int64_t element = words.below(static_cast<uint32_t>(letters_.count() - 1));
      x[place] = static_cast<uint8_t>(element + (element >= identity_));
    }
    return x;
  }

  // prefixes[i] = x[0] ... x[i]. One product waits for the one before it, so a long word is cut in pieces that are multiplied side
  // by side, each from the identity, and then each by what stands before it.
  void multiply(const uint8_t* __restrict x, int64_t n, int64_t* __restrict prefixes) const {
    if (n >= 16) return multiply_in_pieces<4>(x, n, prefixes);
    return multiply_in_pieces<1>(x, n, prefixes);
  }

  template <int64_t chains>
  void multiply_in_pieces(const uint8_t* __restrict x, int64_t n, int64_t* __restrict prefixes) const {
    const uint8_t* const products = products_.data();
    const int shift = shift_;
    const int64_t piece = n / chains;
    int64_t states[chains];
    std::fill_n(states, chains, identity_);
    for (int64_t i = 0; i < piece; ++i) {
#pragma GCC unroll 8
      for (int64_t chain = 0; chain < chains; ++chain) {
        const int64_t place = chain * piece + i;
        states[chain] = products[(states[chain] << shift) + x[place]];
        prefixes[place] = states[chain];
      }
    }
    const uint8_t* times[chains];
    int64_t before = states[0];
    for (int64_t chain = 1; chain < chains; ++chain) {
      times[chain] = products + (before << shift);
      before = times[chain][states[chain]];
    }
    for (int64_t i = 0; chains > 1 && i < piece; ++i) {
#pragma GCC unroll 8
      for (int64_t chain = 1; chain < chains; ++chain) {
        int64_t& prefix = prefixes[chain * piece + i];
        prefix = times[chain][prefix];
      }
    }
    for (int64_t i = chains * piece; i < n; ++i) {
      before = products[(before << shift) + x[i]];
      prefixes[i] = before;
    }
  }

  Letters letters_;
  int64_t identity_;
  int shift_;
  std::vector<uint8_t> products_;  // a row begins every 1 << shift_ elements
  Alphabet alphabet_;
  bool hard_;
};

}  // namespace lengen
