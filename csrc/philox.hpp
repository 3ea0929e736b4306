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

// Four counters, one to a 64-bit lane; the upper halves hold what the multiplications leave there and are never read.
struct FourCounters {
  __m256i word[4];
};

namespace avx2 {
#define LENGEN_PHILOX_PATH LENGEN_AVX2
#define LENGEN_PHILOX_XOR(a, b, c) _mm256_xor_si256(_mm256_xor_si256(a, b), c)
#include "philox_vector.hpp"
#undef LENGEN_PHILOX_PATH
#undef LENGEN_PHILOX_XOR
}  // namespace avx2

namespace avx512 {
#define LENGEN_PHILOX_PATH LENGEN_AVX512
#define LENGEN_PHILOX_XOR(a, b, c) _mm256_ternarylogic_epi64(a, b, c, 0x96)
#include "philox_vector.hpp"
#undef LENGEN_PHILOX_PATH
#undef LENGEN_PHILOX_XOR
}  // namespace avx512

#endif

}  // namespace philox

// out[4 * blocks]: consecutive blocks of one row.
LENGEN_SEPARATE inline void philox_run(const RowKey& key, uint32_t first, int64_t blocks, uint32_t* out) {
  int64_t done = 0;
#if LENGEN_HAS_AVX2_PATH
  if (use_avx512()) {
    done = philox::avx512::run(key, first, blocks, out);
  } else if (use_avx2()) {
    done = philox::avx2::run(key, first, blocks, out);
  }
#endif
  for (; done < blocks; ++done) philox::block_of(key, first + static_cast<uint32_t>(done), out + 4 * done);
}

// out[rows][4 * blocks]: the same blocks of consecutive rows, the first of which is key.row.
LENGEN_SEPARATE inline void philox_heads(const RowKey& key, int64_t rows, uint32_t first, int64_t blocks, uint32_t* out) {
  int64_t done = 0;
#if LENGEN_HAS_AVX2_PATH
  if (use_avx512()) {
    done = philox::avx512::heads(key, rows, first, blocks, out);
  } else if (use_avx2()) {
    done = philox::avx2::heads(key, rows, first, blocks, out);
  }
#endif
  for (; done < rows; ++done) {
    const RowKey row_key{key.seed, key.stream, key.row + static_cast<uint32_t>(done)};
    philox_run(row_key, first, blocks, out + 4 * done * blocks);
  }
}

}  // namespace lengen
