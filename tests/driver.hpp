// What the drivers of the engine share: whether threads or the path change a batch.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "shared_work.hpp"

namespace lengen {

inline void require(bool condition, const std::string& what) {
  if (condition) return;
  std::fprintf(stderr, "%s\n", what.c_str());
  std::exit(1);
}

inline bool same(const Batch& one, const Batch& other) {
  return one.token_count() == other.token_count() && one.scored_count() == other.scored_count() &&
         std::equal(one.tokens(), one.tokens() + one.token_count(), other.tokens()) &&
         std::equal(one.scored(), one.scored() + one.scored_count(), other.scored()) &&
         std::equal(one.targets(), one.targets() + one.scored_count(), other.targets()) &&
         std::equal(one.offsets(), one.offsets() + one.rows(), other.offsets()) &&
         std::equal(one.cu_seqlens(), one.cu_seqlens() + one.rows() + 1, other.cu_seqlens());
}

inline Request request_for(const RowSampler& sampler, int64_t low, int64_t high, int64_t rows, int threads) {
  Request request{1, 2, 3, rows, reachable_lengths(sampler, low, high), 0, threads};
  request.context = sampler.largest_shape(request.lengths.last()).tokens + 5;
  return request;
}

inline void check_request(const RowSampler& sampler, Request request, const std::string& name) {
  const Batch expected = sample_rows(sampler, request);
  for (const Path path : {Path::plain, Path::avx2}) {
    path_in_use = std::min(path, best_path());
    for (const int threads : {1, 2, 5}) {
      request.threads = threads;
      require(same(expected, sample_rows(sampler, request)), name + ": threads or the path change a batch");
    }
  }
  path_in_use = best_path();
}

inline void check_range(const RowSampler& sampler, int64_t low, int64_t high, int64_t rows, const std::string& name) {
  if (lengths_between(low, high, sampler.stride(), sampler.residue()).count == 0) return;
  check_request(sampler, request_for(sampler, low, high, rows, 1), name);
}

inline void check_sampler(const RowSampler& sampler, const std::string& name) {
  const int64_t shortest = sampler.shortest(), longest = sampler.longest();
  for (const int64_t n : {shortest, shortest + 1, shortest + 2, int64_t{63}, int64_t{64}, int64_t{65}, int64_t{66}}) {
    if (n <= longest) check_range(sampler, n, n, 9, name);
  }
  check_range(sampler, shortest, std::min<int64_t>(130, longest), 40, name);
  if (longest <= 300) check_range(sampler, std::max(shortest, longest - 2), longest, 9, name);
  for (const int64_t n : {int64_t{255}, int64_t{256}, int64_t{4097}, int64_t{66000}}) {
    if (n + 2 <= longest) check_range(sampler, n, n + 2, 2, name);
  }
}

}  // namespace lengen
