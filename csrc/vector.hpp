// The inner loops, and the choice of a path: whatever is inlined into a function marked LENGEN_AVX2 is compiled for AVX2, and
// once more for plain code (see RowsOf); the processor decides which of the two runs.
//
// All paths give the same integers. Everything else in csrc/ but the random blocks of ars.hpp is free of processor-specific code.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#if defined(__x86_64__) && defined(__GNUC__)
#define LENGEN_HAS_AVX2_PATH 1
#define LENGEN_AVX2 __attribute__((target("avx2,aes,bmi,bmi2,lzcnt,popcnt")))
#else
#define LENGEN_HAS_AVX2_PATH 0
#endif
#define LENGEN_INLINE inline __attribute__((always_inline))
#define LENGEN_RARE __attribute__((noinline, cold))
#define LENGEN_SEPARATE __attribute__((noinline))
#define LENGEN_WITH_ALL_IT_CALLS __attribute__((flatten))

namespace lengen {

// ---- which path ----

// Code for any processor, and for AVX2 with what processors that have it have too.
enum class Path { plain, avx2 };

// The best path of this processor.
inline Path best_path() {
#if LENGEN_HAS_AVX2_PATH
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("aes") && __builtin_cpu_supports("bmi") &&
                    __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("lzcnt") && __builtin_cpu_supports("popcnt");
  if (avx2) return Path::avx2;
#endif
  return Path::plain;
}

inline std::atomic<Path> path_in_use{best_path()};

inline bool use_avx2() { return path_in_use.load(std::memory_order_relaxed) == Path::avx2; }

// ---- loops that the compiler vectorises by itself, for the path of the function they are inlined into ----

// For each byte, the places of its ones in order, a byte each, and their number.
struct MarkedPlaces {
  std::array<uint64_t, 256> places;
  std::array<uint8_t, 256> count;
};

inline constexpr auto marked_places = [] {
  MarkedPlaces table{};
  for (size_t mask = 0; mask < 256; ++mask) {
    for (uint64_t bit = 0; bit < 8; ++bit) {
      if (mask >> bit & 1) table.places[mask] |= bit << (8 * table.count[mask]++);
    }
  }
  return table;
}();

// Functions that write a row run in whole steps, without a remainder: they may write up to `spill` values past the end. count_up
// writes no more than `short_spill` past it if that is how many it was asked for.

inline constexpr int64_t spill = 64;
inline constexpr int64_t short_spill = 8;

// out[i] = bit i of `bits`, or bit 31-i, for i in 0..31.
template <bool downwards>
LENGEN_INLINE void put_bits(uint32_t bits, int32_t* out) {
  using Eight = uint32_t __attribute__((vector_size(32)));
  const Eight places = downwards ? Eight{31, 30, 29, 28, 27, 26, 25, 24} : Eight{0, 1, 2, 3, 4, 5, 6, 7};
  for (uint32_t i = 0; i < 32; i += 8) {
    const Eight values = (Eight{} + bits) >> (downwards ? places - i : places + i) & 1;
    __builtin_memcpy(out + i, &values, sizeof values);
  }
}

template <bool downwards>
LENGEN_INLINE void put_bits(uint32_t bits, int64_t* out) {
  using Four = uint64_t __attribute__((vector_size(32)));
  const Four places = downwards ? Four{31, 30, 29, 28} : Four{0, 1, 2, 3};
  for (uint64_t i = 0; i < 32; i += 4) {
    const Four values = (Four{} + bits) >> (downwards ? places - i : places + i) & 1;
    __builtin_memcpy(out + i, &values, sizeof values);
  }
}

// out[i] = bit i of bits, as 0 or 1, for every out.
template <class... Out>
LENGEN_INLINE void expand_bits(const uint64_t* bits, int64_t count, Out*... out) {
  int64_t i = 0;
  for (; i + 64 <= count; i += 64) {
    (put_bits<false>(static_cast<uint32_t>(bits[i / 64]), out + i), ...);
    (put_bits<false>(static_cast<uint32_t>(bits[i / 64] >> 32), out + i + 32), ...);
  }
  for (uint64_t word = i < count ? bits[i / 64] : 0; i < count; i += 32, word >>= 32) {
    (put_bits<false>(static_cast<uint32_t>(word), out + i), ...);
  }
}

// out[i] = bit count-1-i of `number`, most significant first, for every out; number[] holds 64 bits each, least significant first.
template <class... Out>
LENGEN_INLINE void expand_number(const uint64_t* number, int64_t count, Out*... out) {
  const int64_t shift = count % 64;
  int64_t i = 0;
  for (int64_t word = count / 64 - 1; word >= 0; --word, i += 64) {
    const uint64_t digits = shift == 0 ? number[word] : number[word] >> shift | number[word + 1] << (64 - shift);
    (put_bits<true>(static_cast<uint32_t>(digits >> 32), out + i), ...);
    (put_bits<true>(static_cast<uint32_t>(digits), out + i + 32), ...);
  }
  for (uint64_t digits = shift == 0 ? 0 : number[0] << (64 - shift); i < count; i += 32, digits <<= 32) {
    (put_bits<true>(static_cast<uint32_t>(digits >> 32), out + i), ...);
  }
}

// out[i] = from[i]. `from` is readable up to the next multiple of 32.
template <class T, class Out>
LENGEN_INLINE void widen(const T* __restrict from, int64_t count, Out* __restrict out) {
  for (int64_t i = 0; i < count; i += 32) {
    for (int64_t j = 0; j < 32; ++j) out[i + j] = static_cast<Out>(from[i + j]);
  }
}

// out[j] = byte j of `bytes`.
LENGEN_INLINE void widen_four(uint32_t bytes, int32_t* out) {
  using Four = uint32_t __attribute__((vector_size(16)));
  const Four values = (Four{} + bytes) >> Four{0, 8, 16, 24} & 255;
  __builtin_memcpy(out, &values, sizeof values);
}

LENGEN_INLINE void widen_four(uint32_t bytes, int64_t* out) {
  using Four = uint64_t __attribute__((vector_size(32)));
  const Four values = (Four{} + bytes) >> Four{0, 8, 16, 24} & 255;
  __builtin_memcpy(out, &values, sizeof values);
}

// out[i] = from[i] for i below `count`, which is small, and no more.
template <int64_t count, class Out>
LENGEN_INLINE void widen_few(const uint8_t* from, Out* out) {
  if constexpr (count >= 4) {
    for (int64_t i = 0; i < count; i += 4) {
      uint32_t four;
      __builtin_memcpy(&four, from + i, sizeof four);
      widen_four(four, out + i);
    }
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] = from[i];
  }
}

