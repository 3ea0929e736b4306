// The inner loops of the CPU kernels in fp32, compiled once for plain code, once more for AVX2 with FMA and once more for AVX-512;
// the processor decides when they run. Vectors are the compiler's own, so the source is the same on every processor.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__x86_64__) && defined(__GNUC__)
#define LENGEN_HAS_PATHS 1
#define LENGEN_FMA __attribute__((target("avx2,fma")))
#define LENGEN_WIDE __attribute__((target("avx2,fma,avx512f,avx512vl,avx512dq,avx512bw")))
#else
#define LENGEN_HAS_PATHS 0
#endif
#define LENGEN_INLINE inline __attribute__((always_inline))
#define LENGEN_INLINE_LAMBDA __attribute__((always_inline))

namespace lengen::cpu {

enum class Path { plain, fma, wide };

// The best path of this processor.
inline Path best_path() {
#if LENGEN_HAS_PATHS
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Path::plain;
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512bw");
  return wide ? Path::wide : Path::fma;
#else
  return Path::plain;
#endif
}

inline std::atomic<Path> path_in_use{best_path()};

inline Path path_now() { return path_in_use.load(std::memory_order_relaxed); }

// Defines name(...) from name_body<path>(...): the same source, compiled for every path; the widest only for what is worth it.
#if LENGEN_HAS_PATHS
#define LENGEN_LOOP_WIDE_WHERE(worth_it, name, parameters, arguments)                     \
  LENGEN_WIDE inline void name##_wide parameters { name##_body<Path::wide> arguments; }   \
  LENGEN_FMA inline void name##_fma parameters { name##_body<Path::fma> arguments; }      \
  inline void name##_plain parameters { name##_body<Path::plain> arguments; }             \
  inline void name parameters {                                                           \
    const Path path = path_now();                                                         \
    if (path == Path::wide && (worth_it)) return name##_wide arguments;                   \
    if (path != Path::plain) return name##_fma arguments;                                 \
    name##_plain arguments;                                                               \
  }
#else
#define LENGEN_LOOP_WIDE_WHERE(worth_it, name, parameters, arguments) \
  inline void name parameters { name##_body<Path::plain> arguments; }
#endif
#define LENGEN_LOOP(name, parameters, arguments) LENGEN_LOOP_WIDE_WHERE(true, name, parameters, arguments)

// ---- vectors ----

inline constexpr int64_t lanes = 8;  // of the vectors by which rows are padded
inline constexpr int64_t wide_lanes = 16;
typedef float Floats __attribute__((vector_size(lanes * sizeof(float))));
typedef int32_t Ints __attribute__((vector_size(lanes * sizeof(int32_t))));
typedef float WideFloats __attribute__((vector_size(wide_lanes * sizeof(float))));
typedef int32_t WideInts __attribute__((vector_size(wide_lanes * sizeof(int32_t))));

template <class V>
inline constexpr int64_t lanes_of = sizeof(V) / sizeof(float);

template <class V>
struct IntsOf {
  typedef Ints type;
};
template <>
struct IntsOf<WideFloats> {
  typedef WideInts type;
};

inline constexpr float infinity = std::numeric_limits<float>::infinity();

LENGEN_INLINE int64_t whole_vectors(int64_t count) { return (count + lanes - 1) / lanes * lanes; }

template <class V = Floats>
LENGEN_INLINE V load(const float* from) {
  V vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

template <class V>
LENGEN_INLINE void store(float* to, V vector) {
  std::memcpy(to, &vector, sizeof vector);
}

template <class V = Floats>
LENGEN_INLINE V every(float value) {
  return value - V{};
}

// The same of a number in memory, in one instruction where there is one; the compiler sees the vector only after inlining and
// would put it together from its parts.
template <Path path, class V = Floats>
LENGEN_INLINE V every_at(const float* from) {
#if LENGEN_HAS_PATHS
  if constexpr (path != Path::plain) {
    V vector;
    asm("vbroadcastss %1, %0" : "=v"(vector) : "m"(*from));
    return vector;
  }
#endif
  return every<V>(*from);
}

LENGEN_INLINE Ints counting(int64_t first) {
  const auto begin = static_cast<int32_t>(first);
  return Ints{0, 1, 2, 3, 4, 5, 6, 7} + begin;
}

LENGEN_INLINE float sum(Floats vector) {
  const Floats pairs = vector + __builtin_shuffle(vector, Ints{4, 5, 6, 7, 0, 1, 2, 3});
  return (pairs[0] + pairs[2]) + (pairs[1] + pairs[3]);
}

LENGEN_INLINE Floats lower_half(WideFloats vector) {
  return __builtin_shufflevector(vector, vector, 0, 1, 2, 3, 4, 5, 6, 7);
}

LENGEN_INLINE Floats upper_half(WideFloats vector) {
  return __builtin_shufflevector(vector, vector, 8, 9, 10, 11, 12, 13, 14, 15);
}

LENGEN_INLINE float sum(WideFloats vector) { return sum(lower_half(vector) + upper_half(vector)); }

template <class V>
LENGEN_INLINE V larger(V a, V b) {
  return a < b ? b : a;
}

LENGEN_INLINE float largest(Floats vector) {
  const Floats pairs = larger(vector, __builtin_shuffle(vector, Ints{4, 5, 6, 7, 0, 1, 2, 3}));
  return std::max(std::max(pairs[0], pairs[1]), std::max(pairs[2], pairs[3]));
}

// Calls visit(V{}, i) with the widest vectors of the path for i in begin, begin + lanes_of<V>, ...; end - begin is a multiple of 8.
template <Path path, class Visit>
LENGEN_INLINE void for_each_vector(int64_t begin, int64_t end, Visit&& visit) {
  int64_t i = begin;
  if constexpr (path == Path::wide) {
    for (; i + wide_lanes <= end; i += wide_lanes) visit(WideFloats{}, i);
  }
  for (; i < end; i += lanes) visit(Floats{}, i);
}

// exp(x), x <= 88, to about 1 ulp: exp(0) is 1, what underflows is 0, NaN stays NaN. x = n log 2 + r with |r| <= log(2) / 2, and a
// polynomial in r (Cephes, expf).
template <class V>
LENGEN_INLINE V exponential(V x) {
  const V least = every<V>(-87.0f);
  const V clamped = x < least ? least : x;
  const V rounder = every<V>(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  const V shifted = clamped * every<V>(1.44269504088896341f) + rounder;
  const V n = shifted - rounder;
  const V r = (clamped - n * every<V>(0.693359375f)) - n * every<V>(-2.12194440e-4f);
  V p = every<V>(1.9875691500e-4f);
  p = p * r + every<V>(1.3981999507e-3f);
  p = p * r + every<V>(8.3334519073e-3f);
  p = p * r + every<V>(4.1665795894e-2f);
  p = p * r + every<V>(1.6666665459e-1f);
  p = p * r + every<V>(5.0000001201e-1f);
  p = p * (r * r) + r + every<V>(1.0f);
  typename IntsOf<V>::type power;
  std::memcpy(&power, &shifted, sizeof power);
  power = (power << 23) + (127 << 23);
  V scale;
  std::memcpy(&scale, &power, sizeof scale);
  return x < least ? every<V>(0.0f) : p * scale;
}

// Running sums, or running maxima, of the vectors of either width.
template <Path path>
struct Sums {
  WideFloats wide;
  Floats narrow;

  LENGEN_INLINE Sums() : wide{}, narrow{} {}
  LENGEN_INLINE explicit Sums(const float* start) : wide{}, narrow(every_at<path>(start)) {
    if constexpr (path == Path::wide) wide = every_at<path, WideFloats>(start);
  }
  LENGEN_INLINE WideFloats& of(WideFloats) { return wide; }
  LENGEN_INLINE Floats& of(Floats) { return narrow; }
  LENGEN_INLINE float total() const {
    if constexpr (path == Path::wide) return sum(lower_half(wide) + upper_half(wide) + narrow);
    return sum(narrow);
  }
  LENGEN_INLINE float largest() const {
    if constexpr (path == Path::wide) return cpu::largest(larger(larger(lower_half(wide), upper_half(wide)), narrow));
    return cpu::largest(narrow);
  }
};

// ---- matrix products ----

inline constexpr int64_t tile_rows = 6;

// c[rows][lanes of V * vectors] = or += a b over k terms; element (r, t) of a at a[r * a_row + t * a_term].
template <Path path, class V, int rows, int vectors>
LENGEN_INLINE void product_tile(const float* a, int64_t a_row, int64_t a_term, const float* b, int64_t b_row, int64_t terms,
                                float* c, int64_t c_row, bool add) {
  V sums[rows][vectors] = {};
  for (int64_t t = 0; t < terms; ++t, a += a_term, b += b_row) {
    V right[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) right[v] = load<V>(b + v * lanes_of<V>);
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r) {
      const V left = every_at<path, V>(a + r * a_row);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sums[r][v] += left * right[v];
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
      float* const at = c + r * c_row + v * lanes_of<V>;
      store(at, add ? load<V>(at) + sums[r][v] : sums[r][v]);
    }
  }
}

// The same for 1 to most_rows rows.
template <Path path, class V, int vectors, int most_rows>
LENGEN_INLINE void product_rows(int64_t rows, const float* a, int64_t a_row, int64_t a_term, const float* b, int64_t b_row,
                                int64_t terms, float* c, int64_t c_row, bool add) {
  if constexpr (most_rows > 1) {
    if (rows < most_rows) return product_rows<path, V, vectors, most_rows - 1>(rows, a, a_row, a_term, b, b_row, terms, c, c_row, add);
  }
  product_tile<path, V, most_rows, vectors>(a, a_row, a_term, b, b_row, terms, c, c_row, add);
}

// The same for any number of rows: what is read of b stays in the nearest cache while they pass. What is left of tiles of
// most_rows is divided evenly, so that no tile has too few sums to keep the multipliers busy.
template <Path path, class V, int vectors, int most_rows = tile_rows>
LENGEN_INLINE void product_strip(int64_t rows, const float* a, int64_t a_row, int64_t a_term, const float* b, int64_t b_row,
                                 int64_t terms, float* c, int64_t c_row, bool add) {
  for (int64_t count; rows > 0; rows -= count, a += count * a_row, c += count * c_row) {
    count = rows >= 2 * most_rows || rows <= most_rows ? std::min<int64_t>(rows, most_rows) : (rows + 1) / 2;
    product_rows<path, V, vectors, most_rows>(count, a, a_row, a_term, b, b_row, terms, c, c_row, add);
  }
}

template <Path path>
LENGEN_INLINE void product_body(int64_t rows, int64_t columns, const float* a, int64_t a_row, int64_t a_term, const float* b,
                                int64_t b_row, int64_t terms, float* c, int64_t c_row, bool add) {
  int64_t n = 0;
  if constexpr (path == Path::wide) {
    for (; n + 2 * wide_lanes <= columns; n += 2 * wide_lanes) {
      product_strip<path, WideFloats, 2>(rows, a, a_row, a_term, b + n, b_row, terms, c + n, c_row, add);
    }
    for (; n + wide_lanes <= columns; n += wide_lanes) {
      product_strip<path, WideFloats, 1, 2 * tile_rows>(rows, a, a_row, a_term, b + n, b_row, terms, c + n, c_row, add);
    }
  }
  for (; n + 2 * lanes <= columns; n += 2 * lanes) {
    product_strip<path, Floats, 2>(rows, a, a_row, a_term, b + n, b_row, terms, c + n, c_row, add);
  }
  if (n < columns) product_strip<path, Floats, 1>(rows, a, a_row, a_term, b + n, b_row, terms, c + n, c_row, add);
}

// c[rows][columns] = or += a b, columns a multiple of 8; the sum over the terms is made before it is added.
LENGEN_LOOP_WIDE_WHERE(columns >= wide_lanes && terms >= 8, product,
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

// score * factor and the biases, of the keys from `key` on.
template <Path path, class V>
LENGEN_INLINE V biased(const ScoreRow& row, V score, int64_t key) {
  V x = score * every_at<path, V>(&row.factor);
  if (row.key_bias != nullptr) x += load<V>(row.key_bias + key);
  if (row.distance_bias != nullptr) x += load<V>(row.distance_bias + key);
  return x;
}

// Some of eight keys: `then` for those that the row sees.
LENGEN_INLINE Floats where_seen(const ScoreRow& row, int64_t key, Floats then, Floats otherwise) {
  const Ints keys = counting(key);
  return (keys >= static_cast<int32_t>(row.first)) & (keys <= static_cast<int32_t>(row.last)) ? then : otherwise;
}

// Calls seen(V{}, key) for vectors of keys that the row sees, and edge(key) for eight of which it sees some or none.
template <Path path, class Seen, class Edge>
LENGEN_INLINE void for_each_key(const ScoreRow& row, int64_t begin, int64_t end, Seen&& seen, Edge&& edge) {
  const int64_t first = std::clamp(whole_vectors(std::max<int64_t>(row.first, 0)), begin, end);
  const int64_t last = std::clamp((row.last + 1) / lanes * lanes, first, end);
  for (int64_t key = begin; key < first; key += lanes) edge(key);
  for_each_vector<path>(first, last, seen);
  for (int64_t key = last; key < end; key += lanes) edge(key);
}

// What the softmax of a row subtracts and divides by.
struct Softmax {
  float peak, total;
};

inline constexpr int64_t long_row = 64;  // keys from which wide vectors are worth what joining their sums costs
inline constexpr int64_t summed_at_once = 256;  // keys, so that a long sum loses little

// scores[begin..end) (whole vectors of the row's keys, or of those outside it) become exp(score - peak); 0 outside the row. `softmax`
// is that of the keys before, {-infinity, 0} if there are none, and becomes that of all so far; what was summed with the weights of
// the keys before is to be multiplied by `decay`.
template <Path path>
LENGEN_INLINE void exponentiate_row_body(const ScoreRow& row, float* scores, int64_t begin, int64_t end, Softmax& softmax,
                                         float& decay) {
  Sums<path> peaks(&softmax.peak);
  for_each_key<path>(
      row, begin, end,
      [&](auto vector, int64_t key) LENGEN_INLINE_LAMBDA {
        using V = decltype(vector);
        const V x = biased<path>(row, load<V>(scores + key), key);
        peaks.of(vector) = larger(peaks.of(vector), x);
        store(scores + key, x);
      },
      [&](int64_t key) LENGEN_INLINE_LAMBDA {
        const Floats x = where_seen(row, key, biased<path>(row, load(scores + key), key), every(-infinity));
        peaks.narrow = larger(peaks.narrow, x);
        store(scores + key, x);
      });
  const float peak = peaks.largest(), subtracted = peak == -infinity ? 0.0f : peak;  // so that nothing seen has weight 0
  decay = peak == softmax.peak || softmax.peak == -infinity ? 1.0f : exponential(every(softmax.peak - peak))[0];
  float total = softmax.total * decay;
  for (int64_t block = begin; block < end; block += summed_at_once) {
    Sums<path> sums;
    for_each_vector<path>(block, std::min(end, block + summed_at_once), [&](auto vector, int64_t key) LENGEN_INLINE_LAMBDA {
      using V = decltype(vector);
      const V weights = exponential(load<V>(scores + key) - every_at<path, V>(&subtracted));
      sums.of(vector) += weights;
      store(scores + key, weights);
    });
    total += sums.total();
  }
  softmax = {peak, total};
}

LENGEN_LOOP_WIDE_WHERE(end - begin >= long_row, exponentiate_row,
            (const ScoreRow& row, float* scores, int64_t begin, int64_t end, Softmax& softmax, float& decay),
            (row, scores, begin, end, softmax, decay))

// What the backward pass of one row adds to; each pointer is indexed by the key, or null.
struct ScoreRowGradients {
  float* key_bias;
  float* distance_bias;
  float& factor;  // d loss / d factor of the row
};

// scores[begin..end) become the weights, and products (output gradient times values) the gradients of the unscaled scores.
template <Path path>
LENGEN_INLINE void differentiate_row_body(const ScoreRow& row, float* scores, float* products, int64_t begin, int64_t end,
                                          const Softmax& softmax, float delta, ScoreRowGradients& gradients) {
  const float share = 1.0f / softmax.total;
  float *const key_bias = gradients.key_bias, *const distance_bias = gradients.distance_bias;
  Sums<path> of_factor;
  const auto differentiate = [&](auto score, auto weights, auto slope, int64_t key) LENGEN_INLINE_LAMBDA {
    using V = decltype(score);
    of_factor.of(score) += slope * score;
    if (key_bias != nullptr) store(key_bias + key, load<V>(key_bias + key) + slope);
    if (distance_bias != nullptr) store(distance_bias + key, load<V>(distance_bias + key) + slope);
    store(scores + key, weights);
    store(products + key, slope * every_at<path, V>(&row.factor));
  };
  for_each_key<path>(
      row, begin, end,
      [&](auto vector, int64_t key) LENGEN_INLINE_LAMBDA {
        using V = decltype(vector);
        const V score = load<V>(scores + key);
        const V weights = exponential(biased<path>(row, score, key) - every_at<path, V>(&softmax.peak)) * every_at<path, V>(&share);
        differentiate(score, weights, weights * (load<V>(products + key) - every_at<path, V>(&delta)), key);
      },
      [&](int64_t key) LENGEN_INLINE_LAMBDA {
        const Floats nothing = every(0.0f);
        const Floats score = where_seen(row, key, load(scores + key), nothing);
        const Floats weights = exponential(biased<path>(row, score, key) - every_at<path>(&softmax.peak)) * every_at<path>(&share);
        const Floats seen = where_seen(row, key, weights, nothing);
        const Floats slope = where_seen(row, key, weights * (load(products + key) - every_at<path>(&delta)), nothing);
        differentiate(score, seen, slope, key);
      });
  gradients.factor += of_factor.total();
}

LENGEN_LOOP_WIDE_WHERE(end - begin >= long_row, differentiate_row,
            (const ScoreRow& row, float* scores, float* products, int64_t begin, int64_t end, const Softmax& softmax, float delta,
             ScoreRowGradients& gradients),
            (row, scores, products, begin, end, softmax, delta, gradients))

// ---- vectors ----

// Whole vectors of values, each divided.
template <Path path>
LENGEN_INLINE void divide_body(float* values, int64_t count, const float& by) {
  for_each_vector<path>(0, count, [&](auto vector, int64_t i) LENGEN_INLINE_LAMBDA {
    using V = decltype(vector);
    store(values + i, load<V>(values + i) / every_at<path, V>(&by));
  });
}

LENGEN_LOOP(divide, (float* values, int64_t count, const float& by), (values, count, by))

// Whole vectors of values, each multiplied.
template <Path path>
LENGEN_INLINE void multiply_body(float* values, int64_t count, const float& by) {
  for_each_vector<path>(0, count, [&](auto vector, int64_t i) LENGEN_INLINE_LAMBDA {
    using V = decltype(vector);
    store(values + i, load<V>(values + i) * every_at<path, V>(&by));
  });
}

LENGEN_LOOP(multiply, (float* values, int64_t count, const float& by), (values, count, by))

template <Path path>
LENGEN_INLINE void dot_body(const float* a, const float* b, int64_t count, float& result) {
  Sums<path> sums;
  const int64_t whole = count / lanes * lanes;
  for_each_vector<path>(0, whole, [&](auto vector, int64_t i) LENGEN_INLINE_LAMBDA {
    using V = decltype(vector);
    sums.of(vector) += load<V>(a + i) * load<V>(b + i);
  });
  result = sums.total();
  for (int64_t i = whole; i < count; ++i) result += a[i] * b[i];
}

LENGEN_LOOP(dot, (const float* a, const float* b, int64_t count, float& result), (a, b, count, result))

template <Path path>
LENGEN_INLINE void add_to_body(float* to, const float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] += values[i];
}

LENGEN_LOOP(add_to, (float* to, const float* values, int64_t count), (to, values, count))

// Eight rows of eight become eight columns.
LENGEN_INLINE void transpose_square(Floats (&rows)[lanes]) {
  Floats pairs[lanes], fours[lanes];
  for (int i = 0; i < lanes; i += 2) {
    pairs[i] = __builtin_shuffle(rows[i], rows[i + 1], Ints{0, 8, 1, 9, 4, 12, 5, 13});
    pairs[i + 1] = __builtin_shuffle(rows[i], rows[i + 1], Ints{2, 10, 3, 11, 6, 14, 7, 15});
  }
  for (int i = 0; i < lanes; i += 4) {
    for (int half = 0; half < 2; ++half) {
      fours[i + 2 * half] = __builtin_shuffle(pairs[i + half], pairs[i + half + 2], Ints{0, 1, 8, 9, 4, 5, 12, 13});
      fours[i + 2 * half + 1] = __builtin_shuffle(pairs[i + half], pairs[i + half + 2], Ints{2, 3, 10, 11, 6, 7, 14, 15});
    }
  }
  for (int i = 0; i < lanes / 2; ++i) {
    rows[i] = __builtin_shuffle(fours[i], fours[i + 4], Ints{0, 1, 2, 3, 8, 9, 10, 11});
    rows[i + 4] = __builtin_shuffle(fours[i], fours[i + 4], Ints{4, 5, 6, 7, 12, 13, 14, 15});
  }
}

// to[columns][to_row] = transpose of from[rows][from_row]; the places rows..whole_vectors(rows)-1 become 0.
template <Path path>
LENGEN_INLINE void transpose_body(const float* from, int64_t from_row, int64_t rows, int64_t columns, float* to, int64_t to_row) {
  for (int64_t row = 0; row < rows; row += lanes) {
    const int64_t there = std::min(lanes, rows - row);
    const float* const at = from + row * from_row;
    int64_t column = 0;
    for (; column + lanes <= columns; column += lanes) {
      Floats square[lanes] = {};
      for (int64_t i = 0; i < there; ++i) square[i] = load(at + i * from_row + column);
      transpose_square(square);
      for (int64_t i = 0; i < lanes; ++i) store(to + (column + i) * to_row + row, square[i]);
    }
    for (; column < columns; ++column) {
      float values[lanes] = {};
      for (int64_t i = 0; i < there; ++i) values[i] = at[i * from_row + column];
      store(to + column * to_row + row, load(values));
    }
  }
}

LENGEN_LOOP(transpose, (const float* from, int64_t from_row, int64_t rows, int64_t columns, float* to, int64_t to_row),
            (from, from_row, rows, columns, to, to_row))

}  // namespace lengen::cpu
