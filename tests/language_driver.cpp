// Exercises the samplers of formal languages without Python, for the sanitizers: every recipe, with and without edits.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "driver.hpp"
#include "languages/registry.hpp"

using namespace lengen;

namespace {

constexpr int64_t longest = 20'000;  // more than strings that are drawn together have

// The lengths of a language: first, first + step, ...
struct Spacing {
  int32_t first, step;

  std::vector<int32_t> between(int32_t low, int32_t high) const {
    std::vector<int32_t> found;
    for (int32_t n = first; n <= high; n += step) {
      if (n >= low) found.push_back(n);
    }
    return found;
  }
};

void check_lengths(const RowSampler& sampler, const std::vector<int32_t>& lengths, int64_t rows, const std::string& name) {
  if (lengths.empty()) return;
  const Lengths listed{lengths.front(), 1, static_cast<int64_t>(lengths.size()), lengths.data()};
  check_request(sampler, {1, 2, 3, rows, listed, lengths.back() + 7, 1}, name);
}

void check_language(const RowSampler& sampler, const Spacing& spacing, const std::string& name) {
  for (int32_t n = 1; n < 70; n += n < 5 || n > 60 ? 1 : 13) check_lengths(sampler, spacing.between(n, n), 9, name);
  check_lengths(sampler, spacing.between(1, 66), 3000, name);  // enough for several threads
  check_lengths(sampler, spacing.between(50, 300), 30, name);
  check_lengths(sampler, spacing.between(longest - 12, longest), 3, name);
}

// Labels are the states.
Automaton automaton(int64_t symbols, const std::vector<int32_t>& transitions, const std::vector<uint8_t>& accepting) {
  const size_t states = accepting.size();
  Automaton found{symbols, transitions, accepting, accepting, {}};
  for (size_t round = 0; round < states; ++round) {
    for (size_t i = 0; i < transitions.size(); ++i) {
      found.live[i / static_cast<size_t>(symbols)] |= found.live[static_cast<size_t>(transitions[i])];
    }
  }
  for (size_t state = 0; state < states; ++state) found.labels.push_back(static_cast<uint8_t>(state));
  return found;
}

Automaton complement(Automaton of) {
  for (uint8_t& accepts : of.accepting) accepts ^= 1;
  return automaton(of.symbols, of.transitions, of.accepting);
}

// Words `u mark a b v` with u a v a member and u b v none, of the states (phase, member, other): before the mark, behind it, behind
// a, behind b; the last state leads nowhere.
Automaton replacements(const Automaton& of) {
  const int64_t states = of.states(), symbols = of.symbols, phase = states * states, dead = 4 * phase;
  std::vector<int32_t> transitions;
  std::vector<uint8_t> accepting;
  for (int64_t state = 0; state <= dead; ++state) {
    const int64_t member = state % phase / states, other = state % states;
    for (int64_t symbol = 0; symbol <= symbols; ++symbol) {
      const bool marks = symbol == symbols;
      const int64_t next = marks ? 0 : of.next(member, symbol), next_other = marks ? 0 : of.next(other, symbol);
      int64_t target = dead;
      if (state < phase) target = marks ? phase + state : next * states + next;
      if (state >= phase && state < 2 * phase && !marks) target = 2 * phase + next * states + other;
      if (state >= 2 * phase && state < 3 * phase && !marks) target = 3 * phase + member * states + next_other;
      if (state >= 3 * phase && state < dead && !marks) target = 3 * phase + next * states + next_other;
      transitions.push_back(static_cast<int32_t>(target));
    }
    accepting.push_back(state >= 3 * phase && state < dead && of.accepts(member) && !of.accepts(other));
  }
  return automaton(symbols + 1, transitions, accepting);
}

// Strings over some symbols, of which the last must be the first symbol.
Automaton ends_with_first(int32_t symbols) {
  std::vector<int32_t> transitions;
  for (int32_t i = 0; i < 2 * symbols; ++i) transitions.push_back(i % symbols == 0);
  return automaton(symbols, transitions, {0, 1});
}

// Of each length there must be members that are none with another symbol.
void check_regular(const std::string& name, const Automaton& each, std::vector<Recipe> recipes, const Spacing& spacing) {
  const LanguageFrame frame{each.symbols, 0, longest};
  recipes.insert(recipes.end(), {{"uniform", {}, ""}, {"hard", {}, ""}});
  for (const Recipe& recipe : recipes) {
    check_language(*make_language_sampler(each, each, recipe, frame), spacing, name + " " + recipe.kind + " " + recipe.edit);
  }
  check_language(*make_language_sampler(each, complement(each), {"uniform", {}, ""}, frame), spacing, name + " negative");
  for (const char* edit : {"corrupted", "original"}) {
    check_language(*make_language_sampler(each, replacements(each), {"uniform", {}, edit}, frame), spacing, name + " " + edit);
  }
}

void check_regular_languages() {
  check_regular("(10)*", automaton(2, {1, 2, 1, 1, 0, 1}, {1, 0, 0}), {{"repeat", {{1, 0}}, ""}}, {0, 2});
  check_regular("no odd run of 0s after an odd run of 1s", automaton(2, {0, 1, 2, 0, 3, 4, 2, 1, 4, 4}, {1, 1, 0, 1, 0}),
                {{"runs", {}, ""}}, {2, 1});
  check_regular("no 000", automaton(2, {1, 0, 2, 0, 3, 0, 3, 3}, {1, 1, 1, 0}), {{"coins", {}, ""}}, {3, 1});
  check_regular("brackets two deep", automaton(2, {1, 2, 3, 0, 2, 2, 2, 1}, {1, 0, 0, 0}), {{"nested", {{2}}, ""}}, {0, 2});
  check_regular("{a,b}*d{b,c}*", automaton(4, {0, 0, 1, 2, 1, 1, 1, 1, 1, 2, 2, 1}, {0, 0, 1}),
                {{"blocks", {{0, longest, 0, 2}, {1, 1, 3, 1}, {0, longest, 1, 2}}, ""}}, {1, 1});
  for (const int32_t symbols : {5, 9, 50}) check_regular("ends with the first", ends_with_first(symbols), {}, {1, 1});
}

// A machine without a transition yet.
CounterMachine machine(int64_t symbols, std::vector<int64_t> start, int64_t states) {
  const auto counters = static_cast<int64_t>(start.size());
  const auto cells = static_cast<size_t>((states << counters) * symbols);
  CounterMachine found{symbols, counters, start, std::vector<int32_t>(cells, -1),
                       std::vector<int64_t>(cells * static_cast<size_t>(counters)), {}};
  for (int64_t i = 0; i <= states << counters; ++i) found.labels.push_back(static_cast<uint8_t>(i));
  return found;
}

void add(CounterMachine& to, int64_t situation, int64_t symbol, int32_t next, const std::vector<int64_t>& changes) {
  const auto cell = static_cast<size_t>(situation * to.symbols + symbol);
  to.next_states[cell] = next;
  std::copy(changes.begin(), changes.end(), to.changes.begin() + static_cast<int64_t>(cell * changes.size()));
}

CounterMachine brackets(int64_t kinds) {
  CounterMachine found = machine(2 * kinds, std::vector<int64_t>(static_cast<size_t>(kinds)), 1);
  for (int64_t mask = 0; mask < int64_t{1} << kinds; ++mask) {
    for (int64_t kind = 0; kind < kinds; ++kind) {
      std::vector<int64_t> change(static_cast<size_t>(kinds));
      change[static_cast<size_t>(kind)] = 1;
      add(found, mask, 2 * kind, 0, change);
      change[static_cast<size_t>(kind)] = -1;
      if (mask >> kind & 1) add(found, mask, 2 * kind + 1, 0, change);
    }
  }
  return found;
}

CounterMachine expressions(const std::vector<int64_t>& arities) {
  CounterMachine found = machine(static_cast<int64_t>(arities.size()), {1}, 1);
  for (size_t symbol = 0; symbol < arities.size(); ++symbol) add(found, 1, static_cast<int64_t>(symbol), 0, {arities[symbol] - 1});
  return found;
}

// Blocks of equal length: the first symbol raises all counters, each of the others lowers its own.
CounterMachine equal_blocks(int64_t symbols) {
  const int64_t counters = symbols - 1;
  CounterMachine found = machine(symbols, std::vector<int64_t>(static_cast<size_t>(counters)), symbols + 1);
  for (int64_t state = 0; state <= symbols; ++state) {
    for (int64_t mask = 0; mask < int64_t{1} << counters; ++mask) {
      const int64_t situation = state << counters | mask;
      if (state < 2) add(found, situation, 0, 1, std::vector<int64_t>(static_cast<size_t>(counters), 1));
      for (int64_t symbol = std::max<int64_t>(1, state - 1); state > 0 && symbol <= std::min(state, counters); ++symbol) {
        const int64_t own = int64_t{1} << (symbol - 1);
        if ((mask & (2 * own - 1)) != own) continue;  // the counters of the symbols before must be zero
        std::vector<int64_t> change(static_cast<size_t>(counters));
        change[static_cast<size_t>(symbol - 1)] = -1;
        add(found, situation, symbol, static_cast<int32_t>(symbol + 1), change);
      }
    }
  }
  return found;
}

// `inside` is the situation of members.
void check_counting(const std::string& name, const CounterMachine& each, int64_t inside, std::vector<Recipe> recipes,
                    const Spacing& spacing) {
  const LanguageFrame frame{each.symbols, inside, longest};
  recipes.push_back({"outsiders", {}, ""});
  recipes.push_back({recipes[0].kind, recipes[0].numbers, "corrupted"});
  for (const Recipe& recipe : recipes) {
    check_language(*make_language_sampler(each, recipe, frame), spacing, name + " " + recipe.kind + " " + recipe.edit);
  }
}

void check_counting_languages() {
  check_counting("brackets", brackets(1), 0, {{"balanced", {}, ""}, {"hard_counting", {{0, 0, 0, 1}, {1, 0, 1}, {2, 0, 1}}, ""}},
                 {0, 2});
  check_counting("brackets of two kinds", brackets(2), 0, {{"shuffled", {}, ""}}, {0, 2});
  for (int64_t symbols : {2, 3, 4}) {
    check_counting("equal blocks", equal_blocks(symbols), symbols << (symbols - 1), {{"equal_blocks", {}, ""}},
                   {static_cast<int32_t>(symbols), static_cast<int32_t>(symbols)});
  }
  check_counting("expressions", expressions({0, 0, 1, 2, 3}), 0, {{"trees", {{0, 0, 1, 2, 3}}, ""}}, {1, 1});
}

}  // namespace

int main() {
  check_regular_languages();
  check_counting_languages();
  std::puts("clean");
}