using EightWords = int32_t __attribute__((vector_size(32)));

// out[0..8) = from[0..8) by one wide vector: a compiler copies with narrower ones.
LENGEN_INLINE void copy_eight(const int32_t* from, int32_t* out) {
  EightWords words;
  __builtin_memcpy(&words, from, sizeof words);
  __builtin_memcpy(out, &words, sizeof words);
}

// out[i] = symbol for i in 0..count-1, and up to 31 more.
LENGEN_INLINE void fill_bytes(uint8_t symbol, int64_t count, uint8_t* out) {
  using Bytes32 = uint8_t __attribute__((vector_size(32)));
  const Bytes32 bytes = Bytes32{} + symbol;
  for (int64_t i = 0; i < count; i += 32) __builtin_memcpy(out + i, &bytes, sizeof bytes);
}

// The same to two places.
template <class T, class One, class Other>
LENGEN_INLINE void widen(const T* __restrict from, int64_t count, One* __restrict one, Other* __restrict other) {
  for (int64_t i = 0; i < count; i += 32) {
    for (int64_t j = 0; j < 32; ++j) one[i + j] = static_cast<One>(from[i + j]);
    for (int64_t j = 0; j < 32; ++j) other[i + j] = static_cast<Other>(from[i + j]);
  }
}

template <class Out>
LENGEN_INLINE void put_sixteen(Out value, Out* out) {
  for (int64_t j = 0; j < 16; ++j) out[j] = value;
}

// out[i] = from[i * step].
template <int64_t step, class T, class Out>
LENGEN_INLINE void widen_every(const T* __restrict from, int64_t count, Out* __restrict out) {
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<Out>(from[i * step]);
}

// out[i] = (from[i] >> shift & mask) + more. `from` is readable up to the next multiple of 32.
template <class Out>
LENGEN_INLINE void put_field(const uint32_t* __restrict from, int64_t count, int shift, uint32_t mask, int64_t more,
                             Out* __restrict out) {
  for (int64_t i = 0; i < count; i += 32) {
    for (int64_t j = 0; j < 32; ++j) out[i + j] = static_cast<Out>(from[i + j] >> shift & mask) + static_cast<Out>(more);
  }
}

