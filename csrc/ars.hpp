// ARS 4x32-7 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011): seven rounds of AES, the
// last without its mixing of columns, whose keys are a Weyl sequence. The paper finds five rounds to pass every test of TestU01's
// BigCrush, and recommends seven.
//
// The counter is (block, row, stream low, stream high), the key (seed, 0). Both are the bytes of AES's state in memory order.
#pragma once

#include <array>
#include <bit>
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

namespace ars {

inline constexpr uint64_t weyl_low = 0x9E3779B97F4A7C15u;   // the golden ratio
inline constexpr uint64_t weyl_high = 0xBB67AE8584CAA73Bu;  // sqrt(3) - 1
inline constexpr int rounds = 7;

inline constexpr uint8_t times_two(uint8_t byte) { return static_cast<uint8_t>(byte << 1 ^ (byte & 0x80 ? 0x1B : 0)); }

// What AES substitutes for each byte (FIPS 197, section 5.1.1): the affine image of its inverse. The powers of 3 are all bytes but 0,
// and those of its inverse their inverses.
inline constexpr auto substitutes = [] {
  std::array<uint8_t, 256> table{};
  table[0] = 0x63;
  uint8_t power = 1, inverse = 1;
  do {
    power = static_cast<uint8_t>(power ^ times_two(power));
    for (const int by : {1, 2, 4}) inverse = static_cast<uint8_t>(inverse ^ inverse << by);  // times 0xF6
    if (inverse & 0x80) inverse ^= 0x09;
    uint8_t image = 0x63;
    for (const int by : {0, 1, 2, 3, 4}) image ^= std::rotl(inverse, by);
    table[power] = image;
  } while (power != 1);
  return table;
}();

// The column into which a byte's substitute is mixed from the first row; from row r, turned by r bytes.
inline constexpr auto columns = [] {
  std::array<uint32_t, 256> table{};
  for (size_t byte = 0; byte < 256; ++byte) {
    const uint8_t once = substitutes[byte], twice = times_two(once);
    table[byte] = twice | uint32_t{once} << 8 | uint32_t{once} << 16 | static_cast<uint32_t>(once ^ twice) << 24;
  }
  return table;
}();

// Byte r of the column that shifting the rows brings to column c.
inline uint8_t shifted(const uint32_t state[4], int c, int r) { return static_cast<uint8_t>(state[(c + r) % 4] >> (8 * r)); }

// One block: `counter` is replaced by its four random words.
inline void block(uint32_t counter[4], const uint64_t key[2]) {
  uint64_t low = key[0], high = key[1];
  const auto add_key = [&](const uint32_t* columns_in, uint32_t* out) {
    out[0] = columns_in[0] ^ static_cast<uint32_t>(low);
    out[1] = columns_in[1] ^ static_cast<uint32_t>(low >> 32);
    out[2] = columns_in[2] ^ static_cast<uint32_t>(high);
    out[3] = columns_in[3] ^ static_cast<uint32_t>(high >> 32);
  };
  add_key(counter, counter);
  for (int round = 1; round <= rounds; ++round) {
    uint32_t next[4] = {};
    for (int c = 0; c < 4; ++c) {
      for (int r = 0; r < 4; ++r) {
        const uint8_t byte = shifted(counter, c, r);
        next[c] ^= round < rounds ? std::rotl(columns[byte], 8 * r) : uint32_t{substitutes[byte]} << (8 * r);
      }
    }
    low += weyl_low;
    high += weyl_high;
    add_key(next, counter);
  }
}

inline void block_of(const RowKey& key, uint32_t index, uint32_t out[4]) {
  out[0] = index;
  out[1] = key.row;
  out[2] = static_cast<uint32_t>(key.stream);
  out[3] = static_cast<uint32_t>(key.stream >> 32);
  const uint64_t seed[2] = {key.seed, 0};
  block(out, seed);
}

#if LENGEN_HAS_AVX2_PATH

// Eight blocks at once, out[i] at out + i * stride: of consecutive rows, or consecutive blocks of one row.
LENGEN_AVX2 LENGEN_INLINE void eight_blocks(const RowKey& key, uint32_t index, bool across_rows, uint32_t* out, int64_t stride) {
  const __m128i step = across_rows ? _mm_set_epi32(0, 0, 1, 0) : _mm_set_epi32(0, 0, 0, 1);
  const __m128i weyl = _mm_set_epi64x(static_cast<int64_t>(weyl_high), static_cast<int64_t>(weyl_low));
  __m128i counter = _mm_set_epi64x(static_cast<int64_t>(key.stream), static_cast<int64_t>(uint64_t{key.row} << 32 | index));
  __m128i round_key = _mm_set_epi64x(0, static_cast<int64_t>(key.seed));
  __m128i states[8];
  for (__m128i& state : states) {
    state = _mm_xor_si128(counter, round_key);
    counter = _mm_add_epi32(counter, step);
  }
#pragma GCC unroll 8
  for (int round = 1; round < rounds; ++round) {
    round_key = _mm_add_epi64(round_key, weyl);
    for (__m128i& state : states) state = _mm_aesenc_si128(state, round_key);
  }
  round_key = _mm_add_epi64(round_key, weyl);
  for (int64_t i = 0; i < 8; ++i) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i * stride), _mm_aesenclast_si128(states[i], round_key));
  }
}

LENGEN_AVX2 inline int64_t run(const RowKey& key, uint32_t first, int64_t blocks, uint32_t* out) {
  int64_t done = 0;
  for (; done + 8 <= blocks; done += 8) eight_blocks(key, first + static_cast<uint32_t>(done), false, out + 4 * done, 4);
  return done;
}

LENGEN_AVX2 inline int64_t heads(RowKey key, int64_t rows, uint32_t first, int64_t blocks, uint32_t* out) {
  int64_t done = 0;
  for (; done + 8 <= rows; done += 8, key.row += 8) {
    for (int64_t i = 0; i < blocks; ++i) {
      eight_blocks(key, first + static_cast<uint32_t>(i), true, out + 4 * (done * blocks + i), 4 * blocks);
    }
  }
  return done;
}

#endif

}  // namespace ars

// out[4 * blocks]: consecutive blocks of one row.
LENGEN_SEPARATE inline void random_run(const RowKey& key, uint32_t first, int64_t blocks, uint32_t* out) {
  int64_t done = 0;
#if LENGEN_HAS_AVX2_PATH
  if (use_avx2()) done = ars::run(key, first, blocks, out);
#endif
  for (; done < blocks; ++done) ars::block_of(key, first + static_cast<uint32_t>(done), out + 4 * done);
}

// out[rows][4 * blocks]: the same blocks of consecutive rows, the first of which is key.row.
LENGEN_SEPARATE inline void random_heads(const RowKey& key, int64_t rows, uint32_t first, int64_t blocks, uint32_t* out) {
  int64_t done = 0;
#if LENGEN_HAS_AVX2_PATH
  if (use_avx2()) done = ars::heads(key, rows, first, blocks, out);
#endif
  for (; done < rows; ++done) {
    const RowKey row_key{key.seed, key.stream, key.row + static_cast<uint32_t>(done)};
    random_run(row_key, first, blocks, out + 4 * done * blocks);
  }
}

}  // namespace lengen
