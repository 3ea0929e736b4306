// The inner loops, compiled once for plain code and once more for AVX2 where the compiler can; the processor decides at run time.
//
// Both paths give the same integers. Everything else in csrc/ is free of processor-specific code.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#if defined(__x86_64__) && defined(__GNUC__)
#define LENGEN_HAS_AVX2_PATH 1
#define LENGEN_AVX2 __attribute__((target("avx2,popcnt")))
#else
#define LENGEN_HAS_AVX2_PATH 0
#endif
#define LENGEN_INLINE inline __attribute__((always_inline))
#define LENGEN_RARE __attribute__((noinline, cold))

namespace lengen {

// ---- which path ----

inline bool avx2_supported() {
#if LENGEN_HAS_AVX2_PATH
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
#else
  return false;
#endif
}

inline std::atomic<bool> avx2_enabled{avx2_supported()};

inline bool use_avx2() { return avx2_enabled.load(std::memory_order_relaxed); }

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

// For each byte, the places of its ones in order.
struct MarkedPlaces {
  uint8_t place[8];
  uint8_t count;
};

inline constexpr auto marked_places = [] {
  std::array<MarkedPlaces, 256> table{};
  for (size_t mask = 0; mask < 256; ++mask) {
    for (uint8_t bit = 0; bit < 8; ++bit) {
      if (mask >> bit & 1) table[mask].place[table[mask].count++] = bit;
    }
  }
  return table;
}();

// Functions that write a row run in whole steps: they may write up to spill_tokens (or spill_scored) values past the end.

inline constexpr int64_t spill_tokens = 64;
inline constexpr int64_t spill_scored = 8;

// out[i] = bit i of bits, as 0 or 1.
LENGEN_INLINE void expand_bits_plain(const uint64_t* bits, int64_t count, int64_t* out) {
  for (int64_t i = 0; i < count; i += 64) {
    const uint64_t word = bits[i / 64];
    for (int64_t j = 0; j < 64; ++j) out[i + j] = static_cast<int64_t>(word >> j & 1);
  }
}
LENGEN_DISPATCH(expand_bits, (const uint64_t* bits, int64_t count, int64_t* out), (bits, count, out))

// out[i] = bit count-1-i of `number`, most significant first; number[] holds 64 bits each, least significant first.
LENGEN_INLINE void expand_number_plain(const uint64_t* number, int64_t count, int64_t* out) {
  for (int64_t i = 0; i < count; i += 64) {
    const int64_t bottom = count - i - 64, word = bottom >> 6, shift = bottom & 63;
    uint64_t digits = word < 0 ? 0 : number[word] >> shift;
    if (shift != 0) digits |= number[word + 1] << (64 - shift);
    for (int64_t j = 0; j < 64; ++j) out[i + j] = static_cast<int64_t>(digits >> (63 - j) & 1);
  }
}
LENGEN_DISPATCH(expand_number, (const uint64_t* number, int64_t count, int64_t* out), (number, count, out))

// out[i] = from[i]. `from` is readable up to the next multiple of 32.
LENGEN_INLINE void widen_bytes_plain(const uint8_t* from, int64_t count, int64_t* out) {
  for (int64_t i = 0; i < count; i += 32) {
    for (int64_t j = 0; j < 32; ++j) out[i + j] = from[i + j];
  }
}
LENGEN_DISPATCH(widen_bytes, (const uint8_t* from, int64_t count, int64_t* out), (from, count, out))

LENGEN_INLINE void widen_words_plain(const uint32_t* from, int64_t count, int64_t* out) {
  for (int64_t i = 0; i < count; i += 32) {
    for (int64_t j = 0; j < 32; ++j) out[i + j] = from[i + j];
  }
}
LENGEN_DISPATCH(widen_words, (const uint32_t* from, int64_t count, int64_t* out), (from, count, out))

// scored[i] = first + i, targets[i] = tokens[i]. `tokens` is readable up to the next multiple of 8.
LENGEN_INLINE void score_next_plain(int64_t first, const int64_t* tokens, int64_t count, int64_t* scored, int64_t* targets) {
  for (int64_t i = 0; i < count; i += 8) {
    for (int64_t j = 0; j < 8; ++j) scored[i + j] = first + i + j;
    for (int64_t j = 0; j < 8; ++j) targets[i + j] = tokens[i + j];
  }
}
LENGEN_DISPATCH(score_next, (int64_t first, const int64_t* tokens, int64_t count, int64_t* scored, int64_t* targets),
                (first, tokens, count, scored, targets))

// out[0..] = the places where seen[i] is 1, in order; seen[] holds 0 or 1 and zeros up to the next multiple of 8.
LENGEN_INLINE void list_marked_plain(const uint8_t* seen, int64_t count, int64_t* out) {
  for (int64_t i = 0; i < count; i += 8) {
    uint64_t marks;
    __builtin_memcpy(&marks, seen + i, sizeof marks);
    const uint64_t mask = (marks * 0x0102040810204080u) >> 56;
    const MarkedPlaces& places = marked_places[mask];
    for (int64_t j = 0; j < 8; ++j) out[j] = i + places.place[j];
    out += places.count;
  }
}
LENGEN_DISPATCH(list_marked, (const uint8_t* seen, int64_t count, int64_t* out), (seen, count, out))

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
  for (int64_t i = 0; i < count; i += 32) {
    for (int64_t j = 0; j < 32; ++j) out[i + j] = first + i + j;
  }
}
LENGEN_DISPATCH(count_up, (int64_t first, int64_t count, int64_t* out), (first, count, out))

LENGEN_INLINE void count_ones_in_plain(const uint64_t* bits, int64_t count, int64_t& ones) {
  ones = 0;
  for (int64_t i = 0; i < count; ++i) ones += __builtin_popcountll(bits[i]);
}
LENGEN_DISPATCH(count_ones_in, (const uint64_t* bits, int64_t count, int64_t& ones), (bits, count, ones))

using Bytes = uint8_t __attribute__((vector_size(32)));

// How often `letter` occurs in the first 32 * steps bytes; steps <= 255.
LENGEN_INLINE int32_t count_byte(const uint8_t* from, int64_t steps, uint8_t letter) {
  Bytes counts{};
  for (int64_t i = 0; i < steps; ++i) {
    Bytes values;
    __builtin_memcpy(&values, from + 32 * i, sizeof values);
    counts -= reinterpret_cast<Bytes>(values == letter);
  }
  int32_t total = 0;
  for (int lane = 0; lane < 32; ++lane) total += counts[lane];
  return total;
}

// counts[letter] = how often each of 0..letters-1 occurs.
LENGEN_INLINE void count_letters_plain(const uint8_t* from, int64_t count, int64_t letters, int32_t* counts) {
  for (int64_t letter = 0; letter < letters; ++letter) counts[letter] = 0;
  int64_t done = 0;
  for (; count - done >= 256;) {
    const int64_t steps = (count - done) / 32 < 255 ? (count - done) / 32 : 255;
    for (int64_t letter = 0; letter < letters; ++letter) counts[letter] += count_byte(from + done, steps, static_cast<uint8_t>(letter));
    done += 32 * steps;
  }
  for (; done < count; ++done) ++counts[from[done]];
}
LENGEN_DISPATCH(count_letters, (const uint8_t* from, int64_t count, int64_t letters, int32_t* counts), (from, count, letters, counts))

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