// out[0..count) = value for every out, and up to 16 more.
template <class... Out>
LENGEN_INLINE void put_run(int64_t value, int64_t count, Out*... out) {
  int64_t i = 0;
  do {
    (put_sixteen(static_cast<Out>(value), out + i), ...);
    i += 16;
  } while (i < count);
}

// out[0..] = the places where seen[i] is 1, in order; seen[] holds 0 or 1, and `count` is a multiple of 32. Up to seven more
// are written.
template <class T>
LENGEN_INLINE void list_marked(const uint8_t* __restrict seen, int64_t count, T* __restrict out) {
#pragma GCC unroll 4
  for (int64_t i = 0; i < count; i += 8) {
    uint64_t marks;
    __builtin_memcpy(&marks, seen + i, sizeof marks);
    const uint64_t mask = (marks * 0x0102040810204080u) >> 56, inside = marked_places.places[mask];
    if constexpr (sizeof(T) == 1) {
      const uint64_t places = inside + 0x0101010101010101u * static_cast<uint64_t>(i);
      __builtin_memcpy(out, &places, sizeof places);
    } else {
      for (int64_t j = 0; j < 8; ++j) out[j] = static_cast<T>(i) + static_cast<T>(inside >> (8 * j) & 255);
    }
    out += marked_places.count[mask];
  }
}

// out[0..] = those of eight bytes whose bit is set, in order; returns how many. Up to eight are written.
LENGEN_INLINE int64_t put_chosen(const uint8_t* bytes, uint64_t chosen, uint8_t* out) {
  using Pair = uint64_t __attribute__((vector_size(16)));
  using Sixteen = uint8_t __attribute__((vector_size(16)));
  uint64_t eight;
  __builtin_memcpy(&eight, bytes, sizeof eight);
  const Pair places{marked_places.places[chosen], 0}, from{eight, 0};
  const Sixteen put = __builtin_shuffle(reinterpret_cast<Sixteen>(from), reinterpret_cast<Sixteen>(places));
  __builtin_memcpy(out, &put, sizeof eight);
  return marked_places.count[chosen];
}

// out[i] = i, up to the next multiple of 32.
template <class T>
LENGEN_INLINE void identity_order(int64_t count, T* out) {
  for (int64_t i = 0; i < count; i += 32) {
    for (int64_t j = 0; j < 32; ++j) out[i + j] = static_cast<T>(i + j);
  }
}

using EightDraws = uint16_t __attribute__((vector_size(16)));
using EightLetters = uint8_t __attribute__((vector_size(8)));

// letters[i] = draws[i] * bound / 2^16, up to the next multiple of 8, with bound <= 256; rejected becomes true if a draw would
// make the letters uneven: then draw * bound modulo 2^16 is below `threshold`, which is 2^16 modulo bound.
LENGEN_INLINE void scale_draws(const uint16_t* draws, int64_t count, uint16_t bound, uint16_t threshold, uint8_t* letters,
                               bool& rejected) {
  using Flags = int16_t __attribute__((vector_size(16)));
  Flags uneven{};
  for (int64_t i = 0; i < count; i += 8) {
    EightDraws values;
    __builtin_memcpy(&values, draws + i, sizeof values);
    const EightDraws scaled = ((values >> 8) * bound + (((values & 255) * bound) >> 8)) >> 8;
    const EightLetters eight = __builtin_convertvector(scaled, EightLetters);
    __builtin_memcpy(letters + i, &eight, sizeof eight);
    uneven |= (values * bound) < threshold;
  }
  uint64_t any[2];
  __builtin_memcpy(any, &uneven, sizeof any);
  rejected = (any[0] | any[1]) != 0;
}

// The same up to the next multiple of 16, but the letter is `bound` where a draw would make the letters uneven.
LENGEN_INLINE void scale_draws_or_mark(const uint16_t* draws, int64_t count, uint16_t bound, uint16_t threshold, uint8_t* letters) {
  using Draws = uint16_t __attribute__((vector_size(32)));
  using Letters = uint8_t __attribute__((vector_size(16)));
  for (int64_t i = 0; i < count; i += 16) {
    Draws values;
    __builtin_memcpy(&values, draws + i, sizeof values);
    const Draws scaled = ((values >> 8) * bound + (((values & 255) * bound) >> 8)) >> 8;
    const Draws marked = (values * bound) < threshold ? Draws{} + bound : scaled;
    const Letters sixteen = __builtin_convertvector(marked, Letters);
    __builtin_memcpy(letters + i, &sixteen, sizeof sixteen);
  }
}

