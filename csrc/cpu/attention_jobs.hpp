// What attention on a CPU computes, and its division: a problem into jobs (the queries of one sequence and head, or a part of
// them), a job into blocks of query rows, a block into tiles; with the working memory of each.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "loops.hpp"

namespace lengen::cpu {

inline constexpr int64_t block_rows = 96;     // queries of a block, a multiple of tile_rows
inline constexpr int64_t stretch_keys = 256;  // keys whose scores with a block's rows, and whose columns, stay in cache
inline constexpr int64_t rows_of_a_part = 512;
inline constexpr int64_t most_parts = 4;      // into which the queries of one sequence and head are divided among threads
inline constexpr int64_t enough_jobs = 8;     // sequences and heads from which no sequence is divided
inline constexpr size_t cache_line = 64;      // bytes

// Row r, head h begins at data + r * row + h * head.
template <class T>
struct Rows {
  T* data = nullptr;
  int64_t row = 0, head = 0;

  T* at(int64_t r, int64_t h) const { return data + r * row + h * head; }
};

enum class Beyond { last, zero, line };

// What stands beyond the table of distances: see value_of.
struct DistanceBias {
  const float* table = nullptr;  // [models, heads, width]
  const float* slope = nullptr;  // [models, heads], for a line
  int64_t models = 1, width = 0;
  Beyond beyond = Beyond::last;
};

struct Problem {
  int64_t sequences, heads, key_heads, width;  // key_heads is heads, or 1 for keys that all heads share
  const int64_t* bounds;                       // [sequences + 1]
  const int64_t* query_rows = nullptr;         // [queries] increasing rows of k, or null: every row
  int64_t queries;
  Rows<const float> q, k, v;
  float scale;
  int64_t window = 0;  // keys that a query sees at most; 0: all
  DistanceBias bias{};
  Rows<const float> key_bias{}, logit_scale{};  // one number per row and head

  // Whether bounds and query_rows stay within `rows` rows of k, so that nothing else is read.
  bool fits(int64_t rows) const {
    if (bounds[0] != 0 || bounds[sequences] != rows) return false;
    for (int64_t s = 0; s < sequences; ++s) {
      if (bounds[s + 1] < bounds[s]) return false;
    }
    if (query_rows == nullptr) return queries == rows;
    for (int64_t i = 0; i < queries; ++i) {
      if (query_rows[i] < (i == 0 ? 0 : query_rows[i - 1] + 1) || query_rows[i] >= rows) return false;
    }
    return true;
  }
};

struct Output {
  Rows<float> out;
  Softmax* softmax;  // [queries, heads]
};

struct Gradients {
  Rows<const float> grad_out, out;
  const Softmax* softmax;
  Rows<float> q, k, v;
  float* table = nullptr;  // [models, heads, width]
  Rows<float> key_bias{}, logit_scale{};
};

// ---- working memory ----

// Memory of one thread, kept between jobs; contents left from before. It begins on a cache line, so that the widest vectors
// of rows that do so too never lie across two.
class Memory {
 public:
  float* of(int64_t count) {
#ifdef __SANITIZE_ADDRESS__
    grow(count);  // exactly, so that the sanitizer sees every step beyond
#else
    if (size_ < count) grow(count + count / 4);
#endif
    return floats_.get();
  }

 private:
  struct Free {
    void operator()(float* floats) const { ::operator delete(floats, std::align_val_t{cache_line}); }
  };

  void grow(int64_t count) {
    floats_.reset();
    floats_.reset(static_cast<float*>(::operator new(static_cast<size_t>(count) * sizeof(float), std::align_val_t{cache_line})));
    size_ = count;
  }

  std::unique_ptr<float, Free> floats_;
  int64_t size_ = 0;
};

// So many floats or more that fill an odd number of cache lines: the lines of one column then lie in different sets of a cache,
// where a power of two would have them drive each other out.
inline int64_t odd_lines(int64_t count) { return ((count + wide_lanes - 1) / wide_lanes | 1) * wide_lanes; }

struct Scratch {
  Memory keys_across, values_across, scores, products, bias, bias_gradient, key_bias, key_bias_gradient;
  Memory q, k, v, out, grad_out, dq, dk, dv;

