// Exact causal attention of packed sequences in fp32, forward and backward, by blocks of query rows.
//
// A block's scores against all of its keys stand in a small buffer, so nothing of size T x T is made and the softmax is the plain
// one: the row maximum subtracted, the division at the end. Keys and values are read where they lie; only a transposed copy of
// the keys (and, backward, of the values) is made. Each sum has one order, whatever the number of threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "loops.hpp"
#include "workers.hpp"

namespace lengen::cpu {

inline constexpr int64_t block_rows = 48;     // queries of a block, a multiple of tile_rows
inline constexpr int64_t block_keys = 256;    // keys whose columns stay in cache while a block's rows pass
inline constexpr int64_t rows_of_a_part = 512;
inline constexpr int64_t most_parts = 4;      // into which the queries of one sequence and head are divided among threads
inline constexpr int64_t enough_jobs = 8;     // sequences and heads from which no sequence is divided

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

// Memory of one thread, kept between jobs; contents left from before.
class Memory {
 public:
  float* of(int64_t count) {
#ifdef __SANITIZE_ADDRESS__
    floats_ = std::vector<float>(static_cast<size_t>(count));  // exactly, so that the sanitizer sees every step beyond
#else
    if (static_cast<int64_t>(floats_.size()) < count) {
      floats_.clear();
      floats_.resize(static_cast<size_t>(count + count / 4));
    }
#endif
    return floats_.data();
  }

 private:
  std::vector<float> floats_;
};

struct Scratch {
  Memory keys_across, values_across, scores, products, bias, bias_gradient, key_bias, key_bias_gradient;
  Memory q, k, v, out, grad_out, dq, dk, dv;

  static Scratch& of_this_thread() {
    static thread_local Scratch scratch;
    return scratch;
  }
};

// Rows of one sequence and head whose width is a whole number of vectors: themselves, or a padded copy.
struct Panel {
  float* data;
  int64_t row;

