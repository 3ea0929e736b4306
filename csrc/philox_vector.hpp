// Eight blocks of Philox at once, for one path: philox.hpp includes this once for each, with what differs as macros.

LENGEN_PHILOX_PATH LENGEN_INLINE void one_round(FourCounters& counters, __m256i key_0, __m256i key_1) {
  const __m256i product_0 = _mm256_mul_epu32(counters.word[0], _mm256_set1_epi64x(multiplier_0));
  const __m256i product_1 = _mm256_mul_epu32(counters.word[2], _mm256_set1_epi64x(multiplier_1));
  counters.word[0] = LENGEN_PHILOX_XOR(_mm256_srli_epi64(product_1, 32), counters.word[1], key_0);
  counters.word[2] = LENGEN_PHILOX_XOR(_mm256_srli_epi64(product_0, 32), counters.word[3], key_1);
  counters.word[1] = product_1;
  counters.word[3] = product_0;
}

// The words of four blocks; block i goes to out + i * stride.
LENGEN_PHILOX_PATH LENGEN_INLINE void store_four(const FourCounters& counters, uint32_t* out, int64_t stride) {
  const __m256i first = _mm256_blend_epi32(counters.word[0], _mm256_slli_epi64(counters.word[1], 32), 0xAA);
  const __m256i second = _mm256_blend_epi32(counters.word[2], _mm256_slli_epi64(counters.word[3], 32), 0xAA);
  const __m256i even = _mm256_unpacklo_epi64(first, second), odd = _mm256_unpackhi_epi64(first, second);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(even));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out + stride), _mm256_castsi256_si128(odd));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 2 * stride), _mm256_extracti128_si256(even, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 3 * stride), _mm256_extracti128_si256(odd, 1));
}

// Eight blocks, of consecutive rows or consecutive in one row; block i goes to out + i * stride.
LENGEN_PHILOX_PATH LENGEN_INLINE void eight_blocks(const RowKey& key, uint32_t index, bool across_rows, uint32_t* out, int64_t stride) {
  FourCounters halves[2];
  for (int half = 0; half < 2; ++half) {
    const __m256i lanes = _mm256_setr_epi64x(4 * half, 4 * half + 1, 4 * half + 2, 4 * half + 3);
    halves[half].word[0] = _mm256_add_epi32(_mm256_set1_epi64x(index), across_rows ? _mm256_setzero_si256() : lanes);
    halves[half].word[1] = _mm256_add_epi32(_mm256_set1_epi64x(key.row), across_rows ? lanes : _mm256_setzero_si256());
    halves[half].word[2] = _mm256_set1_epi64x(static_cast<int64_t>(key.stream & 0xFFFFFFFFu));
    halves[half].word[3] = _mm256_set1_epi64x(static_cast<int64_t>(key.stream >> 32));
  }
  __m256i key_0 = _mm256_set1_epi64x(static_cast<int64_t>(key.seed & 0xFFFFFFFFu));
  __m256i key_1 = _mm256_set1_epi64x(static_cast<int64_t>(key.seed >> 32));
  for (int round = 0; round < rounds; ++round) {
    one_round(halves[0], key_0, key_1);
    one_round(halves[1], key_0, key_1);
    key_0 = _mm256_add_epi32(key_0, _mm256_set1_epi64x(weyl_0));
    key_1 = _mm256_add_epi32(key_1, _mm256_set1_epi64x(weyl_1));
  }
  store_four(halves[0], out, stride);
  store_four(halves[1], out + 4 * stride, stride);
}

LENGEN_PHILOX_PATH inline int64_t run(const RowKey& key, uint32_t first, int64_t blocks, uint32_t* out) {
  int64_t done = 0;
  for (; done + 8 <= blocks; done += 8) eight_blocks(key, first + static_cast<uint32_t>(done), false, out + 4 * done, 4);
  return done;
}

LENGEN_PHILOX_PATH inline int64_t heads(RowKey key, int64_t rows, uint32_t first, int64_t blocks, uint32_t* out) {
  int64_t done = 0;
  for (; done + 8 <= rows; done += 8, key.row += 8) {
    for (int64_t i = 0; i < blocks; ++i) {
      eight_blocks(key, first + static_cast<uint32_t>(i), true, out + 4 * (done * blocks + i), 4 * blocks);
    }
  }
  return done;
}
