// Exercises the engine without Python, for the sanitizers: every sampler, distribution and edge length, and the stream.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "driver.hpp"
#include "registry.hpp"
#include "stream.hpp"

using namespace lengen;

namespace {

// A sampler by its name, the size of its alphabet (0: several), and its parameters.
struct Named {
  const char* task;
  int64_t symbols;
  Parameters parameters;
};

const std::vector<Named> named = {
    {"binary_majority", 2, {}},
    {"majority", 26, {}},
    {"binary_majority_interleave", 2, {}},
    {"unique_copy", 0, {}},
    {"repeat_copy", 2, {}},
    {"sort", 0, {}},
    {"parity", 4, {}},
    {"addition", 4, {}},
    {"addition", 4, {1, 3, 60, 66}},
    {"offset_copy_1", 0, {}},
    {"offset_copy_2", 0, {}},
    {"offset_copy_3", 0, {}},
    {"mode", 2, {}},
    {"mode", 10, {}},
    {"mode", 256, {}},
    {"histogram", 0, {}},
    {"count", 4, {1}},
    {"count", 4, {5}},
    {"reverse", 2, {}},
    {"duplicate", 2, {}},
    {"selective_copy", 17, {}},
    {"bucket_sort", 2, {}},
    {"bucket_sort", 5, {}},
    {"bucket_sort", 256, {}},
    {"modular_sum", 5, {}},
    {"modular_sum", 256, {}},
    {"cycle_navigation", 8, {5}},
    {"flip_flop", 5, {}},
    {"word_problem", 2, {0, 0, 1, 1, 1}},
    {"word_problem", 3, {2, 0, 0, 0, 1, 1, 1, 0, 1, 2}},
    {"mqar", 0, {}},
    {"induction_head", 17, {}},
    {"decimal_addition", 12, {}},
    {"decimal_addition", 12, {1, 4, 1, 9}},
    {"decimal_addition", 12, {1, 3, 1, 1000}},
    {"addition", 4, {1, 3, 1, 1000}},
    {"decimal_addition_reversed", 12, {}},
    {"multi_operand_addition", 12, {}},
    {"multi_operand_addition", 12, {2, 99, 1, 9}},
    {"multi_operand_addition_reversed", 12, {}},
};

void check_task(const Named& task, const std::string& distribution) {
  const std::string name = task.task + (" " + distribution);
  const std::vector<int64_t> several = {1, 2, 63, 64, 65, 150, 255, 256, 257, 5000, 70000};
  for (const int64_t symbols : task.symbols == 0 ? several : std::vector{task.symbols}) {
    const auto sampler = make_sampler(task.task, distribution, symbols, task.parameters);
    if (sampler->longest() >= sampler->shortest()) check_sampler(*sampler, name);
  }
}

void check_refused(const Named& task) {
  bool thrown = false;
  try {
    make_sampler(task.task, "paper", task.symbols, task.parameters);
  } catch (const std::invalid_argument&) {
    thrown = true;
  }
  require(thrown, std::string("wrong parameters are taken by ") + task.task);
}

// Fails at one step, if asked to.
class Steps final : public StepSource {
 public:
  explicit Steps(uint64_t failing) : failing_(failing) {}

  Batch draw(uint64_t step) const override {
    if (step == failing_) throw std::runtime_error("this step fails");
    Request request = request_for(*sampler_, 1, 50, 8, 1);
    request.stream = step;
    return sample_rows(*sampler_, request);
  }