  static Scratch& of_this_thread() {
    static thread_local Scratch scratch;
    return scratch;
  }
};

inline constexpr int64_t many_rows = 256;  // from which they are copied to lines that keep out of each other's way

// Rows of one sequence and head whose width is a whole number of vectors: themselves, or a padded copy.
struct Panel {
  float* data;
  int64_t row;

  float* at(int64_t r) const { return data + r * row; }
};

inline Panel read_panel(const float* data, int64_t row, int64_t rows, int64_t width, Memory& memory) {
  const int64_t padded = whole_vectors(width);
  if (padded == width && rows < many_rows) return {const_cast<float*>(data), row};
  const int64_t to_row = rows < many_rows ? padded : odd_lines(width);
  float* const copy = memory.of(rows * to_row);
  for (int64_t r = 0; r < rows; ++r) {
    std::copy_n(data + r * row, width, copy + r * to_row);
    std::fill(copy + r * to_row + width, copy + r * to_row + padded, 0.0f);
  }
  return {copy, to_row};
}

inline Panel write_panel(float* data, int64_t row, int64_t rows, int64_t width, Memory& memory) {
  const int64_t padded = whole_vectors(width);
  if (padded == width) return {data, row};
  return {memory.of(rows * padded), padded};
}

inline void clear(const Panel& panel, int64_t rows, int64_t width) {
  for (int64_t r = 0; r < rows; ++r) std::fill_n(panel.at(r), width, 0.0f);
}

// ---- one sequence and head ----

// The queries of one sequence that one job computes. With shared keys and no bias the heads of a row are so many queries.
struct Job {
  const Problem& problem;
  int64_t sequence, head;        // head is 0 when folded
  int64_t fold;                  // queries per row: all heads, or 1
  int64_t first_row, first_key;  // of the sequence, in q and in k
  int64_t begin, end;            // queries, counted from the first of the sequence
  int64_t low, high;             // keys that they need

  int64_t last_of(int64_t query) const {
    const int64_t row = first_row + query / fold;
    return problem.query_rows == nullptr ? row - first_key : problem.query_rows[row] - first_key;
  }
  int64_t first_of(int64_t query) const {
    return problem.window == 0 ? 0 : std::max<int64_t>(0, last_of(query) - problem.window + 1);
  }
  template <class T>
  T* query(const Rows<T>& rows, int64_t query) const {
    return fold == 1 ? rows.at(first_row + query, head) : rows.data + (first_row * fold + query) * rows.head;
  }
  int64_t query_stride(int64_t row, int64_t head_stride) const { return fold == 1 ? row : head_stride; }
  int64_t key_head() const { return problem.key_heads == 1 ? 0 : head; }
};

struct Plan {
  bool folded;
  int64_t heads, parts;             // jobs: sequences * heads * parts
  std::vector<int64_t> first_query;  // [sequences + 1]

  explicit Plan(const Problem& problem) {
    const bool folds = problem.q.row == problem.heads * problem.q.head;
    folded = problem.key_heads == 1 && problem.heads > 1 && folds && problem.bias.table == nullptr &&
             problem.key_bias.data == nullptr && problem.logit_scale.data == nullptr;
    heads = folded ? 1 : problem.heads;
    first_query.assign(problem.bounds, problem.bounds + problem.sequences + 1);
    if (problem.query_rows != nullptr) {
      int64_t query = 0;
      for (int64_t s = 0; s <= problem.sequences; ++s) {
        while (query < problem.queries && problem.query_rows[query] < problem.bounds[s]) ++query;
        first_query[static_cast<size_t>(s)] = query;
      }
    }
    int64_t most = 0;
    for (int64_t s = 0; s < problem.sequences; ++s) most = std::max(most, queries_of(problem, s));
    const int64_t wanted = (enough_jobs + problem.sequences * heads - 1) / std::max<int64_t>(1, problem.sequences * heads);
    parts = std::clamp<int64_t>(most / rows_of_a_part, 1, std::min(wanted, most_parts));
  }

  int64_t queries_of(const Problem& problem, int64_t sequence) const {
    const auto s = static_cast<size_t>(sequence);
    return (first_query[s + 1] - first_query[s]) * (folded ? problem.heads : 1);
  }

