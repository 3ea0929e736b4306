// Exact causal attention of packed sequences in fp32, forward and backward, by blocks of query rows and stretches of keys.
//
// A block's scores against a stretch of its keys stand in a small buffer, so nothing of size T x T is made and what is read again
// and again stays in a core's own cache. The softmax is the plain one: the row maximum subtracted, where it grows from stretch to
// stretch what was summed before multiplied, and the division at the end. Keys and values are read where they lie; only a
// transposed copy of the keys (and, backward, of the values) is made. Each sum has one order, whatever the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "attention_jobs.hpp"
#include "loops.hpp"
#include "workers.hpp"

namespace lengen::cpu {

// scores (rows of the block, keys of the stretch) = left (rows of the block) times right (across).
inline void multiply_across(const Stretch& stretch, const Panel& left, const Across& across, float* scores) {
  stretch.for_each_run([&](int64_t first, int64_t count, int64_t key, int64_t key_end, bool) {
    product(count, key_end - key, left.at(first), left.row, 1, across.at(key), across.row, across.width,
            stretch.in(scores, first) + key - stretch.low, stretch.row_of_buffer(), false);
  });
}

// out (rows of the block) = weights times right (rows of keys from job.low), or += from a tile's second stretch on.
inline void multiply_down(const Stretch& stretch, float* weights, const Panel& right, int64_t keys, int64_t width,
                          const Panel& out) {
  stretch.for_each_run([&](int64_t first, int64_t count, int64_t key, int64_t key_end, bool begins) {
    product(count, whole_vectors(width), stretch.in(weights, first) + key - stretch.low, stretch.row_of_buffer(), 1, right.at(key),
            right.row, std::min(key_end, keys) - key, out.at(first), out.row, !begins);
  });
}

// out (rows of keys from job.low) += weights transposed times right (rows of the block).
inline void multiply_back(const Stretch& stretch, float* weights, const Panel& right, int64_t keys, int64_t width,
                          const Panel& out) {
  stretch.for_each_run_of_keys(keys, [&](int64_t key, int64_t key_end, int64_t first, int64_t end) {
    product(key_end - key, whole_vectors(width), stretch.in(weights, first) + key - stretch.low, 1, stretch.row_of_buffer(),
            right.at(first), right.row, end - first, out.at(key), out.row, true);
  });
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
  const Keys keys_across(job, scratch);
  const int64_t q_row = job.query_stride(problem.q.row, problem.q.head), out_row = job.query_stride(output.out.row, output.out.head);
  const Panel v = read_panel(problem.v.at(job.first_key + job.low, job.key_head()), problem.v.row, keys, width, scratch.v);
  float* const out_data = job.query(output.out, 0);
  const Panel q{const_cast<float*>(job.query(problem.q, 0)), q_row};
  const bool whole = whole_vectors(width) == width;
  const Panel out = whole ? Panel{out_data, out_row} : Panel{scratch.out.of(job.end * whole_vectors(width)), whole_vectors(width)};
  for (int64_t begin = job.begin; begin < job.end; begin += block_rows) {
    const Block block(job, begin);
    for (int64_t query = block.begin; query < block.end; ++query) output.softmax[index_of(job, query)] = {-infinity, 0.0f};
    for_each_stretch(block, [&](const Stretch& stretch) {
      float* const scores = scratch.scores.of(stretch.size_of_buffer());
      multiply_across(stretch, q, keys_across.across, scores);
      stretch.for_each_tile([&](int64_t first, int64_t count, int64_t key, int64_t key_end) {
        for (int64_t query = first; query < first + count; ++query) {
          const ScoreRow score_row = keys_across.row(query, factor_of(job, query)).from(stretch.low);
          float decay;
          exponentiate_row(score_row, stretch.in(scores, query), key - stretch.low, key_end - stretch.low,
                           output.softmax[index_of(job, query)], decay);
          if (key > block.tile_low(first) && decay != 1) multiply(out.at(query), whole_vectors(width), decay);
        }
      });
      multiply_down(stretch, scores, v, keys, width, out);
    });
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
  const Keys keys_across(job, scratch);
  const int64_t q_row = job.query_stride(problem.q.row, problem.q.head);
  const int64_t dq_row = job.query_stride(gradients.q.row, gradients.q.head);
  const int64_t grad_out_row = job.query_stride(gradients.grad_out.row, gradients.grad_out.head);
  const Panel q = read_panel(job.query(problem.q, 0), q_row, queries, width, scratch.q);
  const Panel k = read_panel(problem.k.at(job.first_key + job.low, job.key_head()), problem.k.row, keys, width, scratch.k);
  const Panel grad_out = read_panel(job.query(gradients.grad_out, 0), grad_out_row, queries, width, scratch.grad_out);
  float* const dq_data = job.query(gradients.q, 0);
  const Panel dq = write_panel(dq_data, dq_row, queries, width, scratch.dq);
  const Across values_across(problem.v.at(job.first_key + job.low, job.key_head()), problem.v.row, keys, width,
                             scratch.values_across);
  const Panel dk{shares.k.at(job.low), shares.k.row}, dv{shares.v.at(job.low), shares.v.row};
  float* by_distance = nullptr;  // as keys_across.by_distance
  if (shares.distance != nullptr) {
    by_distance = scratch.bias_gradient.of(distances_of(job));
    std::fill_n(by_distance, distances_of(job), 0.0f);
  }
  float* key_bias = nullptr;
  if (shares.key_bias != nullptr) {
    key_bias = scratch.key_bias_gradient.of(whole_vectors(keys));
    std::fill_n(key_bias, whole_vectors(keys), 0.0f);
  }
  for (int64_t begin = job.begin; begin < job.end; begin += block_rows) {
    const Block block(job, begin);
    float deltas[block_rows], of_factors[block_rows] = {};
    for (int64_t query = block.begin; query < block.end; ++query) {
      dot(job.query(gradients.grad_out, query), job.query(gradients.out, query), width, deltas[query - block.begin]);
    }
    for_each_stretch(block, [&](const Stretch& stretch) {
      float* const scores = scratch.scores.of(stretch.size_of_buffer());
      float* const products = scratch.products.of(stretch.size_of_buffer());
      multiply_across(stretch, q, keys_across.across, scores);
      multiply_across(stretch, grad_out, values_across, products);
      stretch.for_each_tile([&](int64_t first, int64_t count, int64_t key, int64_t key_end) {
        for (int64_t query = first; query < first + count; ++query) {
          const ScoreRow score_row = keys_across.row(query, factor_of(job, query)).from(stretch.low);
          ScoreRowGradients row_gradients{nullptr, nullptr, of_factors[query - block.begin]};
          if (key_bias != nullptr) row_gradients.key_bias = key_bias + stretch.low;
          if (by_distance != nullptr) {
            row_gradients.distance_bias = by_distance + (keys_across.longest - job.last_of(query)) + job.low + stretch.low;
          }
          differentiate_row(score_row, stretch.in(scores, query), stretch.in(products, query), key - stretch.low,
                            key_end - stretch.low, gradients.softmax[index_of(job, query)], deltas[query - block.begin],
                            row_gradients);
        }
      });
      multiply_down(stretch, products, k, keys, width, dq);
      multiply_back(stretch, products, q, keys, width, dk);
      multiply_back(stretch, scores, grad_out, keys, width, dv);
    });
    if (gradients.logit_scale.data != nullptr) {
      for (int64_t query = block.begin; query < block.end; ++query) {
        *job.query(gradients.logit_scale, query) = of_factors[query - block.begin] * problem.scale;
      }
    }
  }
  if (dq.data != dq_data) {
    for (int64_t query = job.begin; query < job.end; ++query) std::copy_n(dq.at(query), width, dq_data + query * dq_row);
  }
  if (by_distance != nullptr) {
    for (int64_t distance = 0; distance < job.high; ++distance) shares.distance[distance] += by_distance[keys_across.longest - distance];
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
    if (!direct_) keys_.reset(new float[static_cast<size_t>(2 * addends_ * problem.key_heads * rows_ * padded_)]);
    if (gradients.table != nullptr) distance_.resize(static_cast<size_t>(plan.parts * problem.heads * rows_));
    if (gradients.key_bias.data != nullptr) key_bias_.resize(static_cast<size_t>(plan.parts * problem.heads * rows_));
  }

  // Where a job adds, all zero.
  Shares shares(const Job& job, int64_t part) {
    const int64_t rows = problem_.bounds[job.sequence + 1] - job.first_key;
    Shares shares{place(false, job, part), place(true, job, part), by_row(distance_, job, part), by_row(key_bias_, job, part)};
    for (const Panel& panel : {shares.k, shares.v}) clear(panel, rows, direct_ ? problem_.width : padded_);
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
    return keys_.get() + (((values ? addends_ : 0) + addend) * problem_.key_heads + key_head) * rows_ * padded_ + row * padded_;
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
  std::unique_ptr<float[]> keys_;  // not cleared before the jobs do so
  std::vector<float> distance_, key_bias_;
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