 private:
  std::unique_ptr<RowSampler> sampler_ = make_sampler("sort", "paper", 150);
  uint64_t failing_;
};

constexpr uint64_t never = ~uint64_t{0};

Stream::State wait_for(Stream& stream, std::optional<Batch>& batch) {
  Stream::State state;
  do {
    state = stream.next(std::chrono::milliseconds(10), batch);
  } while (state == Stream::State::waiting);
  return state;
}

void check_order(size_t capacity, int threads) {
  const auto source = std::make_shared<Steps>(never);
  Stream stream(source, 100, 180, capacity, threads);
  std::optional<Batch> batch;
  for (uint64_t step = 100; step < 180; ++step) {
    require(wait_for(stream, batch) == Stream::State::ready, "the stream ended early");
    require(same(*batch, source->draw(step)), "the stream delivers another batch");
  }
  require(wait_for(stream, batch) == Stream::State::ended, "the stream goes on past its end");
}

void check_error(int threads) {
  Stream stream(std::make_shared<Steps>(5), 0, never, 4, threads);
  std::optional<Batch> batch;
  for (int step = 0; step < 5; ++step) require(wait_for(stream, batch) == Stream::State::ready, "the stream ended early");
  for (int attempt = 0; attempt < 2; ++attempt) {
    bool thrown = false;
    try {
      wait_for(stream, batch);
    } catch (const std::runtime_error&) {
      thrown = true;
    }
    require(thrown, "the error of a producer got lost");
  }
}

void check_early_close(int threads) {
  for (int taken = 0; taken < 4; ++taken) {
    Stream stream(std::make_shared<Steps>(never), 0, never, 3, threads);
    std::optional<Batch> batch;
    for (int i = 0; i < taken; ++i) wait_for(stream, batch);
    if (taken % 2 == 0) stream.close();
  }
}

void check_close_from_another_thread(int threads) {
  Stream stream(std::make_shared<Steps>(never), 0, never, 3, threads);
  std::thread closer([&stream] { stream.close(); });
  std::optional<Batch> batch;
  while (wait_for(stream, batch) == Stream::State::ready) {
  }
  closer.join();
}

void check_many_consumers(int threads) {
  Stream stream(std::make_shared<Steps>(never), 0, 100, 4, threads);
  std::atomic<int> taken = 0;
  std::vector<std::jthread> consumers;
  for (int i = 0; i < 3; ++i) {
    consumers.emplace_back([&] {
      std::optional<Batch> batch;
      while (wait_for(stream, batch) == Stream::State::ready) ++taken;
    });
  }
  consumers.clear();
  require(taken == 100, "several consumers do not get every batch once");
}

void check_shared_helpers() {
  const auto sampler = make_sampler("addition", "paper", 150);
  std::vector<std::jthread> callers;
  for (uint64_t stream = 0; stream < 3; ++stream) {
    callers.emplace_back([&sampler, stream] {
      for (int round = 0; round < 20; ++round) {
        Request request = request_for(*sampler, 4, 60, 90, 1);
        request.stream = stream;
        const Batch expected = sample_rows(*sampler, request);
        request.threads = 3;
        require(same(expected, sample_rows(*sampler, request)), "callers that share helpers get another batch");
      }
    });
  }
}

void check_error_of_a_part() {
  bool thrown = false;
  try {
    in_parallel(20, 3, [](int64_t part) {
      if (part % 7 == 3) throw std::runtime_error("this part fails");
    });
  } catch (const std::runtime_error&) {
    thrown = true;
  }
  require(thrown, "the error of a part got lost");
}

}  // namespace

int main() {
  check_shared_helpers();
  check_error_of_a_part();
  for (const Named& task : {Named{"count", 4, {}}, Named{"mode", 1, {}}, Named{"mode", 257, {}}, Named{"addition", 4, {1, 2}},
                            Named{"addition", 4, {1, longest_length, 1, longest_length}}, Named{"word_problem", 2, {}},
                            Named{"word_problem", 2, {0, 0, 1, 1, 2}}, Named{"multi_operand_addition", 12, {1, 2, 3, 4}}}) {
    check_refused(task);
  }
  for (const Named& task : named) {
    for (const char* distribution : {"paper", "hard"}) check_task(task, distribution);
  }
  for (const int threads : {1, 2, 4}) {
    for (const size_t capacity : {1, 3}) check_order(capacity, threads);
    check_error(threads);
    check_early_close(threads);
    check_close_from_another_thread(threads);
    check_many_consumers(threads);
  }
  std::puts("clean");
}
