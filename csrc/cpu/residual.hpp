// Between two parts of a transformer: bias and GELU, or bias, residual sum and layer normalization, each in one pass forward
// and one backward. Rows have whole vectors. Column sums (gradients of biases) are made strip by strip of rows, in one order.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "gelu.hpp"
#include "loops.hpp"
#include "workers.hpp"

namespace lengen::cpu {

inline constexpr int64_t rows_of_a_strip = 64;

inline int64_t strips_of(int64_t rows) { return (rows + rows_of_a_strip - 1) / rows_of_a_strip; }

// Calls work(first row, rows, strip) for every strip.
template <class Work>
void by_strips(int64_t rows, int threads, Work&& work) {
  share_among_threads(strips_of(rows), threads, [&](int64_t strip) {
    const int64_t first = strip * rows_of_a_strip;
    work(first, std::min(rows_of_a_strip, rows - first), strip);
  });
}

// sums[columns] of one strip after another.
inline void add_strips(const std::vector<float>& strips, int64_t columns, float* sums) {
  std::fill_n(sums, columns, 0.0f);
  for (size_t at = 0; at < strips.size(); at += static_cast<size_t>(columns)) add_to(sums, strips.data() + at, columns);
}

// ---- GELU of x plus a bias by column ----

template <Path path>
LENGEN_INLINE void biased_gelu_body(const float* x, const float* bias, float* y, int64_t rows, int64_t columns) {
  for (int64_t row = 0; row < rows; ++row, x += columns, y += columns) {
    for_each_vector<path>(0, columns, [&](auto vector, int64_t i) LENGEN_INLINE_LAMBDA {
      using V = decltype(vector);
      store(y + i, gelu_of(load<V>(x + i) + load<V>(bias + i)));
    });
  }
}

LENGEN_LOOP(biased_gelu, (const float* x, const float* bias, float* y, int64_t rows, int64_t columns), (x, bias, y, rows, columns))

// gradient becomes that of x; sums[columns] += it.
template <Path path>
LENGEN_INLINE void biased_gelu_gradient_body(float* gradient, const float* x, const float* bias, int64_t rows, int64_t columns,
                                             float* sums) {
  for (int64_t row = 0; row < rows; ++row, x += columns, gradient += columns) {
    for_each_vector<path>(0, columns, [&](auto vector, int64_t i) LENGEN_INLINE_LAMBDA {
      using V = decltype(vector);
      const V slope = gelu_gradient_of(load<V>(gradient + i), load<V>(x + i) + load<V>(bias + i));
      store(gradient + i, slope);
      store(sums + i, load<V>(sums + i) + slope);
    });
  }
}

LENGEN_LOOP(biased_gelu_gradient, (float* gradient, const float* x, const float* bias, int64_t rows, int64_t columns, float* sums),
            (gradient, x, bias, rows, columns, sums))

inline void biased_gelu_forward(const float* x, const float* bias, float* y, int64_t rows, int64_t columns, int threads) {
  by_strips(rows, threads, [&](int64_t first, int64_t count, int64_t) {
    biased_gelu(x + first * columns, bias, y + first * columns, count, columns);
  });
}

inline void biased_gelu_backward(float* gradient, const float* x, const float* bias, float* bias_gradient, int64_t rows,
                                 int64_t columns, int threads) {
  std::vector<float> sums(static_cast<size_t>(strips_of(rows) * columns));
  by_strips(rows, threads, [&](int64_t first, int64_t count, int64_t strip) {
    biased_gelu_gradient(gradient + first * columns, x + first * columns, bias, count, columns, sums.data() + strip * columns);
  });
  add_strips(sums, columns, bias_gradient);
}

// ---- residual sum and layer normalization ----

struct RowStatistics {
  float mean, deviation_inverse;
};

// sum = stream + update + bias; normalized = (sum - mean) / sqrt(variance + epsilon) * weight + shift.
struct AddNorm {
  int64_t rows, width;
  const float *stream, *update, *bias, *weight, *shift;
  float epsilon;
  float *sum, *normalized;
  RowStatistics* statistics;
};

template <Path path>
LENGEN_INLINE void add_norm_body(const AddNorm& all, int64_t first, int64_t rows) {
  const int64_t width = all.width;
  for (int64_t row = first; row < first + rows; ++row) {
    const float *const stream = all.stream + row * width, *const update = all.update + row * width;
    float *const sum = all.sum + row * width, *const normalized = all.normalized + row * width;
    Sums<path> sums;
    for_each_vector<path>(0, width, [&](auto vector, int64_t i) LENGEN_INLINE_LAMBDA {
      using V = decltype(vector);
      const V x = load<V>(stream + i) + (load<V>(update + i) + load<V>(all.bias + i));
      store(sum + i, x);
      sums.of(vector) += x;
    });
    const float mean = sums.total() / static_cast<float>(width);
    Sums<path> squares;
    for_each_vector<path>(0, width, [&](auto vector, int64_t i) LENGEN_INLINE_LAMBDA {
      using V = decltype(vector);
      const V distance = load<V>(sum + i) - every_at<path, V>(&mean);
      squares.of(vector) += distance * distance;
    });
    const float inverse = 1.0f / std::sqrt(squares.total() / static_cast<float>(width) + all.epsilon);
    for_each_vector<path>(0, width, [&](auto vector, int64_t i) LENGEN_INLINE_LAMBDA {
      using V = decltype(vector);
      const V x = (load<V>(sum + i) - every_at<path, V>(&mean)) * every_at<path, V>(&inverse);
      store(normalized + i, x * load<V>(all.weight + i) + load<V>(all.shift + i));
    });
    all.statistics[row] = {mean, inverse};
  }
}

LENGEN_LOOP(add_norm, (const AddNorm& all, int64_t first, int64_t rows), (all, first, rows))

inline void add_norm_forward(const AddNorm& all, int threads) {
  by_strips(all.rows, threads, [&](int64_t first, int64_t count, int64_t) { add_norm(all, first, count); });
}

// gradient = that of stream and of update alike, from those of sum (null: none) and normalized.
struct AddNormGradient {
  int64_t rows, width;
  const float *of_sum, *of_normalized, *sum, *weight;
  const RowStatistics* statistics;
  float* gradient;
};

// column_sums: gradients of weight, shift and bias, [3][width].
template <Path path>
LENGEN_INLINE void add_norm_gradient_body(const AddNormGradient& all, int64_t first, int64_t rows, float* column_sums) {
  const int64_t width = all.width;
  float *const of_weight = column_sums, *const of_shift = column_sums + width, *const of_bias = column_sums + 2 * width;
  for (int64_t row = first; row < first + rows; ++row) {
    const float *const slope = all.of_normalized + row * width, *const sum = all.sum + row * width;
    const float* const of_sum = all.of_sum == nullptr ? nullptr : all.of_sum + row * width;
    float* const gradient = all.gradient + row * width;
    const RowStatistics& statistics = all.statistics[row];
    Sums<path> slopes, along;
    for_each_vector<path>(0, width, [&](auto vector, int64_t i) LENGEN_INLINE_LAMBDA {
      using V = decltype(vector);
      const V x = (load<V>(sum + i) - every_at<path, V>(&statistics.mean)) * every_at<path, V>(&statistics.deviation_inverse);
      const V given = load<V>(slope + i), scaled = given * load<V>(all.weight + i);
      slopes.of(vector) += scaled;
      along.of(vector) += scaled * x;
      store(of_weight + i, load<V>(of_weight + i) + given * x);
      store(of_shift + i, load<V>(of_shift + i) + given);
    });
    const float mean_slope = slopes.total() / static_cast<float>(width), mean_along = along.total() / static_cast<float>(width);
    for_each_vector<path>(0, width, [&](auto vector, int64_t i) LENGEN_INLINE_LAMBDA {
      using V = decltype(vector);
      const V inverse = every_at<path, V>(&statistics.deviation_inverse);
      const V x = (load<V>(sum + i) - every_at<path, V>(&statistics.mean)) * inverse;
      const V scaled = load<V>(slope + i) * load<V>(all.weight + i);
      V result = inverse * (scaled - every_at<path, V>(&mean_slope) - x * every_at<path, V>(&mean_along));
      if (of_sum != nullptr) result += load<V>(of_sum + i);
      store(gradient + i, result);
      store(of_bias + i, load<V>(of_bias + i) + result);
    });
  }
}

LENGEN_LOOP(add_norm_gradient, (const AddNormGradient& all, int64_t first, int64_t rows, float* column_sums),
            (all, first, rows, column_sums))

// column_sums [3][width] become the gradients of weight, shift and bias.
inline void add_norm_backward(const AddNormGradient& all, float* column_sums, int threads) {
  const int64_t columns = 3 * all.width;
  std::vector<float> sums(static_cast<size_t>(strips_of(all.rows) * columns));
  by_strips(all.rows, threads, [&](int64_t first, int64_t count, int64_t strip) {
    add_norm_gradient(all, first, count, sums.data() + strip * columns);
  });
  add_strips(sums, columns, column_sums);
}

}  // namespace lengen::cpu