  int64_t jobs(const Problem& problem) const { return problem.sequences * heads * parts; }
  int64_t part_of(int64_t i) const { return i % parts; }

  Job job(const Problem& problem, int64_t i) const {
    const int64_t sequence = i / parts / heads, head = i / parts % heads, part = part_of(i);
    Job job{problem, sequence, head, folded ? problem.heads : 1, first_query[static_cast<size_t>(sequence)],
            problem.bounds[sequence], 0, 0, 0, 0};
    const int64_t queries = queries_of(problem, sequence);
    job.begin = bound_of_part(queries, part);
    job.end = bound_of_part(queries, part + 1);
    if (job.begin < job.end) {
      job.low = job.first_of(job.begin) / lanes * lanes;
      job.high = job.last_of(job.end - 1) + 1;
    }
    return job;
  }

  // Parts of equal area below the diagonal.
  int64_t bound_of_part(int64_t queries, int64_t part) const {
    if (part == parts) return queries;
    const double share = std::sqrt(static_cast<double>(part) / static_cast<double>(parts));
    return static_cast<int64_t>(share * static_cast<double>(queries)) / tile_rows * tile_rows;
  }
};

// Numbers that hold every distance of a job, and those of the keys that follow a row in its tile.
inline int64_t distances_of(const Job& job) {
  return job.high + (job.problem.query_rows == nullptr ? tile_rows : job.high) + 2 * lanes;
}

// Rows of one sequence and head across: of each `stretch_keys` of them [width][rows], so that a column is never far from the next.
struct Across {
  float* data;
  int64_t width, row;

  Across(const float* from, int64_t from_row, int64_t rows, int64_t width, Memory& memory)
      : width(width), row(odd_lines(std::min(rows, stretch_keys))) {
    data = memory.of((rows + stretch_keys - 1) / stretch_keys * width * row);
    for (int64_t r = 0; r < rows; r += stretch_keys) {
      transpose(from + r * from_row, from_row, std::min(stretch_keys, rows - r), width, data + r / stretch_keys * width * row, row);
    }
  }

  float* at(int64_t r) const { return data + r / stretch_keys * width * row + r % stretch_keys; }
};

// The keys low..high-1 of a job, across, and the biases by key.
struct Keys {
  const Job& job;
  Across across;
  const float* key_bias = nullptr;  // [high - low] and the rest of its last vector
  const float* by_distance = nullptr;
  int64_t longest = 0;  // by_distance[x] is the bias of distance longest - x

  Keys(const Job& job, Scratch& scratch)
      : job(job), across(job.problem.k.at(job.first_key + job.low, job.key_head()), job.problem.k.row, job.high - job.low,
                         job.problem.width, scratch.keys_across) {
    if (job.problem.key_bias.data != nullptr) gather_key_bias(scratch.key_bias.of(whole_vectors(job.high - job.low)));
    if (job.problem.bias.table != nullptr) spread_table(scratch.bias);
  }

  ScoreRow row(int64_t query, float factor) const {
    const int64_t last = job.last_of(query);
    const float* const bias = by_distance == nullptr ? nullptr : by_distance + (longest - last) + job.low;
    return {job.first_of(query) - job.low, last - job.low, factor, key_bias, bias};
  }

 private:
  void gather_key_bias(float* to) {
    const auto& from = job.problem.key_bias;
    for (int64_t key = 0; key < job.high - job.low; ++key) to[key] = *from.at(job.first_key + job.low + key, job.head);
    std::fill(to + (job.high - job.low), to + whole_vectors(job.high - job.low), 0.0f);
    key_bias = to;
  }

  void spread_table(Memory& memory) {
    const DistanceBias& bias = job.problem.bias;
    const int64_t which = job.sequence / (job.problem.sequences / bias.models) * job.problem.heads + job.head;
    const float* const table = bias.table + which * bias.width;
    const float slope = bias.beyond == Beyond::line ? bias.slope[which] : 0.0f;
    longest = job.high - 1;
    float* const to = memory.of(distances_of(job));
    for (int64_t distance = 0; distance < job.high; ++distance) {
      const int64_t past = distance - bias.width + 1;
      const float value = past <= 0                           ? table[distance]
                          : bias.beyond == Beyond::zero       ? 0.0f
                                                              : table[bias.width - 1] + slope * static_cast<float>(past);
      to[longest - distance] = value;
    }
    std::fill(to + job.high, to + distances_of(job), 0.0f);
    by_distance = to;
  }
};

// Rows begin..end-1 of a job, in tiles whose keys are whole vectors.
struct Block {
  const Job& job;
  int64_t begin, end;
  int64_t low, high;  // keys from job.low, whole vectors

