// The distributions of languages, by name.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "rows.hpp"
#include "shapes.hpp"
#include "walks.hpp"

namespace lengen {

// How strings are drawn: the kind, and numbers whose meaning it knows.
struct Recipe {
  std::string kind;
  std::vector<std::vector<int64_t>> numbers;

  const std::vector<int64_t>& only() const {
    if (numbers.size() != 1) throw std::invalid_argument("recipe '" + kind + "' takes one list of numbers");
    return numbers[0];
  }
  int64_t number() const {
    if (only().size() != 1) throw std::invalid_argument("recipe '" + kind + "' takes one number");
    return only()[0];
  }
};

inline uint8_t as_symbol(int64_t number, int64_t symbols) {
  if (number < 0 || number >= symbols) throw std::invalid_argument("a recipe names symbol " + std::to_string(number));
  return static_cast<uint8_t>(number);
}

inline RepeatedWord repeated_word(const Recipe& recipe, int64_t symbols) {
  std::vector<uint8_t> word;
  for (const int64_t symbol : recipe.only()) word.push_back(as_symbol(symbol, symbols));
  return RepeatedWord(word);
}

// Each block is (least length, greatest length, first symbol, symbols).
inline Blocks blocks(const Recipe& recipe, int64_t symbols) {
  std::vector<Blocks::Block> found;
  for (const auto& block : recipe.numbers) {
    if (block.size() != 4 || block[0] < 0 || block[1] < block[0] || block[3] < 1) throw std::invalid_argument("a block has four numbers");
    as_symbol(block[2] + block[3] - 1, symbols);
    found.push_back({block[0], block[1], as_symbol(block[2], symbols), static_cast<uint8_t>(block[3])});
  }
  if (found.empty()) throw std::invalid_argument("there are no blocks");
  return Blocks(std::move(found));
}

template <class Draw>
std::unique_ptr<RowSampler> language_rows(Draw draw, const Automaton& automaton, int64_t bos) {
  return std::make_unique<LanguageRows<Draw, PrefixLabels>>(std::move(draw), PrefixLabels(automaton), bos);
}

inline std::unique_ptr<RowSampler> make_language_sampler(const Automaton& automaton, const Recipe& recipe, int64_t bos,
                                                         int64_t longest) {
  automaton.check();
  if (recipe.kind == "repeat") return language_rows(repeated_word(recipe, automaton.symbols), automaton, bos);
  if (recipe.kind == "blocks") return language_rows(blocks(recipe, automaton.symbols), automaton, bos);
  if (recipe.kind == "nested") return language_rows(NestedBlocks(recipe.number()), automaton, bos);
  if (recipe.kind == "runs") return language_rows(Runs(automaton), automaton, bos);
  if (recipe.kind == "coins") return language_rows(CoinWalk(automaton), automaton, bos);
  if (recipe.kind == "uniform") return language_rows(UniformWalk(automaton, longest), automaton, bos);
  throw std::invalid_argument("unknown recipe '" + recipe.kind + "'");
}

}  // namespace lengen
