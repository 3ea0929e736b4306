// The tasks the engine can draw, by name.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>

#include "tasks/arithmetic.hpp"
#include "tasks/copying.hpp"
#include "tasks/counting.hpp"
#include "tasks/sorting.hpp"

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

inline std::unique_ptr<RowSampler> make_sampler(const std::string& task, const std::string& distribution, int64_t symbols) {
  const bool hard = is_hard(distribution);
  check_symbols(symbols);
  if (task == "binary_majority") return std::make_unique<BinaryMajority>(hard);
  if (task == "majority") return std::make_unique<Majority>(hard);
  if (task == "binary_majority_interleave") return std::make_unique<BinaryMajorityInterleave>(hard);
  if (task == "unique_copy") return std::make_unique<UniqueCopy>(symbols, hard);
  if (task == "repeat_copy") return std::make_unique<RepeatCopy>(hard);
  if (task == "reverse") return std::make_unique<Reverse>(hard);
  if (task == "duplicate") return std::make_unique<Duplicate>(hard);
  if (task == "sort") return std::make_unique<Sort>(symbols, hard);
  if (task == "parity") return std::make_unique<Parity>(hard);
  if (task == "addition") return std::make_unique<Addition>(hard);
  if (task == "offset_copy_1") return std::make_unique<OffsetCopy<1>>(symbols, hard);
  if (task == "offset_copy_2") return std::make_unique<OffsetCopy<2>>(symbols, hard);
  if (task == "offset_copy_3") return std::make_unique<OffsetCopy<3>>(symbols, hard);
  throw std::invalid_argument("unknown task '" + task + "'");
}

}  // namespace lengen