  Block(const Job& job, int64_t begin) : job(job), begin(begin), end(std::min(job.end, begin + block_rows)) {
    low = tile_low(begin);
    high = tile_high(end - 1);
  }

  int64_t tile_low(int64_t first) const { return (job.first_of(first) - job.low) / lanes * lanes; }
  int64_t tile_high(int64_t last) const { return whole_vectors(job.last_of(last) + 1 - job.low); }

  // Calls visit(first query, count, first key, last key + 1), for the part of every tile in keys from..to-1.
  template <class Visit>
  void for_each_tile(int64_t from, int64_t to, Visit&& visit) const {
    for (int64_t first = begin; first < end; first += tile_rows) {
      const int64_t count = std::min(tile_rows, end - first);
      const int64_t key_begin = std::max(from, tile_low(first)), key_end = std::min(to, tile_high(first + count - 1));
      if (key_begin < key_end) visit(first, count, key_begin, key_end);
    }
  }
};

// The keys low..high-1 of a block, whole vectors, of which something stands in a buffer for each of its rows.
struct Stretch {
  const Block& block;
  int64_t low, high;

  int64_t row_of_buffer() const { return odd_lines(high - low); }
  int64_t size_of_buffer() const { return (block.end - block.begin) * row_of_buffer(); }
  // Of `low`, for one row.
  float* in(float* buffer, int64_t query) const { return buffer + (query - block.begin) * row_of_buffer(); }

  template <class Visit>
  void for_each_tile(Visit&& visit) const {
    block.for_each_tile(low, high, visit);
  }

  // The same for neighbouring tiles with the same keys, all of them as one, if they also agree whether these are their first keys.
  template <class Visit>
  void for_each_run(Visit&& visit) const {
    int64_t run_first = 0, run_count = 0, run_key = 0, run_end = 0;
    bool run_begins = false;
    for_each_tile([&](int64_t first, int64_t count, int64_t key, int64_t key_end) {
      const bool begins = key == block.tile_low(first);
      if (run_count > 0 && key == run_key && key_end == run_end && begins == run_begins) {
        run_count += count;
        return;
      }
      if (run_count > 0) visit(run_first, run_count, run_key, run_end, run_begins);
      run_first = first, run_count = count, run_key = key, run_end = key_end, run_begins = begins;
    });
    if (run_count > 0) visit(run_first, run_count, run_key, run_end, run_begins);
  }

  // Calls visit(first key, last key + 1, first query, last query + 1) for neighbouring vectors of keys, those below `keys`, that the
  // same tiles have.
  template <class Visit>
  void for_each_run_of_keys(int64_t keys, Visit&& visit) const {
    int64_t first = block.begin, end = block.begin, run_key = low, run_first = 0, run_end = 0;
    const auto finish_run = [&](int64_t key_end) {
      if (run_first < run_end) visit(run_key, key_end, run_first, run_end);
    };
    for (int64_t key = low; key < high; key += lanes) {
      while (first < block.end && block.tile_high(std::min(block.end, first + tile_rows) - 1) <= key) first += tile_rows;
      while (end < block.end && block.tile_low(end) <= key) end += tile_rows;
      if (first == run_first && std::min(end, block.end) == run_end) continue;
      finish_run(key);
      run_key = key, run_first = first, run_end = std::min(end, block.end);
    }
    finish_run(std::min(high, keys));
  }
};

// All of them end at multiples of stretch_keys, but for the last.
template <class Visit>
void for_each_stretch(const Block& block, Visit&& visit) {
  for (int64_t low = block.low, high; low < block.high; low = high) {
    high = std::min(block.high, (low / stretch_keys + 1) * stretch_keys);
    visit(Stretch{block, low, high});
  }
}

}  // namespace lengen::cpu
