// Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
//
// The key is the seed; the counter is (block, row, stream low, stream high).
#pragma once

#include <cstdint>

#include "vector.hpp"

#if LENGEN_HAS_AVX2_PATH
#include <immintrin.h>
#endif

namespace lengen {

// Names the random stream of one row.
struct RowKey {
  uint64_t seed;
  uint64_t stream;
  uint32_t row;
};

namespace philox {

inline constexpr uint32_t multiplier_0 = 0xD2511F53u;
inline constexpr uint32_t multiplier_1 = 0xCD9E8D57u;
inline constexpr uint32_t weyl_0 = 0x9E3779B9u;
inline constexpr uint32_t weyl_1 = 0xBB67AE85u;
inline constexpr int rounds = 10;

// One block: `counter` is replaced by its four random words.
inline void block(uint32_t counter[4], uint32_t key_0, uint32_t key_1) {
  for (int round = 0; round < rounds; ++round) {
    const uint64_t product_0 = static_cast<uint64_t>(multiplier_0) * counter[0];
    const uint64_t product_1 = static_cast<uint64_t>(multiplier_1) * counter[2];
    const uint32_t word_0 = static_cast<uint32_t>(product_1 >> 32) ^ counter[1] ^ key_0;
    const uint32_t word_2 = static_cast<uint32_t>(product_0 >> 32) ^ counter[3] ^ key_1;
    counter[0] = word_0;
    counter[1] = static_cast<uint32_t>(product_1);
    counter[2] = word_2;
    counter[3] = static_cast<uint32_t>(product_0);
    key_0 += weyl_0;
    key_1 += weyl_1;
  }
}

inline void block_of(const RowKey& key, uint32_t index, uint32_t out[4]) {
  out[0] = index;
  out[1] = key.row;
  out[2] = static_cast<uint32_t>(key.stream);
  out[3] = static_cast<uint32_t>(key.stream >> 32);
  block(out, static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32));
}

#if LENGEN_HAS_AVX2_PATH

// Eight 32-bit products with one factor, as high and low halves.
LENGEN_AVX2 LENGEN_INLINE void multiply(__m256i factor, __m256i values, __m256i& high, __m256i& low) {
  const __m256i even = _mm256_mul_epu32(factor, values);
  const __m256i odd = _mm256_mul_epu32(factor, _mm256_srli_epi64(values, 32));
  low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
  high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
}

// Eight blocks, lane by lane; lane i goes to out + i * stride.
LENGEN_AVX2 LENGEN_INLINE void eight_blocks(const RowKey& key, __m256i index, __m256i row, uint32_t* out, int64_t stride) {
  __m256i c0 = index;
  __m256i c1 = row;
  __m256i c2 = _mm256_set1_epi32(static_cast<int>(key.stream));
  __m256i c3 = _mm256_set1_epi32(static_cast<int>(key.stream >> 32));
  const __m256i factor_0 = _mm256_set1_epi64x(multiplier_0);
  const __m256i factor_1 = _mm256_set1_epi64x(multiplier_1);
  uint32_t key_0 = static_cast<uint32_t>(key.seed);
  uint32_t key_1 = static_cast<uint32_t>(key.seed >> 32);
  for (int round = 0; round < rounds; ++round) {
    __m256i high_0, low_0, high_1, low_1;
    multiply(factor_0, c0, high_0, low_0);
    multiply(factor_1, c2, high_1, low_1);
    c0 = _mm256_xor_si256(_mm256_xor_si256(high_1, c1), _mm256_set1_epi32(static_cast<int>(key_0)));
    c2 = _mm256_xor_si256(_mm256_xor_si256(high_0, c3), _mm256_set1_epi32(static_cast<int>(key_1)));
    c1 = low_1;
    c3 = low_0;
    key_0 += weyl_0;
    key_1 += weyl_1;
  }
  const __m256i low_01 = _mm256_unpacklo_epi32(c0, c1), high_01 = _mm256_unpackhi_epi32(c0, c1);
  const __m256i low_23 = _mm256_unpacklo_epi32(c2, c3), high_23 = _mm256_unpackhi_epi32(c2, c3);
  const __m256i lanes[4] = {_mm256_unpacklo_epi64(low_01, low_23), _mm256_unpackhi_epi64(low_01, low_23),
                            _mm256_unpacklo_epi64(high_01, high_23), _mm256_unpackhi_epi64(high_01, high_23)};
  for (int i = 0; i < 4; ++i) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i * stride), _mm256_castsi256_si128(lanes[i]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + (i + 4) * stride), _mm256_extracti128_si256(lanes[i], 1));
  }
}

LENGEN_AVX2 inline int64_t run_avx2(const RowKey& key, uint32_t first, int64_t blocks, uint32_t* out) {
  const __m256i steps = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i row = _mm256_set1_epi32(static_cast<int>(key.row));
  int64_t done = 0;
  for (; done + 8 <= blocks; done += 8) {
    const __m256i index = _mm256_add_epi32(_mm256_set1_epi32(static_cast<int>(first + static_cast<uint32_t>(done))), steps);
    eight_blocks(key, index, row, out + 4 * done, 4);
  }
  return done;
}

LENGEN_AVX2 inline int64_t heads_avx2(const RowKey& key, int64_t rows, uint32_t first, int64_t blocks, uint32_t* out) {
  const __m256i steps = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  int64_t done = 0;
  for (; done + 8 <= rows; done += 8) {
    const __m256i row = _mm256_add_epi32(_mm256_set1_epi32(static_cast<int>(key.row + static_cast<uint32_t>(done))), steps);
    for (int64_t i = 0; i < blocks; ++i) {
      const __m256i index = _mm256_set1_epi32(static_cast<int>(first + static_cast<uint32_t>(i)));
      eight_blocks(key, index, row, out + 4 * (done * blocks + i), 4 * blocks);
    }
  }
  return done;
}

#endif

}  // namespace philox

// out[4 * blocks]: consecutive blocks of one row.
inline void philox_run(const RowKey& key, uint32_t first, int64_t blocks, uint32_t* out) {
  int64_t done = 0;
#if LENGEN_HAS_AVX2_PATH
  if (use_avx2()) done = philox::run_avx2(key, first, blocks, out);
#endif
  for (; done < blocks; ++done) philox::block_of(key, first + static_cast<uint32_t>(done), out + 4 * done);
}

// out[rows][4 * blocks]: the same blocks of consecutive rows, the first of which is key.row.
inline void philox_heads(const RowKey& key, int64_t rows, uint32_t first, int64_t blocks, uint32_t* out) {
  int64_t done = 0;
#if LENGEN_HAS_AVX2_PATH
  if (use_avx2()) done = philox::heads_avx2(key, rows, first, blocks, out);
#endif
  for (; done < rows; ++done) {
    const RowKey row_key{key.seed, key.stream, key.row + static_cast<uint32_t>(done)};
    philox_run(row_key, first, blocks, out + 4 * done * blocks);
  }
}

}  // namespace lengen
