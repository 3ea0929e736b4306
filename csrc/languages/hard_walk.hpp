// The hard distribution of a regular language: long runs that change nothing, and then a question.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../random.hpp"
#include "../sampler.hpp"
#include "automaton.hpp"

namespace lengen {

// Events of a hard string: none to three, each in the first half of its own equal stretch of the string.
class Events {
 public:
  Events(int64_t n, Words& words) : n_(n), count_(words.below(most + 1)) { plan(words); }

  // Whether an event is due when `done` symbols are written.
  bool is_due(int64_t done) const { return happened_ < count_ && done >= next_; }

  void happen(Words& words) {
    ++happened_;
    plan(words);
  }

 private:
  static constexpr uint32_t most = 3;

  void plan(Words& words) {
    if (happened_ == count_) return;
    const int64_t begin = n_ * happened_ / count_, end = n_ * (happened_ + 1) / count_;
    next_ = begin + words.below(static_cast<uint32_t>((end - begin + 1) / 2 + 1));
  }

  int64_t n_, count_, happened_ = 0, next_ = 0;
};

// A walk that goes round one of the shortest loops of its state again and again. At an event it takes a shortest way to another
// state, uniform among those from which the rest of the length can be completed. Where going round again would leave a rest that
// cannot be completed, and in states without a loop, it takes single steps, uniform among those that can be completed.
class HardWalk {
 public:
  explicit HardWalk(const Automaton& automaton) : automaton_(automaton), states_(automaton.states()) {
    if (states_ > most_states) {
      throw std::invalid_argument("hard strings are defined for automata of at most " + std::to_string(most_states) + " states");
    }
    find_ways();
    find_loops();
    find_possible();
  }

  int64_t usual_words(int64_t) const { return 16; }

  void draw(int64_t n, Words& words, Scratch& scratch, uint8_t* x) const {
    Events events(n, words);
    int64_t state = 0, done = 0;
    const Loop* loop = draw_loop(state, words);
    while (done < n) {
      const int64_t left = n - done;
      if (events.is_due(done)) {
        const int64_t target = draw_target(state, left, words, scratch);
        events.happen(words);
        if (target < 0) continue;
        for (; state != target; ++done) state = step(state, way(state, target), x + done);
      } else if (loop != nullptr && left >= loop->size() && is_possible(state, left - loop->size())) {
        std::memcpy(x + done, loop->symbols.data(), static_cast<size_t>(loop->size()));
        done += loop->size();
        continue;
      } else {
        state = step(state, draw_symbol(state, left, words), x + done);
        ++done;
      }
      loop = draw_loop(state, words);
    }
  }

 private:
  static constexpr int64_t most_states = 2048, most_loops = 8;
  static constexpr int16_t unreachable = -1;

  struct Loop {
    std::vector<uint8_t> symbols;

    int64_t size() const { return static_cast<int64_t>(symbols.size()); }
  };

  // distances_[from][to] in steps through live states, and the first symbol of a shortest way: the least one.
  void find_ways() {
    const auto size = static_cast<size_t>(states_ * states_);
    distances_.assign(size, unreachable);
    first_symbols_.assign(size, 0);
    std::vector<std::vector<std::pair<int64_t, uint8_t>>> sources(static_cast<size_t>(states_));
    for (int64_t from = 0; from < states_; ++from) {
      if (!automaton_.is_live(from)) continue;
      for (const uint8_t symbol : automaton_.legal(from)) {
        sources[static_cast<size_t>(automaton_.next(from, symbol))].emplace_back(from, symbol);
      }
    }
    for (int64_t to = 0; to < states_; ++to) {
      if (!automaton_.is_live(to)) continue;
      distances_[place(to, to)] = 0;
      std::deque<int64_t> queue{to};
      for (; !queue.empty(); queue.pop_front()) {
        for (const auto& [from, symbol] : sources[static_cast<size_t>(queue.front())]) {
          if (distances_[place(from, to)] != unreachable) continue;
          distances_[place(from, to)] = static_cast<int16_t>(distances_[place(queue.front(), to)] + 1);
          queue.push_back(from);
        }
      }
    }
    for (int64_t from = 0; from < states_; ++from) {
      for (int64_t to = 0; to < states_; ++to) {
        const int16_t distance = distances_[place(from, to)];
        if (distance <= 0) continue;
        const std::vector<uint8_t> legal = automaton_.legal(from);
        first_symbols_[place(from, to)] = *std::find_if(legal.begin(), legal.end(), [&](uint8_t symbol) {
          return distances_[place(automaton_.next(from, symbol), to)] == distance - 1;
        });
      }
    }
  }

