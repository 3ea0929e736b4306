// The distributions of languages, by name.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "brackets.hpp"
#include "coin_walk.hpp"
#include "counter_machine.hpp"
#include "edits.hpp"
#include "hard_counting.hpp"
#include "hard_walk.hpp"
#include "labels.hpp"
#include "rows.hpp"
#include "shapes.hpp"
#include "strings.hpp"
#include "trees.hpp"
#include "uniform_walk.hpp"

namespace lengen {

// How strings are drawn: the kind, and numbers whose meaning it knows. `edit` is "", or "corrupted" for strings with one symbol
// replaced, or "original" for the members they come from.
struct Recipe {
  std::string kind;
  std::vector<std::vector<int64_t>> numbers;
  std::string edit;

  const std::vector<int64_t>& only() const {
    if (numbers.size() != 1) throw std::invalid_argument("recipe '" + kind + "' takes one list of numbers");
    return numbers[0];
  }
  int64_t number() const {
    if (only().size() != 1) throw std::invalid_argument("recipe '" + kind + "' takes one number");
    return only()[0];
  }
};

// What rows are made with, beside the strings: the token of BOS, the label of a member, the longest length.
struct LanguageFrame {
  int64_t bos, inside, longest;
};

inline uint8_t as_symbol(int64_t number, int64_t symbols) {
  if (number < 0 || number >= symbols) throw std::invalid_argument("a recipe names symbol " + std::to_string(number));
  return static_cast<uint8_t>(number);
}

inline std::vector<uint8_t> as_word(const std::vector<int64_t>& numbers, size_t first, int64_t symbols) {
  std::vector<uint8_t> word;
  for (size_t i = first; i < numbers.size(); ++i) word.push_back(as_symbol(numbers[i], symbols));
  return word;
}

// Each block is (least length, greatest length, first symbol, symbols).
inline Blocks blocks(const Recipe& recipe, int64_t symbols) {
  std::vector<Blocks::Block> found;
  for (const auto& block : recipe.numbers) {
    if (block.size() != 4 || block[0] < 0 || block[1] < block[0] || block[3] < 1) throw std::invalid_argument("a block is wrong");
    as_symbol(block[2] + block[3] - 1, symbols);
    found.push_back({block[0], block[1], as_symbol(block[2], symbols), static_cast<uint8_t>(block[3])});
  }
  if (found.empty()) throw std::invalid_argument("there are no blocks");
  return Blocks(std::move(found));
}

// Lists that begin with what they are: 0 (counter, symbol, by) a rise, 1 (counter, symbol) a fall, 2 (symbols) a neutral word,
// 3 that a fall of the first counter ends each string.
inline CountingSymbols counting_symbols(const Recipe& recipe, int64_t symbols) {
  CountingSymbols found;
  for (const auto& list : recipe.numbers) {
    const int64_t what = list.empty() ? -1 : list[0];
    const bool counts = (what == 0 && list.size() == 4) || (what == 1 && list.size() == 3);
    if (counts && list[1] >= 0 && list[1] < 3) {
      const auto counter = static_cast<size_t>(list[1]);
      found.counters.resize(std::max(found.counters.size(), counter + 1));
      if (what == 0) {
        found.counters[counter].rises.push_back({as_symbol(list[2], symbols), list[3]});
      } else {
        found.counters[counter].falls.push_back(as_symbol(list[2], symbols));
      }
    } else if (what == 2 && list.size() > 1) {
      found.neutral.push_back(as_word(list, 1, symbols));
    } else if (what == 3) {
      found.ends_with_fall = true;
    } else {
      throw std::invalid_argument("a recipe of hard counting is wrong");
    }
  }
  return found;
}

template <class Draw>
std::shared_ptr<const Strings> strings_of(Draw draw) {
  return std::make_shared<StringsOf<Draw>>(std::move(draw));
}

// Strings of a regular language, drawn from its automaton or, for other strings, from the complement.
inline std::shared_ptr<const Strings> regular_strings(const Automaton& automaton, const Recipe& recipe, int64_t longest) {
  const std::string& kind = recipe.kind;
  if (kind == "uniform") return strings_of(UniformWalk(automaton, longest));
  if (kind == "hard") return strings_of(HardWalk(automaton));
  if (kind == "repeat") return strings_of(RepeatedWord(as_word(recipe.only(), 0, automaton.symbols)));
  if (kind == "blocks") return strings_of(blocks(recipe, automaton.symbols));
  if (kind == "nested") return strings_of(NestedBlocks(recipe.number()));
  if (kind == "runs") return strings_of(Runs(automaton));
  if (kind == "coins") return strings_of(CoinWalk(automaton));
  throw std::invalid_argument("unknown recipe '" + kind + "'");
}

template <class Members>
std::shared_ptr<const Strings> counting_strings(const CounterMachine& machine, const Members& members, const Recipe& recipe,
                                                int64_t longest) {
  const std::string& kind = recipe.kind;
  if (kind == "balanced") return strings_of(BalancedBrackets());
  if (kind == "shuffled") return strings_of(ShuffledBrackets());
  if (kind == "equal_blocks") return strings_of(EqualBlocks(machine.symbols));
  if (kind == "trees") return strings_of(Trees(recipe.only(), longest));
  if (kind == "hard_counting") return strings_of(HardCounting(counting_symbols(recipe, machine.symbols)));
  if (kind == "outsiders") return strings_of(Outsiders<Members>(members, machine.symbols));
  throw std::invalid_argument("unknown recipe '" + kind + "'");
}

// Whether the edit of a recipe is to be taken back.
inline bool undone(const Recipe& recipe) {
  if (recipe.edit != "corrupted" && recipe.edit != "original") throw std::invalid_argument("unknown edit '" + recipe.edit + "'");
  return recipe.edit == "original";
}

// `walked` has one symbol more than the language, the mark; see Replaced.
inline std::shared_ptr<const Strings> replaced(const Automaton& walked, int64_t symbols, const Recipe& recipe, int64_t longest) {
  const bool original = undone(recipe);
  if (walked.symbols != symbols + 1) throw std::invalid_argument("the automaton of an edit has one symbol more than the language");
  try {
    return strings_of(Replaced(UniformWalk(walked, longest + Replaced::beside), symbols, original));
  } catch (const std::length_error&) {
    throw std::length_error("counting the pairs of paths of " + std::to_string(longest) + " symbols in " +
                            std::to_string(walked.states()) + " pairs of states takes over 4 GiB; ask for shorter corrupted strings");
  }
}

// `walked` is the automaton that strings are drawn from: that of the language, its complement, or that of an edit.
inline std::unique_ptr<RowSampler> make_language_sampler(const Automaton& automaton, const Automaton& walked, const Recipe& recipe,
                                                         const LanguageFrame& frame) {
  automaton.check();
  walked.check();
  auto strings = recipe.edit.empty() ? regular_strings(walked, recipe, frame.longest)
                                     : replaced(walked, automaton.symbols, recipe, frame.longest);
  const PrefixLabels<0> labels(CounterMachine::of(automaton));
  return std::make_unique<LanguageRows<PrefixLabels<0>>>(std::move(strings), labels, frame.bos);
}

template <int64_t counters>
std::unique_ptr<RowSampler> make_counting_sampler(const CounterMachine& machine, const Recipe& recipe, const LanguageFrame& frame) {
  const PrefixLabels<counters> labels(machine);
  const CountingMembers<counters> members(labels, static_cast<uint8_t>(frame.inside));
  auto strings = counting_strings(machine, members, recipe, frame.longest);
  if (!recipe.edit.empty()) {
    strings = strings_of(Corrupted<CountingMembers<counters>>(std::move(strings), members, machine.symbols, undone(recipe)));
  }
  return std::make_unique<LanguageRows<PrefixLabels<counters>>>(std::move(strings), labels, frame.bos);
}

inline std::unique_ptr<RowSampler> make_language_sampler(const CounterMachine& machine, const Recipe& recipe,
                                                         const LanguageFrame& frame) {
  machine.check();
  switch (machine.counters) {
    case 1: return make_counting_sampler<1>(machine, recipe, frame);
    case 2: return make_counting_sampler<2>(machine, recipe, frame);
    default: return make_counting_sampler<3>(machine, recipe, frame);
  }
}

}  // namespace lengen
