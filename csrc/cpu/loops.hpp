// The inner loops of the CPU kernels in fp32, compiled once for plain code and once more for AVX2 with FMA; the processor
// decides when they run. Vectors are the compiler's own, so the source is the same on every processor.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__x86_64__) && defined(__GNUC__)
#define LENGEN_HAS_FMA_PATH 1
#define LENGEN_FMA __attribute__((target("avx2,fma")))
#else
#define LENGEN_HAS_FMA_PATH 0
#endif
#define LENGEN_INLINE inline __attribute__((always_inline))

namespace lengen::cpu {

inline bool fma_supported() {
#if LENGEN_HAS_FMA_PATH
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

inline std::atomic<bool> fma_enabled{fma_supported()};

inline bool use_fma() { return fma_enabled.load(std::memory_order_relaxed); }

// Defines name(...) from name_body<fma>(...): the same source, compiled for either path.
#if LENGEN_HAS_FMA_PATH
#define LENGEN_LOOP(name, parameters, arguments)                                  \
  LENGEN_FMA inline void name##_fma parameters { name##_body<true> arguments; }   \
  inline void name##_plain parameters { name##_body<false> arguments; }           \
  inline void name parameters {                                                   \
    if (use_fma()) return name##_fma arguments;                                   \
    name##_plain arguments;                                                       \
  }
#else
#define LENGEN_LOOP(name, parameters, arguments) \
  inline void name parameters { name##_body<false> arguments; }
#endif

// ---- vectors ----

inline constexpr int64_t lanes = 8;
typedef float Floats __attribute__((vector_size(lanes * sizeof(float))));
typedef int32_t Ints __attribute__((vector_size(lanes * sizeof(int32_t))));

inline constexpr float infinity = std::numeric_limits<float>::infinity();

LENGEN_INLINE int64_t whole_vectors(int64_t count) { return (count + lanes - 1) / lanes * lanes; }

LENGEN_INLINE Floats load(const float* from) {
  Floats vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

LENGEN_INLINE void store(float* to, Floats vector) { std::memcpy(to, &vector, sizeof vector); }

LENGEN_INLINE Floats every(float value) { return value - Floats{}; }

// The same of a number in memory, in one instruction where there is one; the compiler sees the vector only after inlining and
// would put it together from its parts.
template <bool fma>
LENGEN_INLINE Floats every_at(const float* from) {
#if LENGEN_HAS_FMA_PATH
  if constexpr (fma) {
    Floats vector;
    asm("vbroadcastss %1, %0" : "=x"(vector) : "m"(*from));
    return vector;
  }
#endif
  return every(*from);
}

LENGEN_INLINE Ints counting(int64_t first) {
  const auto begin = static_cast<int32_t>(first);
  return Ints{0, 1, 2, 3, 4, 5, 6, 7} + begin;
}

LENGEN_INLINE float sum(Floats vector) {
  const Floats pairs = vector + __builtin_shuffle(vector, Ints{4, 5, 6, 7, 0, 1, 2, 3});
  return (pairs[0] + pairs[2]) + (pairs[1] + pairs[3]);
}

LENGEN_INLINE Floats larger(Floats a, Floats b) { return a < b ? b : a; }

LENGEN_INLINE float largest(Floats vector) {
  const Floats pairs = larger(vector, __builtin_shuffle(vector, Ints{4, 5, 6, 7, 0, 1, 2, 3}));
  return std::max(std::max(pairs[0], pairs[1]), std::max(pairs[2], pairs[3]));
}

// exp(x), x <= 88, to about 1 ulp: exp(0) is 1, what underflows is 0, NaN stays NaN. x = n log 2 + r with |r| <= log(2) / 2, and a
// polynomial in r (Cephes, expf).
LENGEN_INLINE Floats exponential(Floats x) {
  const Floats least = every(-87.0f);
  const Floats clamped = x < least ? least : x;
  const Floats rounder = every(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  const Floats shifted = clamped * every(1.44269504088896341f) + rounder;
  const Floats n = shifted - rounder;
  const Floats r = (clamped - n * every(0.693359375f)) - n * every(-2.12194440e-4f);
  Floats p = every(1.9875691500e-4f);
  p = p * r + every(1.3981999507e-3f);
  p = p * r + every(8.3334519073e-3f);
  p = p * r + every(4.1665795894e-2f);
  p = p * r + every(1.6666665459e-1f);
  p = p * r + every(5.0000001201e-1f);
  p = p * (r * r) + r + every(1.0f);
  Ints power;
  std::memcpy(&power, &shifted, sizeof power);
  power = (power << 23) + (127 << 23);
  Floats scale;
  std::memcpy(&scale, &power, sizeof scale);
  return x < least ? every(0.0f) : p * scale;
}

// ---- matrix products ----

inline constexpr int64_t tile_rows = 6;

// c[rows][8 * vectors] = or += a b over k terms; element (r, t) of a at a[r * a_row + t * a_term].
template <bool fma, int rows, int vectors>
LENGEN_INLINE void product_tile(const float* a, int64_t a_row, int64_t a_term, const float* b, int64_t b_row, int64_t terms,
                                float* c, int64_t c_row, bool add) {
  Floats sums[rows][vectors] = {};
  for (int64_t t = 0; t < terms; ++t, a += a_term, b += b_row) {
    Floats right[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) right[v] = load(b + v * lanes);
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r) {
      const Floats left = every_at<fma>(a + r * a_row);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sums[r][v] += left * right[v];
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
      float* const at = c + r * c_row + v * lanes;
      store(at, add ? load(at) + sums[r][v] : sums[r][v]);
    }
  }
}

template <bool fma, int rows>
LENGEN_INLINE void product_strip(int64_t columns, const float* a, int64_t a_row, int64_t a_term, const float* b, int64_t b_row,
                                 int64_t terms, float* c, int64_t c_row, bool add) {
  int64_t n = 0;
  for (; n + 2 * lanes <= columns; n += 2 * lanes) product_tile<fma, rows, 2>(a, a_row, a_term, b + n, b_row, terms, c + n, c_row, add);
  if (n < columns) product_tile<fma, rows, 1>(a, a_row, a_term, b + n, b_row, terms, c + n, c_row, add);
}

template <bool fma>
LENGEN_INLINE void product_body(int64_t rows, int64_t columns, const float* a, int64_t a_row, int64_t a_term, const float* b,
                                int64_t b_row, int64_t terms, float* c, int64_t c_row, bool add) {
  switch (rows) {
    case 6: return product_strip<fma, 6>(columns, a, a_row, a_term, b, b_row, terms, c, c_row, add);
    case 5: return product_strip<fma, 5>(columns, a, a_row, a_term, b, b_row, terms, c, c_row, add);
    case 4: return product_strip<fma, 4>(columns, a, a_row, a_term, b, b_row, terms, c, c_row, add);
    case 3: return product_strip<fma, 3>(columns, a, a_row, a_term, b, b_row, terms, c, c_row, add);
    case 2: return product_strip<fma, 2>(columns, a, a_row, a_term, b, b_row, terms, c, c_row, add);
    case 1: return product_strip<fma, 1>(columns, a, a_row, a_term, b, b_row, terms, c, c_row, add);
  }
}

// c[rows][columns] = or += a b, rows at most tile_rows, columns a multiple of 8; the sum over the terms is made before it is added.
LENGEN_LOOP(product,
            (int64_t rows, int64_t columns, const float* a, int64_t a_row, int64_t a_term, const float* b, int64_t b_row,
             int64_t terms, float* c, int64_t c_row, bool add),
            (rows, columns, a, a_row, a_term, b, b_row, terms, c, c_row, add))

// ---- one row of scores ----

// The keys first..last of one query, and what is added to its scaled scores; each pointer is indexed by the key.
struct ScoreRow {
  int64_t first, last;
  float factor;
  const float* key_bias;
  const float* distance_bias;

  // The same with keys counted from `key`.
  ScoreRow from(int64_t key) const {
    return {first - key, last - key, factor, key_bias == nullptr ? nullptr : key_bias + key,
            distance_bias == nullptr ? nullptr : distance_bias + key};
  }
};

// The same, spread over vectors once for a whole row.
template <bool fma>
struct SpreadRow {
  Floats factor = every(0.0f);
  Ints first{}, last{};
  const float* key_bias;
  const float* distance_bias;

  LENGEN_INLINE explicit SpreadRow(const ScoreRow& row) : key_bias(row.key_bias), distance_bias(row.distance_bias) {
    factor = every_at<fma>(&row.factor);
    first += static_cast<int32_t>(row.first);
    last += static_cast<int32_t>(row.last);
  }

  LENGEN_INLINE Floats inside(int64_t key, Floats then, Floats otherwise) const {
    const Ints keys = counting(key);
    return (keys >= first) & (keys <= last) ? then : otherwise;
  }

  LENGEN_INLINE Floats biased(Floats score, int64_t key) const {
    Floats x = score * factor;
    if (key_bias != nullptr) x += load(key_bias + key);
    if (distance_bias != nullptr) x += load(distance_bias + key);
    return inside(key, x, every(-infinity));
  }
};

// What the softmax of a row subtracts and divides by.
struct Softmax {
  float peak, total;
};

inline constexpr int64_t summed_at_once = 256;  // keys, so that a long sum loses little

// scores[begin..end) (whole vectors that hold the row's keys) become exp(score - peak); 0 outside the row.
template <bool fma>
LENGEN_INLINE void exponentiate_row_body(const ScoreRow& row, float* scores, int64_t begin, int64_t end, Softmax& softmax) {
  const SpreadRow<fma> spread(row);
  Floats peaks = every(-infinity);
  for (int64_t key = begin; key < end; key += lanes) {
    const Floats x = spread.biased(load(scores + key), key);
    peaks = larger(peaks, x);
    store(scores + key, x);
  }
  float total = 0;
  const float peak = largest(peaks);
  const Floats subtracted = every_at<fma>(&peak);
  for (int64_t block = begin; block < end; block += summed_at_once) {
    Floats sums = every(0.0f);
    for (int64_t key = block; key < std::min(end, block + summed_at_once); key += lanes) {
      const Floats weights = exponential(load(scores + key) - subtracted);
      sums += weights;
      store(scores + key, weights);
    }
    total += sum(sums);
  }
  softmax = {peak, total};
}

LENGEN_LOOP(exponentiate_row, (const ScoreRow& row, float* scores, int64_t begin, int64_t end, Softmax& softmax),
            (row, scores, begin, end, softmax))

// What the backward pass of one row adds to; each pointer is indexed by the key, or null.
struct ScoreRowGradients {
  float* key_bias;
  float* distance_bias;
  float factor;  // d loss / d factor of the row
};

// scores[begin..end) become the weights, and products (output gradient times values) the gradients of the unscaled scores.
template <bool fma>
LENGEN_INLINE void differentiate_row_body(const ScoreRow& row, float* scores, float* products, int64_t begin, int64_t end,
                                          const Softmax& softmax, float delta, ScoreRowGradients& gradients) {
  const SpreadRow<fma> spread(row);
  const float share = 1.0f / softmax.total;
  const Floats subtracted = every_at<fma>(&softmax.peak), shares = every_at<fma>(&share), deltas = every_at<fma>(&delta);
  float *const key_bias = gradients.key_bias, *const distance_bias = gradients.distance_bias;
  Floats of_factor = every(0.0f);
  for (int64_t key = begin; key < end; key += lanes) {
    const Floats score = load(scores + key);
    const Floats weights = exponential(spread.biased(score, key) - subtracted) * shares;
    const Floats slope = spread.inside(key, weights * (load(products + key) - deltas), every(0.0f));
    of_factor += slope * score;
    if (key_bias != nullptr) store(key_bias + key, load(key_bias + key) + slope);
    if (distance_bias != nullptr) store(distance_bias + key, load(distance_bias + key) + slope);
    store(scores + key, weights);
    store(products + key, slope * spread.factor);
  }
  gradients.factor = sum(of_factor);
}

LENGEN_LOOP(differentiate_row,
            (const ScoreRow& row, float* scores, float* products, int64_t begin, int64_t end, const Softmax& softmax, float delta,
             ScoreRowGradients& gradients),
            (row, scores, products, begin, end, softmax, delta, gradients))

// ---- vectors ----

// Whole vectors of values, each divided.
template <bool fma>
LENGEN_INLINE void divide_body(float* values, int64_t count, const float& by) {
  const Floats divisor = every_at<fma>(&by);
  for (int64_t i = 0; i < count; i += lanes) store(values + i, load(values + i) / divisor);
}

LENGEN_LOOP(divide, (float* values, int64_t count, const float& by), (values, count, by))

template <bool fma>
LENGEN_INLINE void dot_body(const float* a, const float* b, int64_t count, float& result) {
  Floats sums = every(0.0f);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) sums += load(a + i) * load(b + i);
  result = sum(sums);
  for (; i < count; ++i) result += a[i] * b[i];
}

LENGEN_LOOP(dot, (const float* a, const float* b, int64_t count, float& result), (a, b, count, result))

template <bool fma>
LENGEN_INLINE void add_to_body(float* to, const float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] += values[i];
}

LENGEN_LOOP(add_to, (float* to, const float* values, int64_t count), (to, values, count))

// to[columns][to_row] = transpose of from[rows][from_row]; the places rows..whole_vectors(rows)-1 become 0.
template <bool fma>
LENGEN_INLINE void transpose_body(const float* from, int64_t from_row, int64_t rows, int64_t columns, float* to, int64_t to_row) {
  for (int64_t row = 0; row < rows; row += lanes) {
    const int64_t there = std::min(lanes, rows - row);
    for (int64_t column = 0; column < columns; ++column) {
      const float* const at = from + row * from_row + column;
      Floats values = every(0.0f);
      if (there == lanes) {
        values = Floats{at[0],            at[from_row],     at[2 * from_row], at[3 * from_row],
                        at[4 * from_row], at[5 * from_row], at[6 * from_row], at[7 * from_row]};
      } else {
        for (int64_t i = 0; i < there; ++i) values[i] = at[i * from_row];
      }
      store(to + column * to_row + row, values);
    }
  }
}

LENGEN_LOOP(transpose, (const float* from, int64_t from_row, int64_t rows, int64_t columns, float* to, int64_t to_row),
            (from, from_row, rows, columns, to, to_row))

// ---- GELU in its tanh form: x s(x) with s(x) = sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)) ----

inline constexpr float gelu_slope = 1.5957691216057308f, gelu_cubic = 0.044715f * 1.5957691216057308f;

LENGEN_INLINE Floats gelu_gate(Floats x) {
  const Floats u = x * (every(gelu_slope) + every(gelu_cubic) * x * x);
  const Floats most = every(88.0f);
  return every(1.0f) / (every(1.0f) + exponential(-u > most ? most : -u));
}

LENGEN_INLINE Floats gelu_of(Floats x) { return x * gelu_gate(x); }

LENGEN_INLINE Floats gelu_gradient_of(Floats gradient, Floats x) {
  const Floats gate = gelu_gate(x);
  const Floats inner = x * (every(gelu_slope) + every(3.0f * gelu_cubic) * x * x);
  return gradient * (gate + inner * gate * (every(1.0f) - gate));
}

template <bool fma>
LENGEN_INLINE void gelu_body(const float* x, float* y, int64_t count) {
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) store(y + i, gelu_of(load(x + i)));
  if (i == count) return;
  float rest[lanes] = {};
  std::copy(x + i, x + count, rest);
  store(rest, gelu_of(load(rest)));
  std::copy_n(rest, count - i, y + i);
}

LENGEN_LOOP(gelu, (const float* x, float* y, int64_t count), (x, y, count))

template <bool fma>
LENGEN_INLINE void gelu_gradient_body(const float* gradient, const float* x, float* out, int64_t count) {
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) store(out + i, gelu_gradient_of(load(gradient + i), load(x + i)));
  if (i == count) return;
  float rest[lanes] = {}, rest_x[lanes] = {};
  std::copy(gradient + i, gradient + count, rest);
  std::copy(x + i, x + count, rest_x);
  store(rest, gelu_gradient_of(load(rest), load(rest_x)));
  std::copy_n(rest, count - i, out + i);
}

LENGEN_LOOP(gelu_gradient, (const float* gradient, const float* x, float* out, int64_t count), (gradient, x, out, count))

}  // namespace lengen::cpu