// out[2i] = numbers[i] % base, out[2i+1] = numbers[i] / base, up to the next multiple of 32; numbers[] is readable as far.
LENGEN_INLINE void split_bytes(const uint8_t* numbers, int64_t count, uint16_t base, uint8_t* out) {
  using Numbers = uint8_t __attribute__((vector_size(16)));
  using Pairs = uint16_t __attribute__((vector_size(32)));
  using Products = uint32_t __attribute__((vector_size(64)));
  const auto inverse = static_cast<uint16_t>(65535 / base + 1);
  for (int64_t i = 0; i < count; i += 32) {
    Numbers sixteen;
    __builtin_memcpy(&sixteen, numbers + i / 2, sizeof sixteen);
    const Pairs both = __builtin_convertvector(sixteen, Pairs);
    const Pairs high = __builtin_convertvector(__builtin_convertvector(both, Products) * inverse >> 16, Pairs);
    const Pairs split = both + high * static_cast<uint16_t>(256 - base);
    __builtin_memcpy(out + i, &split, sizeof split);
  }
}

// out[i] = first + i.
LENGEN_INLINE void count_up(int32_t first, int64_t count, int32_t* out) {
  EightWords values = EightWords{0, 1, 2, 3, 4, 5, 6, 7} + first;
  if (count <= short_spill) {
    __builtin_memcpy(out, &values, sizeof values);
    return;
  }
  for (int64_t i = 0; i < count; i += 32) {
    for (int64_t j = 0; j < 32; j += 8, values += 8) __builtin_memcpy(out + i + j, &values, sizeof values);
  }
}

LENGEN_INLINE void count_ones_in(const uint64_t* bits, int64_t count, int64_t& ones) {
  ones = 0;
  for (int64_t i = 0; i < count; ++i) ones += __builtin_popcountll(bits[i]);
}

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

// counts[letter] += how often each of 0..letters-1 occurs.
LENGEN_INLINE void count_letters(const uint8_t* from, int64_t count, int64_t letters, int32_t* counts) {
  int64_t done = 0;
  while (count - done >= 256) {
    const int64_t steps = (count - done) / 32 < 255 ? (count - done) / 32 : 255;
    for (int64_t letter = 0; letter < letters; ++letter) {
      counts[letter] += count_byte(from + done, steps, static_cast<uint8_t>(letter));
    }
    done += 32 * steps;
  }
  for (; done < count; ++done) ++counts[from[done]];
}

using EightCounts = int32_t __attribute__((vector_size(32)));

// The place of the greatest of 32 counts, or -1 if there are several.
LENGEN_INLINE void find_greatest(const int32_t* counts, int64_t& place) {
  EightCounts parts[4];
  __builtin_memcpy(parts, counts, sizeof parts);
  EightCounts most = parts[0];
  for (int i = 1; i < 4; ++i) most = parts[i] > most ? parts[i] : most;
  int32_t greatest = most[0];
  for (int lane = 1; lane < 8; ++lane) greatest = most[lane] > greatest ? most[lane] : greatest;
  EightCounts found{};  // 64 for each place, plus the place itself
  for (int32_t i = 0; i < 4; ++i) {
    const EightCounts places = EightCounts{64, 65, 66, 67, 68, 69, 70, 71} + 8 * i;
    found += (parts[i] == greatest) & places;
  }
  int32_t total = 0;
  for (int lane = 0; lane < 8; ++lane) total += found[lane];
  place = total < 128 ? total - 64 : -1;
}

// The same of byte counts.
LENGEN_INLINE int64_t place_of_greatest(const uint8_t* counts) {
  uint8_t most = 0, hits = 0, place = 0;
  for (int i = 0; i < 32; ++i) most = counts[i] > most ? counts[i] : most;
  for (int i = 0; i < 32; ++i) {
    const uint8_t hit = counts[i] == most ? 255 : 0;
    hits = static_cast<uint8_t>(hits - hit);
    place = static_cast<uint8_t>(place | (hit & i));
  }
  return hits == 1 ? place : -1;
}

// kept = kept & fresh, or kept | fresh: one step of a Bernoulli bit built from fair bits.
LENGEN_INLINE void merge_bits(bool either, const uint64_t* fresh, int64_t count, uint64_t* kept) {
  if (either) {
    for (int64_t i = 0; i < count; ++i) kept[i] |= fresh[i];
  } else {
    for (int64_t i = 0; i < count; ++i) kept[i] &= fresh[i];
  }
}

}  // namespace lengen
