// The tasks the engine can draw, by name.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "tasks/arithmetic.hpp"
#include "tasks/copying.hpp"
#include "tasks/counting.hpp"
#include "tasks/decimal.hpp"
#include "tasks/recall.hpp"
#include "tasks/sorting.hpp"
#include "tasks/state_tracking.hpp"

namespace lengen {

inline bool is_hard(const std::string& distribution) {
  if (distribution == "paper") return false;
  if (distribution == "hard") return true;
  throw std::invalid_argument("unknown distribution '" + distribution + "'; it must be 'paper' or 'hard'");
}

inline void check_symbols(int64_t symbols) {
  if (symbols >= 1 && symbols <= longest_length) return;
  throw std::invalid_argument("symbols is " + std::to_string(symbols) + "; it must be in 1.." + std::to_string(longest_length));
}

using Parameters = std::vector<int64_t>;

inline int64_t only(const Parameters& parameters) {
  if (parameters.size() == 1 && parameters[0] >= 1 && parameters[0] <= longest_length) return parameters[0];
  throw std::invalid_argument("parameters must be one number in 1.." + std::to_string(longest_length));
}

// `symbols`: the size of an alphabet that is not fixed. `parameters`: what else there is to know, see the sampler of the task.
inline std::unique_ptr<RowSampler> make_sampler(const std::string& task, const std::string& distribution, int64_t symbols,
                                                const Parameters& parameters = {}) {
  const bool hard = is_hard(distribution);
  check_symbols(symbols);
  constexpr auto most_first = DigitOrder::most_significant_first, least_first = DigitOrder::least_significant_first;
  if (task == "binary_majority") return std::make_unique<BinaryMajority>(hard);
  if (task == "majority") return std::make_unique<Mode>(26, hard);
  if (task == "mode") return std::make_unique<Mode>(symbols, hard);
  if (task == "binary_majority_interleave") return std::make_unique<BinaryMajorityInterleave>(hard);
  if (task == "count") return std::make_unique<CountOnes>(only(parameters), hard);
  if (task == "histogram") return std::make_unique<Histogram>(symbols, hard);
  if (task == "unique_copy") return std::make_unique<UniqueCopy>(symbols, hard);
  if (task == "repeat_copy") return std::make_unique<RepeatCopy>(hard);
  if (task == "reverse") return std::make_unique<Reverse>(hard);
  if (task == "duplicate") return std::make_unique<Duplicate>(hard);
  if (task == "selective_copy") return std::make_unique<SelectiveCopy>(hard);
  if (task == "sort") return std::make_unique<Sort>(symbols, hard);
  if (task == "bucket_sort") return std::make_unique<BucketSort>(symbols, hard);
  if (task == "parity") return std::make_unique<Parity>(hard);
  if (task == "modular_sum") return std::make_unique<CycleWalk>(modular_sum(symbols, hard));
  if (task == "cycle_navigation") return std::make_unique<CycleWalk>(cycle_navigation(only(parameters), hard));
  if (task == "flip_flop") return std::make_unique<FlipFlop>(hard);
  if (task == "word_problem") return std::make_unique<WordProblem>(Monoid(parameters), hard);
  if (task == "mqar") return std::make_unique<AssociativeRecall>(symbols, hard);
  if (task == "induction_head") return std::make_unique<InductionHead>(hard);
  if (task == "addition") return std::make_unique<Addition>(hard, parameters);
  if (task == "decimal_addition") return std::make_unique<DecimalAddition>(false, most_first, hard, parameters);
  if (task == "decimal_addition_reversed") return std::make_unique<DecimalAddition>(false, least_first, hard, parameters);
  if (task == "multi_operand_addition") return std::make_unique<DecimalAddition>(true, most_first, hard, parameters);
  if (task == "multi_operand_addition_reversed") return std::make_unique<DecimalAddition>(true, least_first, hard, parameters);
  if (task == "offset_copy_1") return std::make_unique<OffsetCopy<1>>(symbols, hard);
  if (task == "offset_copy_2") return std::make_unique<OffsetCopy<2>>(symbols, hard);
  if (task == "offset_copy_3") return std::make_unique<OffsetCopy<3>>(symbols, hard);
  throw std::invalid_argument("unknown task '" + task + "'");
}

}  // namespace lengen
