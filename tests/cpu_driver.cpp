// Runs the CPU kernels over many shapes on arrays of exactly the size they need, for the sanitizers to watch.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "cpu/adam.hpp"
#include "cpu/attention.hpp"
#include "cpu/embedding.hpp"
#include "cpu/residual.hpp"

using namespace lengen::cpu;

namespace {

std::mt19937 generator(0);

int64_t pick(std::initializer_list<int64_t> choices) {
  return *(choices.begin() + std::uniform_int_distribution<size_t>(0, choices.size() - 1)(generator));
}

std::vector<float> numbers(int64_t count) {
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(generator);
  return values;
}

std::vector<float> nothing(int64_t count) { return std::vector<float>(static_cast<size_t>(count), NAN); }

void require_finite(const std::vector<float>& values, const char* what) {
  for (const float value : values) {
    if (!std::isfinite(value)) {
      std::printf("%s is not finite\n", what);
      std::exit(1);
    }
  }
}

std::vector<int64_t> bounds_of(int64_t sequences) {
  std::vector<int64_t> bounds{0};
  for (int64_t i = 0; i < sequences; ++i) bounds.push_back(bounds.back() + pick({0, 1, 2, 5, 6, 7, 8, 9, 31, 47, 48, 49, 95, 97, 300}));
  if (bounds.back() == 0) bounds.back() = 1;
  return bounds;
}

void attend() {
  const int64_t sequences = pick({1, 2, 4}), heads = pick({1, 2, 3}), width = pick({1, 4, 8, 20, 32}), threads = pick({1, 2, 3});
  const int64_t key_heads = pick({1, heads}), models = sequences % 2 == 0 ? pick({1, 2}) : 1, table_width = pick({1, 3, 40});
  const auto bounds = bounds_of(sequences);
  const int64_t rows = bounds.back();
  std::vector<int64_t> chosen;
  for (int64_t row = 0; row < rows; ++row) {
    if (pick({0, 0, 0, 1}) == 1) chosen.push_back(row);
  }
  const bool choose = !chosen.empty() && pick({0, 1}) == 1;
  const int64_t queries = choose ? static_cast<int64_t>(chosen.size()) : rows;
  const auto q = numbers(queries * heads * width), k = numbers(rows * key_heads * width), v = numbers(rows * key_heads * width);
  const auto table = numbers(models * heads * table_width), slope = numbers(models * heads);
  const auto key_bias = numbers(rows * heads), logit_scale = numbers(queries * heads);
  Problem problem{sequences, heads,   key_heads,
                  width,     bounds.data(), choose ? chosen.data() : nullptr,
                  queries,   {q.data(), heads * width, width}, {k.data(), key_heads * width, width},
                  {v.data(), key_heads * width, width}, 0.3f};
  problem.window = pick({0, 0, 1, 9, 150});
  const bool with_table = pick({0, 1}) == 1, with_key_bias = pick({0, 1}) == 1, with_scale = pick({0, 1}) == 1;
  if (with_table) {
    problem.bias = {table.data(), slope.data(), models, table_width, static_cast<Beyond>(pick({0, 1, 2}))};
  }
  if (with_key_bias) problem.key_bias = {key_bias.data(), heads, 1};
  if (with_scale) problem.logit_scale = {logit_scale.data(), heads, 1};

  auto out = nothing(queries * heads * width);
  std::vector<Softmax> softmax(static_cast<size_t>(queries * heads));
  attention_forward(problem, {{out.data(), heads * width, width}, softmax.data()}, static_cast<int>(threads));
  require_finite(out, "attention");

  const auto grad_out = numbers(queries * heads * width);
  auto dq = nothing(queries * heads * width), dk = nothing(rows * key_heads * width), dv = nothing(rows * key_heads * width);
  auto dtable = nothing(models * heads * table_width), dkey_bias = nothing(rows * heads), dscale = nothing(queries * heads);
  Gradients gradients{{grad_out.data(), heads * width, width}, {out.data(), heads * width, width}, softmax.data(),
                      {dq.data(), heads * width, width},       {dk.data(), key_heads * width, width},
                      {dv.data(), key_heads * width, width}};
  if (with_table) gradients.table = dtable.data();
  if (with_key_bias) gradients.key_bias = {dkey_bias.data(), heads, 1};
  if (with_scale) gradients.logit_scale = {dscale.data(), heads, 1};
  attention_backward(problem, gradients, static_cast<int>(threads));
  require_finite(dq, "gradient of q");
  require_finite(dk, "gradient of k");
  require_finite(dv, "gradient of v");
  if (with_table) require_finite(dtable, "gradient of the table");
  if (with_key_bias) require_finite(dkey_bias, "gradient of the key bias");
  if (with_scale) require_finite(dscale, "gradient of the logit scale");
}

void look_up() {
  const int64_t sequences = pick({1, 3, 40}), width = pick({1, 16, 40}), vocabulary = 5, context = pick({0, 400}), threads = pick({1, 3});
  const auto bounds = bounds_of(sequences);
  const int64_t rows = bounds.back();
  std::vector<int64_t> tokens(static_cast<size_t>(rows)), offsets(static_cast<size_t>(sequences));
  for (auto& token : tokens) token = pick({0, 1, 4});
  for (auto& offset : offsets) offset = pick({0, 10});
  const std::vector<int32_t> narrow(tokens.begin(), tokens.end());
  const bool is_narrow = pick({0, 1}) == 1;
  const Embedding problem{sequences, rows, width, is_narrow ? narrow.data() : nullptr, is_narrow ? nullptr : tokens.data(), bounds.data(),
                          offsets.data(), vocabulary, context};
  const auto token_table = numbers(vocabulary * width), position_table = numbers(context * width), gradient = numbers(rows * width);
  auto out = nothing(rows * width);
  if (!embed(problem, token_table.data(), position_table.data(), out.data(), static_cast<int>(threads))) std::exit(1);
  require_finite(out, "embedding");
  std::vector<float> dtokens(token_table.size()), dpositions(position_table.size());
  embed_backward(problem, gradient.data(), dtokens.data(), dpositions.data(), static_cast<int>(threads));
}

void activate() {
  const int64_t count = pick({1, 7, 8, 9, 100});
  const auto x = numbers(count), gradient = numbers(count);
  auto y = nothing(count), dx = nothing(count);
  gelu(x.data(), y.data(), count);
  gelu_gradient(gradient.data(), x.data(), dx.data(), count);
  require_finite(y, "GELU");
  require_finite(dx, "gradient of GELU");
}

void add_and_normalize() {
  const int64_t rows = pick({1, 63, 64, 65, 130}), width = pick({8, 16, 24, 72}), threads = pick({1, 3});
  const auto stream = numbers(rows * width), update = numbers(rows * width), bias = numbers(width), weight = numbers(width);
  auto sum = nothing(rows * width), normalized = nothing(rows * width), gradient = nothing(rows * width), columns = nothing(3 * width);
  std::vector<RowStatistics> statistics(static_cast<size_t>(rows));
  add_norm_forward({rows, width, stream.data(), update.data(), bias.data(), weight.data(), bias.data(), 1e-5f, sum.data(),
                    normalized.data(), statistics.data()},
                   static_cast<int>(threads));
  require_finite(normalized, "layer norm");
  const float* const of_sum = pick({0, 1}) == 1 ? stream.data() : nullptr;
  add_norm_backward({rows, width, of_sum, update.data(), sum.data(), weight.data(), statistics.data(), gradient.data()},
                    columns.data(), static_cast<int>(threads));
  require_finite(gradient, "gradient of layer norm");
  require_finite(columns, "gradients of layer norm's parameters");
  biased_gelu_forward(stream.data(), bias.data(), sum.data(), rows, width, static_cast<int>(threads));
  biased_gelu_backward(gradient.data(), stream.data(), bias.data(), columns.data(), rows, width, static_cast<int>(threads));
  require_finite(sum, "GELU with bias");
  require_finite(gradient, "gradient of GELU with bias");
}

void update() {
  const int64_t count = pick({1, 7, 8, 1000, 40000}), threads = pick({1, 3});
  auto values = numbers(count), gradient = numbers(count), still = numbers(3);
  std::vector<float> mean(static_cast<size_t>(count)), square(static_cast<size_t>(count)), unused(3);
  const Adam adam({{values.data(), mean.data(), square.data(), count, true}, {still.data(), unused.data(), unused.data(), 3, true}});
  adam.step({gradient.data(), nullptr}, 1, 0.1, 0.1, pick({0, 1}), pick({0, 1}) == 1, static_cast<int>(threads));
  require_finite(values, "AdamW");
}

}  // namespace

int main() {
  for (const Path path : {Path::plain, Path::fma, Path::wide}) {
    path_in_use.store(std::min(path, best_path()));
    for (int i = 0; i < 60; ++i) {
      attend();
      look_up();
      activate();
      add_and_normalize();
      update();
    }
  }
  std::puts("clean");
}
