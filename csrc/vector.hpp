// The inner loops, compiled once for plain code and once more for AVX2 where the compiler can; the processor decides at run time.
//
// Both paths give the same integers. Everything else in csrc/ is free of processor-specific code.
#pragma once

#include <atomic>
#include <cstdint>

#if defined(__x86_64__) && defined(__GNUC__)
#define LENGEN_HAS_AVX2_PATH 1
#define LENGEN_AVX2 __attribute__((target("avx2")))
#else
#define LENGEN_HAS_AVX2_PATH 0
#endif
#define LENGEN_INLINE inline __attribute__((always_inline))

namespace lengen {

// ---- which path ----

inline bool avx2_supported() {
#if LENGEN_HAS_AVX2_PATH
  return __builtin_cpu_supports("avx2");
#else
  return false;
#endif
}

inline std::atomic<bool>& avx2_enabled() {
  static std::atomic<bool> enabled{avx2_supported()};
  return enabled;
}

inline bool use_avx2() { return avx2_enabled().load(std::memory_order_relaxed); }

// ---- loops that the compiler vectorises by itself ----
//
// LENGEN_DISPATCH defines name(...) from name_plain(...): the same source, compiled for either path.

#if LENGEN_HAS_AVX2_PATH
#define LENGEN_DISPATCH(name, parameters, arguments)                       \
  LENGEN_AVX2 inline void name##_avx2 parameters { name##_plain arguments; } \
  inline void name parameters {                                            \
    if (use_avx2()) return name##_avx2 arguments;                          \
    name##_plain arguments;                                                \
  }
#else
#define LENGEN_DISPATCH(name, parameters, arguments) \
  inline void name parameters { name##_plain arguments; }
#endif

// out[i] = bit i of bits, as 0 or 1.
LENGEN_INLINE void expand_bits_plain(const uint64_t* bits, int64_t count, int64_t* out) {
  int64_t i = 0;
  for (; i + 64 <= count; i += 64) {
    const uint64_t word = bits[i / 64];
    for (int64_t j = 0; j < 64; ++j) out[i + j] = static_cast<int64_t>(word >> j & 1);
  }
  const uint64_t word = i < count ? bits[i / 64] : 0;
  for (int64_t j = 0; j < count - i; ++j) out[i + j] = static_cast<int64_t>(word >> j & 1);
}
LENGEN_DISPATCH(expand_bits, (const uint64_t* bits, int64_t count, int64_t* out), (bits, count, out))

// out[i] = bit count-1-i of `number`, most significant first; number[] holds 64 bits each, least significant first.
LENGEN_INLINE void expand_number_plain(const uint64_t* number, int64_t count, int64_t* out) {
  const int64_t shift = count % 64;
  int64_t i = 0;
  for (int64_t word = count / 64; i + 64 <= count; i += 64, --word) {
    const uint64_t window = shift == 0 ? number[word - 1] : number[word] << (64 - shift) | number[word - 1] >> shift;
    for (int64_t j = 0; j < 64; ++j) out[i + j] = static_cast<int64_t>(window >> (63 - j) & 1);
  }
  for (int64_t j = 0; j < shift; ++j) out[i + j] = static_cast<int64_t>(number[0] >> (shift - 1 - j) & 1);
}
LENGEN_DISPATCH(expand_number, (const uint64_t* number, int64_t count, int64_t* out), (number, count, out))

LENGEN_INLINE void widen_bytes_plain(const uint8_t* from, int64_t count, int64_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = from[i];
}
LENGEN_DISPATCH(widen_bytes, (const uint8_t* from, int64_t count, int64_t* out), (from, count, out))

LENGEN_INLINE void widen_words_plain(const uint32_t* from, int64_t count, int64_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = from[i];
}
LENGEN_DISPATCH(widen_words, (const uint32_t* from, int64_t count, int64_t* out), (from, count, out))

// out[i] = i, in 32 bits.
LENGEN_INLINE void identity_order_plain(int64_t count, uint32_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<uint32_t>(i);
}
LENGEN_DISPATCH(identity_order, (int64_t count, uint32_t* out), (count, out))

// letters[i] = draws[i] * bound / 2^16; rejected becomes true if a draw would make the letters uneven.
LENGEN_INLINE void scale_draws_plain(const uint16_t* draws, int64_t count, uint16_t bound, uint8_t* letters, bool& rejected) {
  const uint16_t threshold = static_cast<uint16_t>(65536u % bound);
  uint16_t any = 0;
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t product = static_cast<uint32_t>(draws[i]) * bound;
    letters[i] = static_cast<uint8_t>(product >> 16);
    any |= static_cast<uint16_t>(product) < threshold;
  }
  rejected = any != 0;
}
LENGEN_DISPATCH(scale_draws, (const uint16_t* draws, int64_t count, uint16_t bound, uint8_t* letters, bool& rejected),
                (draws, count, bound, letters, rejected))

// out[i] = first + i.
LENGEN_INLINE void count_up_plain(int64_t first, int64_t count, int64_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = first + i;
}
LENGEN_DISPATCH(count_up, (int64_t first, int64_t count, int64_t* out), (first, count, out))

LENGEN_INLINE void copy_values_plain(const int64_t* from, int64_t count, int64_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = from[i];
}
LENGEN_DISPATCH(copy_values, (const int64_t* from, int64_t count, int64_t* out), (from, count, out))

// kept = kept & fresh, or kept | fresh: one step of a Bernoulli bit built from fair bits.
LENGEN_INLINE void merge_bits_plain(bool either, const uint64_t* fresh, int64_t count, uint64_t* kept) {
  if (either) {
    for (int64_t i = 0; i < count; ++i) kept[i] |= fresh[i];
  } else {
    for (int64_t i = 0; i < count; ++i) kept[i] &= fresh[i];
  }
}
LENGEN_DISPATCH(merge_bits, (bool either, const uint64_t* fresh, int64_t count, uint64_t* kept), (either, fresh, count, kept))

}  // namespace lengen
