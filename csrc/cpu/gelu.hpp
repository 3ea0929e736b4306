// GELU in its tanh form, x s(x) with s(x) = sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)), and its gradient.
#pragma once

#include <algorithm>
#include <cstdint>

#include "loops.hpp"

namespace lengen::cpu {

inline constexpr float gelu_slope = 1.5957691216057308f, gelu_cubic = 0.044715f * 1.5957691216057308f;

template <class V>
LENGEN_INLINE V gelu_gate(V x) {
  const V u = x * (every<V>(gelu_slope) + every<V>(gelu_cubic) * x * x);
  const V most = every<V>(88.0f);
  return every<V>(1.0f) / (every<V>(1.0f) + exponential(-u > most ? most : -u));
}

template <class V>
LENGEN_INLINE V gelu_of(V x) { return x * gelu_gate(x); }

template <class V>
LENGEN_INLINE V gelu_gradient_of(V gradient, V x) {
  const V gate = gelu_gate(x);
  const V inner = x * (every<V>(gelu_slope) + every<V>(3.0f * gelu_cubic) * x * x);
  return gradient * (gate + inner * gate * (every<V>(1.0f) - gate));
}

template <Path path>
LENGEN_INLINE void gelu_body(const float* x, float* y, int64_t count) {
  const int64_t whole = count / lanes * lanes;
  for_each_vector<path>(0, whole, [&](auto vector, int64_t i) LENGEN_INLINE_LAMBDA {
    using V = decltype(vector);
    store(y + i, gelu_of(load<V>(x + i)));
  });
  if (whole == count) return;
  float rest[lanes] = {};
  std::copy(x + whole, x + count, rest);
  store(rest, gelu_of(load(rest)));
  std::copy_n(rest, count - whole, y + whole);
}

LENGEN_LOOP(gelu, (const float* x, float* y, int64_t count), (x, y, count))

template <Path path>
LENGEN_INLINE void gelu_gradient_body(const float* gradient, const float* x, float* out, int64_t count) {
  const int64_t whole = count / lanes * lanes;
  for_each_vector<path>(0, whole, [&](auto vector, int64_t i) LENGEN_INLINE_LAMBDA {
    using V = decltype(vector);
    store(out + i, gelu_gradient_of(load<V>(gradient + i), load<V>(x + i)));
  });
  if (whole == count) return;
  float rest[lanes] = {}, rest_x[lanes] = {};
  std::copy(gradient + whole, gradient + count, rest);
  std::copy(x + whole, x + count, rest_x);
  store(rest, gelu_gradient_of(load(rest), load(rest_x)));
  std::copy_n(rest, count - whole, out + whole);
}

LENGEN_LOOP(gelu_gradient, (const float* gradient, const float* x, float* out, int64_t count), (gradient, x, out, count))

}  // namespace lengen::cpu