  float* at(int64_t r) const { return data + r * row; }
};

inline Panel read_panel(const float* data, int64_t row, int64_t rows, int64_t width, Memory& memory) {
  const int64_t padded = whole_vectors(width);
  if (padded == width) return {const_cast<float*>(data), row};
  float* const copy = memory.of(rows * padded);
  std::fill_n(copy, rows * padded, 0.0f);
  for (int64_t r = 0; r < rows; ++r) std::copy_n(data + r * row, width, copy + r * padded);
  return {copy, padded};
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

// The keys low..high-1 of a job, across: [width][key - low], and the biases by key.
struct Keys {
  const Job& job;
  float* across;
  int64_t across_row;
  const float* key_bias = nullptr;  // [high - low] and the rest of its last vector
  const float* by_distance = nullptr;
  int64_t longest = 0;  // by_distance[x] is the bias of distance longest - x

  Keys(const Job& job, Scratch& scratch) : job(job), across_row(whole_vectors(job.high - job.low)) {
    across = scratch.keys_across.of(job.problem.width * across_row);
    const auto& k = job.problem.k;
    transpose(k.at(job.first_key + job.low, job.key_head()), k.row, job.high - job.low, job.problem.width, across, across_row);
    if (job.problem.key_bias.data != nullptr) gather_key_bias(scratch.key_bias.of(across_row));
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
    std::fill(to + (job.high - job.low), to + across_row, 0.0f);
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
  int64_t row_of_buffer() const { return high - low; }

  // Calls visit(first query, count, first key, last key + 1), for the part of every tile in keys from..to-1.
  template <class Visit>
  void for_each_tile(int64_t from, int64_t to, Visit&& visit) const {
    for (int64_t first = begin; first < end; first += tile_rows) {
      const int64_t count = std::min(tile_rows, end - first);
      const int64_t key_begin = std::max(from, tile_low(first)), key_end = std::min(to, tile_high(first + count - 1));
      if (key_begin < key_end) visit(first, count, key_begin, key_end);
    }
  }

  // The same by stretches of keys, so that what belongs to a stretch stays in cache.
  template <class Visit>
  void for_each_stretch(Visit&& visit) const {
    for (int64_t from = low; from < high; from += block_keys) for_each_tile(from, std::min(high, from + block_keys), visit);
  }
};

// scores[query - begin][key - low] of a block = left (rows of the block) times right (across).
inline void multiply_across(const Block& block, const Panel& left, const float* across, int64_t across_row, int64_t width,
                            float* scores) {
  const int64_t row = block.row_of_buffer();
  block.for_each_stretch([&](int64_t first, int64_t count, int64_t key, int64_t key_end) {
    product(count, key_end - key, left.at(first), left.row, 1, across + key, across_row, width,
            scores + (first - block.begin) * row + key - block.low, row, false);
  });
}

// out (rows of the block) = weights times right (rows of keys from job.low).
inline void multiply_down(const Block& block, const float* weights, const Panel& right, int64_t keys, int64_t width,
                          const Panel& out) {
  const int64_t row = block.row_of_buffer();
  block.for_each_stretch([&](int64_t first, int64_t count, int64_t key, int64_t key_end) {
    const bool add = key > block.tile_low(first);
    product(count, whole_vectors(width), weights + (first - block.begin) * row + key - block.low, row, 1, right.at(key), right.row,
            std::min(key_end, keys) - key, out.at(first), out.row, add);
  });
}

// out (rows of keys from job.low) += weights transposed times right (rows of the block).
inline void multiply_back(const Block& block, const float* weights, const Panel& right, int64_t keys, int64_t width,
                          const Panel& out) {
  constexpr int64_t half = lanes / 2;
  const int64_t row = block.row_of_buffer();
  int64_t first = block.begin, end = block.begin;
  for (int64_t key = block.low; key < std::min(block.high, keys); key += half) {
    const int64_t vector = key / lanes * lanes;
    while (first < block.end && block.tile_high(std::min(block.end, first + tile_rows) - 1) <= vector) first += tile_rows;
    while (end < block.end && block.tile_low(end) <= vector) end += tile_rows;
    const int64_t last = std::min(end, block.end);
    if (first >= last) continue;
    product(std::min(half, keys - key), whole_vectors(width), weights + (first - block.begin) * row + key - block.low, 1, row,
            right.at(first), right.row, last - first, out.at(key), out.row, true);
  }
}

inline float factor_of(const Job& job, int64_t query) {
  const auto& scale = job.problem.logit_scale;
  return scale.data == nullptr ? job.problem.scale : job.problem.scale * *job.query(scale, query);
}

// The place of a query in [queries, heads].
inline int64_t index_of(const Job& job, int64_t query) {
  return job.fold == 1 ? (job.first_row + query) * job.problem.heads + job.head : job.first_row * job.fold + query;
}

inline void run_forward(const Job& job, const Output& output) {
  if (job.begin == job.end) return;
  const Problem& problem = job.problem;
  Scratch& scratch = Scratch::of_this_thread();
  const int64_t width = problem.width, keys = job.high - job.low;
  const Keys across(job, scratch);
  const int64_t q_row = job.query_stride(problem.q.row, problem.q.head), out_row = job.query_stride(output.out.row, output.out.head);
  const Panel v = read_panel(problem.v.at(job.first_key + job.low, job.key_head()), problem.v.row, keys, width, scratch.v);
  float* const out_data = job.query(output.out, 0);
  const Panel q{const_cast<float*>(job.query(problem.q, 0)), q_row};
  const bool whole = whole_vectors(width) == width;
  const Panel out = whole ? Panel{out_data, out_row} : Panel{scratch.out.of(job.end * whole_vectors(width)), whole_vectors(width)};
  for (int64_t begin = job.begin; begin < job.end; begin += block_rows) {
    const Block block(job, begin);
    const int64_t row = block.row_of_buffer();
    float* const scores = scratch.scores.of((block.end - block.begin) * row);
    multiply_across(block, q, across.across, across.across_row, width, scores);
    block.for_each_tile(block.low, block.high, [&](int64_t first, int64_t count, int64_t key, int64_t key_end) {
      for (int64_t query = first; query < first + count; ++query) {
        const ScoreRow score_row = across.row(query, factor_of(job, query)).from(block.low);
        exponentiate_row(score_row, scores + (query - block.begin) * row, key - block.low, key_end - block.low,
                         output.softmax[index_of(job, query)]);
      }
    });
    multiply_down(block, scores, v, keys, width, out);
    for (int64_t query = block.begin; query < block.end; ++query) {
      divide(out.at(query), whole_vectors(width), output.softmax[index_of(job, query)].total);
    }
  }
  if (!whole) {
    for (int64_t query = job.begin; query < job.end; ++query) std::copy_n(out.at(query), width, out_data + query * out_row);
  }
}

// Where a job puts the gradients that several jobs of one sequence add to.
struct Shares {
  Panel k, v;           // [keys of the sequence]
  float* distance;      // [keys of the sequence], by distance, or null
  float* key_bias;      // [keys of the sequence], or null
};

inline void run_backward(const Job& job, const Gradients& gradients, const Shares& shares) {
  if (job.begin == job.end) return;
  const Problem& problem = job.problem;
  Scratch& scratch = Scratch::of_this_thread();
  const int64_t width = problem.width, keys = job.high - job.low, queries = job.end;
  const Keys across(job, scratch);
  const int64_t q_row = job.query_stride(problem.q.row, problem.q.head);
  const int64_t dq_row = job.query_stride(gradients.q.row, gradients.q.head);
  const int64_t grad_out_row = job.query_stride(gradients.grad_out.row, gradients.grad_out.head);
  const Panel q = read_panel(job.query(problem.q, 0), q_row, queries, width, scratch.q);
  const Panel k = read_panel(problem.k.at(job.first_key + job.low, job.key_head()), problem.k.row, keys, width, scratch.k);
  const Panel grad_out = read_panel(job.query(gradients.grad_out, 0), grad_out_row, queries, width, scratch.grad_out);
  float* const dq_data = job.query(gradients.q, 0);
  const Panel dq = write_panel(dq_data, dq_row, queries, width, scratch.dq);
  float* const values_across = scratch.values_across.of(width * across.across_row);
  transpose(problem.v.at(job.first_key + job.low, job.key_head()), problem.v.row, keys, width, values_across, across.across_row);
  const Panel dk{shares.k.at(job.low), shares.k.row}, dv{shares.v.at(job.low), shares.v.row};
  float* by_distance = nullptr;  // as across.by_distance
  if (shares.distance != nullptr) {
    by_distance = scratch.bias_gradient.of(distances_of(job));
    std::fill_n(by_distance, distances_of(job), 0.0f);
  }
  float* key_bias = nullptr;
  if (shares.key_bias != nullptr) {
    key_bias = scratch.key_bias_gradient.of(across.across_row);
    std::fill_n(key_bias, across.across_row, 0.0f);
  }
  for (int64_t begin = job.begin; begin < job.end; begin += block_rows) {
    const Block block(job, begin);
    const int64_t row = block.row_of_buffer();
    float* const scores = scratch.scores.of((block.end - block.begin) * row);
    float* const products = scratch.products.of((block.end - block.begin) * row);
    multiply_across(block, q, across.across, across.across_row, width, scores);
    multiply_across(block, grad_out, values_across, across.across_row, width, products);
    block.for_each_tile(block.low, block.high, [&](int64_t first, int64_t count, int64_t key, int64_t key_end) {
      for (int64_t query = first; query < first + count; ++query) {
        float delta;
        dot(job.query(gradients.grad_out, query), job.query(gradients.out, query), width, delta);
        const ScoreRow score_row = across.row(query, factor_of(job, query)).from(block.low);
        ScoreRowGradients row_gradients{nullptr, nullptr, 0.0f};
        if (key_bias != nullptr) row_gradients.key_bias = key_bias + block.low;
        if (by_distance != nullptr) {
          row_gradients.distance_bias = by_distance + (across.longest - job.last_of(query)) + job.low + block.low;
        }
        const int64_t at = (query - block.begin) * row;
        differentiate_row(score_row, scores + at, products + at, key - block.low, key_end - block.low,
                          gradients.softmax[index_of(job, query)], delta, row_gradients);
        if (gradients.logit_scale.data != nullptr) *job.query(gradients.logit_scale, query) = row_gradients.factor * problem.scale;
      }
    });
    multiply_down(block, products, k, keys, width, dq);
    multiply_back(block, products, q, keys, width, dk);
    multiply_back(block, scores, grad_out, keys, width, dv);
  }
  if (dq.data != dq_data) {
    for (int64_t query = job.begin; query < job.end; ++query) std::copy_n(dq.at(query), width, dq_data + query * dq_row);
  }
  if (by_distance != nullptr) {
    for (int64_t distance = 0; distance < job.high; ++distance) shares.distance[distance] += by_distance[across.longest - distance];
  }
  if (key_bias != nullptr) add_to(shares.key_bias + job.low, key_bias, keys);
}

// ---- all of them ----

inline void attention_forward(const Problem& problem, const Output& output, int threads) {
  const Plan plan(problem);
  share_among_threads(plan.jobs(problem), threads, [&](int64_t i) { run_forward(plan.job(problem, i), output); });
}

// The gradients of keys and biases to which several jobs add, each in a place of its own until all are done.
class SharedGradients {
 public:
  SharedGradients(const Problem& problem, const Plan& plan, const Gradients& gradients)
      : problem_(problem), plan_(plan), gradients_(gradients), rows_(problem.bounds[problem.sequences]),
        padded_(whole_vectors(problem.width)), addends_(plan.parts * (problem.key_heads == 1 ? plan.heads : 1)),
        direct_(addends_ == 1 && padded_ == problem.width) {
    if (!direct_) keys_.resize(static_cast<size_t>(2 * addends_ * problem.key_heads * rows_ * padded_));
    if (gradients.table != nullptr) distance_.resize(static_cast<size_t>(plan.parts * problem.heads * rows_));
    if (gradients.key_bias.data != nullptr) key_bias_.resize(static_cast<size_t>(plan.parts * problem.heads * rows_));
  }

  // Where a job adds, all zero.
  Shares shares(const Job& job, int64_t part) {
    const int64_t rows = problem_.bounds[job.sequence + 1] - job.first_key;
    Shares shares{place(false, job, part), place(true, job, part), by_row(distance_, job, part), by_row(key_bias_, job, part)};
    clear(shares.k, rows, direct_ ? problem_.width : padded_);
    clear(shares.v, rows, direct_ ? problem_.width : padded_);
    return shares;
  }

  // Adds up, in one order, what the jobs of a sequence and a head of its keys left.
  void collect_keys(int64_t sequence, int64_t key_head) {
    if (direct_) return;
    for (const bool values : {false, true}) {
      const Rows<float>& to = values ? gradients_.v : gradients_.k;
      for (int64_t row = problem_.bounds[sequence]; row < problem_.bounds[sequence + 1]; ++row) {
        std::copy_n(shared_row(values, key_head, 0, row), problem_.width, to.at(row, key_head));
        for (int64_t i = 1; i < addends_; ++i) add_to(to.at(row, key_head), shared_row(values, key_head, i, row), problem_.width);
      }
    }
  }

  void collect_biases() {
    for (int64_t head = 0; head < problem_.heads; ++head) {
      if (gradients_.key_bias.data != nullptr) collect_key_bias(head);
      for (int64_t model = 0; gradients_.table != nullptr && model < problem_.bias.models; ++model) collect_table(model, head);
    }
  }

 private:
  float* shared_row(bool values, int64_t key_head, int64_t addend, int64_t row) {
    return keys_.data() + (((values ? addends_ : 0) + addend) * problem_.key_heads + key_head) * rows_ * padded_ + row * padded_;
  }

  Panel place(bool values, const Job& job, int64_t part) {
    const Rows<float>& to = values ? gradients_.v : gradients_.k;
    if (direct_) return {to.at(job.first_key, job.key_head()), to.row};
    const int64_t addend = problem_.key_heads == 1 ? part * plan_.heads + job.head : part;
    return {shared_row(values, job.key_head(), addend, job.first_key), padded_};
  }

  float* by_row(std::vector<float>& numbers, const Job& job, int64_t part) {
    return numbers.empty() ? nullptr : numbers.data() + (part * problem_.heads + job.head) * rows_ + job.first_key;
  }

  void collect_key_bias(int64_t head) {
    for (int64_t row = 0; row < rows_; ++row) {
      float total = 0;
      for (int64_t part = 0; part < plan_.parts; ++part) {
        total += key_bias_[static_cast<size_t>((part * problem_.heads + head) * rows_ + row)];
      }
      *gradients_.key_bias.at(row, head) = total;
    }
  }

  void collect_table(int64_t model, int64_t head) {
    const int64_t width = problem_.bias.width, sequences = problem_.sequences / problem_.bias.models;
    std::vector<double> totals(static_cast<size_t>(width));
    for (int64_t s = model * sequences; s < (model + 1) * sequences; ++s) {
      const int64_t begin = problem_.bounds[s], longest = problem_.bounds[s + 1] - begin;
      const int64_t counted = problem_.bias.beyond == Beyond::zero ? std::min(longest, width) : longest;
      for (int64_t part = 0; part < plan_.parts; ++part) {
        const float* const from = distance_.data() + (part * problem_.heads + head) * rows_ + begin;
        for (int64_t distance = 0; distance < counted; ++distance) {
          totals[static_cast<size_t>(std::min(distance, width - 1))] += static_cast<double>(from[distance]);
        }
      }
    }
    float* const to = gradients_.table + (model * problem_.heads + head) * width;
    for (int64_t i = 0; i < width; ++i) to[i] = static_cast<float>(totals[static_cast<size_t>(i)]);
  }

  const Problem& problem_;
  const Plan& plan_;
  const Gradients& gradients_;
  int64_t rows_, padded_, addends_;  // addends: jobs that add to the keys of one sequence and head
  bool direct_;
  std::vector<float> keys_, distance_, key_bias_;
};

inline void attention_backward(const Problem& problem, const Gradients& gradients, int threads) {
  const Plan plan(problem);
  SharedGradients shared(problem, plan, gradients);
  share_among_threads(plan.jobs(problem), threads, [&](int64_t i) {
    const Job job = plan.job(problem, i);
    run_backward(job, gradients, shared.shares(job, plan.part_of(i)));
  });
  share_among_threads(problem.sequences * problem.key_heads, threads,
                      [&](int64_t i) { shared.collect_keys(i / problem.key_heads, i % problem.key_heads); });
  shared.collect_biases();
}

}  // namespace lengen::cpu
