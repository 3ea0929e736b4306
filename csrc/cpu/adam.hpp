// AdamW with clipping of the gradients' norm, over all tensors of a model in two passes: one reads, one updates.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "loops.hpp"
#include "workers.hpp"

namespace lengen::cpu {

// The values of one tensor and its moments.
struct Moments {
  float *values, *mean, *square;
  int64_t count;
  bool decays;
};

// What a step does to every value: see adam_body.
struct AdamStep {
  float gradient_scale, kept, rate, root_correction;  // kept: factor of a value that decays
};

inline constexpr float adam_beta1 = 0.9f, adam_beta2 = 0.999f, adam_epsilon = 1e-8f;

template <Path path, class V>
LENGEN_INLINE V square_root(V x) {
#if LENGEN_HAS_PATHS
  if constexpr (path != Path::plain) {
    V root;
    asm("vsqrtps %1, %0" : "=v"(root) : "v"(x));
    return root;
  }
#endif
  for (int64_t i = 0; i < lanes_of<V>; ++i) x[i] = std::sqrt(x[i]);
  return x;
}

// values and moments of whole vectors; gradients become 0 where they are kept for the next step.
template <Path path>
LENGEN_INLINE void adam_body(const Moments& at, float* gradient, bool clear, const AdamStep& step) {
  const float kept = at.decays ? step.kept : 1.0f;
  for_each_vector<path>(0, at.count, [&](auto vector, int64_t i) LENGEN_INLINE_LAMBDA {
    using V = decltype(vector);
    const V slope = load<V>(gradient + i) * every_at<path, V>(&step.gradient_scale);
    const V mean = load<V>(at.mean + i), square = load<V>(at.square + i);
    const V new_mean = mean + (slope - mean) * every<V>(1.0f - adam_beta1);
    const V new_square = square * every<V>(adam_beta2) + slope * slope * every<V>(1.0f - adam_beta2);
    const V root = square_root<path>(new_square) * every_at<path, V>(&step.root_correction) + every<V>(adam_epsilon);
    store(at.mean + i, new_mean);
    store(at.square + i, new_square);
    store(at.values + i, load<V>(at.values + i) * every_at<path, V>(&kept) - every_at<path, V>(&step.rate) * new_mean / root);
    if (clear) store(gradient + i, V{});
  });
}

LENGEN_LOOP(adam, (const Moments& at, float* gradient, bool clear, const AdamStep& step), (at, gradient, clear, step))

template <Path path>
LENGEN_INLINE void sum_of_squares_body(const float* values, int64_t count, float& result) {
  Sums<path> sums;
  const int64_t whole = count / lanes * lanes;
  for_each_vector<path>(0, whole, [&](auto vector, int64_t i) LENGEN_INLINE_LAMBDA {
    using V = decltype(vector);
    const V x = load<V>(values + i);
    sums.of(vector) += x * x;
  });
  result = sums.total();
  for (int64_t i = whole; i < count; ++i) result += values[i] * values[i];
}

LENGEN_LOOP(sum_of_squares, (const float* values, int64_t count, float& result), (values, count, result))

class Adam {
 public:
  explicit Adam(std::vector<Moments> tensors) : tensors_(std::move(tensors)) {
    for (size_t tensor = 0; tensor < tensors_.size(); ++tensor) {
      for (int64_t begin = 0; begin < tensors_[tensor].count; begin += values_at_once) pieces_.push_back({tensor, begin});
    }
  }

  // One step, the `number`-th, from gradients by tensor (null: it has none, and only decays). clip 0: no clipping.
  void step(const std::vector<float*>& gradients, int64_t number, double rate, double decay, double clip, bool clear, int threads) const {
    const double norm = clip > 0 ? norm_of(gradients, threads) : 0;
    const double correction = 1 - std::pow(static_cast<double>(adam_beta1), number);
    const AdamStep step{norm <= clip ? 1.0f : static_cast<float>(clip / norm), static_cast<float>(1 - rate * decay),
                        static_cast<float>(rate / correction),
                        static_cast<float>(1 / std::sqrt(1 - std::pow(static_cast<double>(adam_beta2), number)))};
    share_among_threads(static_cast<int64_t>(pieces_.size()), threads, [&](int64_t i) { update(pieces_[static_cast<size_t>(i)], gradients, clear, step); });
  }

 private:
  static constexpr int64_t values_at_once = 1 << 14, summed_in_fp32 = 1 << 10;

  struct Piece {
    size_t tensor;
    int64_t begin;
  };

  Moments moments(const Piece& piece) const {
    const Moments& all = tensors_[piece.tensor];
    const int64_t count = std::min(values_at_once, all.count - piece.begin);
    return {all.values + piece.begin, all.mean + piece.begin, all.square + piece.begin, count, all.decays};
  }

  // Each piece by itself, so that the sum does not depend on the threads.
  double norm_of(const std::vector<float*>& gradients, int threads) const {
    std::vector<double> squares(pieces_.size());
    share_among_threads(static_cast<int64_t>(pieces_.size()), threads, [&](int64_t i) {
      const Piece& piece = pieces_[static_cast<size_t>(i)];
      const float* const gradient = gradients[piece.tensor];
      if (gradient == nullptr) return;
      const int64_t end = std::min(piece.begin + values_at_once, tensors_[piece.tensor].count);
      for (int64_t begin = piece.begin; begin < end; begin += summed_in_fp32) {
        float part;
        sum_of_squares(gradient + begin, std::min(summed_in_fp32, end - begin), part);
        squares[static_cast<size_t>(i)] += static_cast<double>(part);
      }
    });
    double total = 0;
    for (const double square : squares) total += square;
    return std::sqrt(total);
  }

  void update(const Piece& piece, const std::vector<float*>& gradients, bool clear, const AdamStep& step) const {
    Moments at = moments(piece);
    float* const gradient = gradients[piece.tensor] == nullptr ? nullptr : gradients[piece.tensor] + piece.begin;
    if (gradient == nullptr) {
      for (int64_t i = 0; at.decays && i < at.count; ++i) at.values[i] *= step.kept;
      return;
    }
    const int64_t count = at.count, whole = count / lanes * lanes;
    at.count = whole;
    adam(at, gradient, clear, step);
    if (whole == count) return;
    float rest[4][lanes] = {};
    float* const from[4] = {at.values + whole, at.mean + whole, at.square + whole, gradient + whole};
    for (int k = 0; k < 4; ++k) std::copy_n(from[k], count - whole, rest[k]);
    adam({rest[0], rest[1], rest[2], lanes, at.decays}, rest[3], clear, step);
    for (int k = 0; k < 4; ++k) std::copy_n(rest[k], count - whole, from[k]);
  }

  std::vector<Moments> tensors_;
  std::vector<Piece> pieces_;
};

}  // namespace lengen::cpu