  // The shortest loops of each live state: for each first symbol that one starts with, the one of least symbols.
  void find_loops() {
    loops_.resize(static_cast<size_t>(states_));
    for (int64_t state = 0; state < states_; ++state) {
      if (!automaton_.is_live(state)) continue;
      int64_t shortest = states_ + 1;
      const std::vector<uint8_t> legal = automaton_.legal(state);
      for (const uint8_t symbol : legal) {
        const int64_t back = distances_[place(automaton_.next(state, symbol), state)];
        if (back != unreachable) shortest = std::min(shortest, back + 1);
      }
      for (const uint8_t symbol : legal) {
        std::vector<Loop>& found = loops_[static_cast<size_t>(state)];
        const int64_t second = automaton_.next(state, symbol);
        if (distances_[place(second, state)] + 1 != shortest || static_cast<int64_t>(found.size()) == most_loops) continue;
        Loop loop{{symbol}};
        for (int64_t at = second; at != state; at = automaton_.next(at, loop.symbols.back())) {
          loop.symbols.push_back(first_symbols_[place(at, state)]);
        }
        found.push_back(std::move(loop));
      }
    }
  }

  // possible_[r][state]: whether some r symbols lead to acceptance; the last `period_` rows come again and again.
  void find_possible() {
    std::vector<uint8_t> row = automaton_.accepting;
    for (;;) {
      const auto seen = std::find(possible_.begin(), possible_.end(), row);
      period_ = possible_.end() - seen;
      if (seen != possible_.end() || static_cast<int64_t>(possible_.size()) > longest_length) return;
      possible_.push_back(row);
      for (int64_t state = 0; state < states_; ++state) {
        uint8_t any = 0;
        for (int64_t symbol = 0; symbol < automaton_.symbols; ++symbol) {
          any |= possible_.back()[static_cast<size_t>(automaton_.next(state, symbol))];
        }
        row[static_cast<size_t>(state)] = any;
      }
    }
  }

  bool is_possible(int64_t state, int64_t left) const {
    const auto known = static_cast<int64_t>(possible_.size());
    const int64_t row = left < known ? left : known - period_ + (left - known) % period_;
    return possible_[static_cast<size_t>(row)][static_cast<size_t>(state)] != 0;
  }

  size_t place(int64_t from, int64_t to) const { return static_cast<size_t>(from * states_ + to); }

  int64_t way(int64_t from, int64_t to) const { return first_symbols_[place(from, to)]; }

  int64_t step(int64_t state, int64_t symbol, uint8_t* x) const {
    *x = static_cast<uint8_t>(symbol);
    return automaton_.next(state, symbol);
  }

  const Loop* draw_loop(int64_t state, Words& words) const {
    const std::vector<Loop>& found = loops_[static_cast<size_t>(state)];
    if (found.size() <= 1) return found.empty() ? nullptr : &found[0];
    return &found[words.below(static_cast<uint32_t>(found.size()))];
  }

  // Another state to go to, or -1.
  int64_t draw_target(int64_t state, int64_t left, Words& words, Scratch& scratch) const {
    uint32_t* targets = at_least(scratch.order, states_);
    scratch.identity = 0;
    uint32_t count = 0;
    for (int64_t to = 0; to < states_; ++to) {
      const int64_t distance = distances_[place(state, to)];
      if (distance > 0 && distance <= left && is_possible(to, left - distance)) targets[count++] = static_cast<uint32_t>(to);
    }
    return count == 0 ? int64_t{-1} : int64_t{targets[words.below(count)]};
  }

  int64_t draw_symbol(int64_t state, int64_t left, Words& words) const {
    uint32_t count = 0;
    for (int64_t symbol = 0; symbol < automaton_.symbols; ++symbol) {
      count += is_possible(automaton_.next(state, symbol), left - 1);
    }
    uint32_t chosen = count > 1 ? words.below(count) : 0;
    for (int64_t symbol = 0;; ++symbol) {
      if (is_possible(automaton_.next(state, symbol), left - 1) && chosen-- == 0) return symbol;
    }
  }

  Automaton automaton_;
  int64_t states_;
  std::vector<int16_t> distances_;
  std::vector<uint8_t> first_symbols_;
  std::vector<std::vector<Loop>> loops_;
  std::vector<std::vector<uint8_t>> possible_;
  int64_t period_ = 1;
};

}  // namespace lengen
