// What a task tells the engine, and the loop that turns it into a batch.
#pragma once

#include <algorithm>
#include <exception>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "batch.hpp"
#include "random.hpp"

namespace lengen {

inline constexpr int64_t longest_length = int64_t{1} << 20;
inline constexpr int64_t most_tokens = std::numeric_limits<int32_t>::max();

// The lengths a task can draw from a range: first, first + stride, ..., `count` of them.
struct Lengths {
  int64_t first;
  int64_t stride;
  int64_t count;

  int64_t last() const { return first + stride * (count - 1); }
};

// Lengths congruent to `residue` modulo `stride` in low..high.
inline Lengths lengths_between(int64_t low, int64_t high, int64_t stride, int64_t residue) {
  const int64_t first = low + ((residue - low) % stride + stride) % stride;
  return {first, stride, first > high ? 0 : (high - first) / stride + 1};
}

// A vector as uninitialised working memory: at least `size` values, contents left from before.
template <class T>
T* at_least(std::vector<T>& memory, int64_t size) {
  if (static_cast<int64_t>(memory.size()) < size) memory.resize(static_cast<size_t>(size));
  return memory.data();
}

// Working memory of one thread, kept between rows.
struct Scratch {
  std::vector<uint64_t> bits[3], fresh, woven;
  std::vector<uint32_t> order, moved, sorted, draws;
  std::vector<uint8_t> letters, seen;
  std::vector<int64_t> tokens, scored, targets;
  int64_t identity = 0;  // order[0..identity) is 0, 1, 2, ... between rows

  static Scratch& of_this_thread() {
    static thread_local Scratch scratch;
    return scratch;
  }
};

// One task under one distribution: immutable, shared by every thread. A row is a pure function of its words and its length.
class RowSampler {
 public:
  virtual ~RowSampler() = default;

  virtual int64_t shortest() const { return 1; }
  virtual int64_t longest() const { return longest_length; }
  virtual int64_t stride() const { return 1; }
  virtual int64_t residue() const { return 0; }

  // How many words a row of length n usually needs; more are drawn when it needs more.
  virtual int64_t usual_words(int64_t n) const = 0;
  // The size of a row of length n, or the greatest it can have if sizes vary.
  virtual RowShape largest_shape(int64_t n) const = 0;
  virtual bool shape_varies() const { return false; }
  // The size of one row; tasks whose sizes vary work it out.
  virtual RowShape shape(int64_t n, Words&, Scratch&) const { return largest_shape(n); }
  // How far the writing of a row may go past the end of `scored` and `targets`; less room needed, fewer rows are copied.
  virtual int64_t scored_spill() const { return spill; }
  // Writes a row and returns its size.
  virtual RowShape write(int64_t n, Words& words, Scratch& scratch, const RowView& row) const = 0;
};

struct Request {
  uint64_t seed;
  uint64_t stream;
  int64_t first_row;
  int64_t rows;
  Lengths lengths;
  int64_t context;  // 0: every offset is 0
  int threads;
};

inline Lengths reachable_lengths(const RowSampler& sampler, int64_t low, int64_t high) {
  const Lengths lengths = lengths_between(low, high, sampler.stride(), sampler.residue());
  if (low > high || low < sampler.shortest() || high > sampler.longest() || lengths.count == 0) {
    throw std::invalid_argument("the task cannot draw lengths " + std::to_string(low) + ".." + std::to_string(high));
  }
  return lengths;
}

inline void check_context(const RowSampler& sampler, const Lengths& lengths, int64_t context) {
  const int64_t needed = sampler.largest_shape(lengths.last()).tokens;
  if (context != 0 && context < needed) {
    throw std::invalid_argument("context is " + std::to_string(context) + ", but a string of length " +
                                std::to_string(lengths.last()) + " can take " + std::to_string(needed) + " tokens");
  }
}

inline void check_rows(int64_t rows, int64_t first_row) {
  const int64_t most = int64_t{1} << 32;
  if (rows < 1 || first_row < 0 || first_row > most - rows) {
    throw std::invalid_argument("rows " + std::to_string(first_row) + ".." + std::to_string(first_row + rows - 1) +
                                " are not a part of 0..4294967295");
  }
}

// Contiguous shares of 0..count-1, one per thread.
struct Shares {
  int64_t count;
  int64_t shares;

  Shares(int64_t count, int threads) : count(count), shares(std::clamp<int64_t>(threads, 1, count)) {}
  int64_t begin(int64_t share) const { return count / shares * share + count % shares * share / shares; }
  int64_t end(int64_t share) const { return begin(share + 1); }
};

// Runs work(share) for every share, each on its own thread, and passes on the first exception.
template <class Work>
void in_parallel(int64_t shares, Work&& work) {
  if (shares == 1) return work(int64_t{0});
  std::vector<std::exception_ptr> errors(static_cast<size_t>(shares));
  const auto run = [&](int64_t share) noexcept {
    try {
      work(share);
    } catch (...) {
      errors[static_cast<size_t>(share)] = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> helpers;
    for (int64_t share = 1; share < shares; ++share) helpers.emplace_back(run, share);
    run(0);
  }
  for (const auto& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

// The length of a row, and the random number that will become its offset once its size is known.
struct Placement {
  int32_t length;
  uint64_t offset_draw;
};

using Placements = std::vector<Placement>;

// Rows drawn together: lanes across rows keep the vector unit full on short rows.
inline constexpr int64_t rows_at_once = 8;

inline RowKey key_of(const Request& request, int64_t row) {
  return {request.seed, request.stream, static_cast<uint32_t>(request.first_row + row)};
}

inline void draw_placements(const Request& request, int64_t begin, int64_t end, Placements& placements) {
  const Lengths& lengths = request.lengths;
  const auto count = static_cast<uint64_t>(lengths.count);
  PlacementBlock blocks[rows_at_once];
  for (int64_t first = begin; first < end; first += rows_at_once) {
    draw_placement_blocks(key_of(request, first), rows_at_once, blocks);
    for (int64_t row = first; row < std::min(end, first + rows_at_once); ++row) {
      const PlacementBlock& block = blocks[row - first];
      const uint64_t index = settle(block.length_draw, count, key_of(request, row), &PlacementBlock::length_draw);
      const int64_t n = lengths.first + lengths.stride * static_cast<int64_t>(index);
      placements[static_cast<size_t>(row)] = {static_cast<int32_t>(n), block.offset_draw};
    }
  }
}

inline int64_t offset_of(const Request& request, int64_t row, const Placement& placement, int64_t tokens) {
  if (request.context == 0) return 0;
  const auto choices = static_cast<uint64_t>(request.context - tokens + 1);
  return static_cast<int64_t>(settle(placement.offset_draw, choices, key_of(request, row), &PlacementBlock::offset_draw));
}

// The first content blocks of several neighbouring rows.
class Heads {
 public:
  static constexpr int64_t most_blocks = 8;

  void draw(const RowKey& first, int64_t blocks) {
    key_ = first;
    blocks_ = std::clamp<int64_t>(blocks, 1, most_blocks);
    philox_heads(key_, rows_at_once, content_block, blocks_, words_);
  }

  Words words(int64_t i) const {
    const RowKey key{key_.seed, key_.stream, key_.row + static_cast<uint32_t>(i)};
    return Words(key, words_ + i * blocks_ * words_per_block, blocks_);
  }

 private:
  RowKey key_;
  int64_t blocks_;
  alignas(32) uint32_t words_[rows_at_once * most_blocks * words_per_block];
};

// Visits rows begin..end-1 in order, with their placement and their content words.
template <class Visit>
void for_each_row(const RowSampler& sampler, const Request& request, const Placements& placements, int64_t begin, int64_t end,
                  Visit&& visit) {
  Heads heads;
  for (int64_t first = begin; first < end; first += rows_at_once) {
    const int64_t last = std::min(end, first + rows_at_once);
    int32_t longest = 0;
    for (int64_t row = first; row < last; ++row) longest = std::max(longest, placements[static_cast<size_t>(row)].length);
    heads.draw(key_of(request, first), (sampler.usual_words(longest) + words_per_block - 1) / words_per_block);
    for (int64_t row = first; row < last; ++row) {
      Words words = heads.words(row - first);
      visit(row, placements[static_cast<size_t>(row)], words);
    }
  }
}

// The room that rows begin..end-1 need: exactly, or at most.
inline RowShape largest_room(const RowSampler& sampler, const Placements& placements, int64_t begin, int64_t end) {
  RowShape room;
  for (int64_t row = begin; row < end; ++row) room = room + sampler.largest_shape(placements[static_cast<size_t>(row)].length);
  return room;
}

inline RowShape exact_room(const RowSampler& sampler, const Request& request, const Placements& placements, int64_t begin,
                           int64_t end) {
  if (!sampler.shape_varies()) return largest_room(sampler, placements, begin, end);
  Scratch& scratch = Scratch::of_this_thread();
  RowShape room;
  for_each_row(sampler, request, placements, begin, end, [&](int64_t, const Placement& placement, Words& words) {
    room = room + sampler.shape(placement.length, words, scratch);
  });
  return room;
}

inline void check_room(const RowShape& room) {
  if (room.tokens <= most_tokens) return;
  throw std::length_error("the batch would have " + std::to_string(room.tokens) +
                          " tokens; at most 2147483647 fit in one batch, so ask for fewer or shorter rows");
}

// Writes a row to the side and copies it: for rows whose spill might leave the share of this thread.
inline RowShape write_aside(const RowSampler& sampler, int64_t n, Words& words, Scratch& scratch, const RowView& row) {
  const RowShape most = sampler.largest_shape(n);
  const RowView aside{at_least(scratch.tokens, most.tokens + spill), at_least(scratch.scored, most.scored + spill),
                      at_least(scratch.targets, most.scored + spill), row.start};
  const RowShape size = sampler.write(n, words, scratch, aside);
  std::copy_n(aside.tokens, size.tokens, row.tokens);
  std::copy_n(aside.scored, size.scored, row.scored);
  std::copy_n(aside.targets, size.scored, row.targets);
  return size;
}

// What one thread wrote.
struct Written {
  RowShape end;
  RowShape largest_row = {};
};

// Writes rows begin..end-1 between the totals `from` and `limit` of the batch.
inline Written write_rows(const RowSampler& sampler, const Request& request, const Placements& placements, int64_t begin,
                          int64_t end, RowShape from, RowShape limit, const Batch& batch) {
  Scratch& scratch = Scratch::of_this_thread();
  const RowShape reach = sampler.largest_shape(request.lengths.last()) + RowShape{spill, sampler.scored_spill()};
  Written written{from};
  for_each_row(sampler, request, placements, begin, end, [&](int64_t row, const Placement& placement, Words& words) {
    RowShape& at = written.end;
    const RowView view{batch.tokens() + at.tokens, batch.scored() + at.scored, batch.targets() + at.scored, at.tokens};
    const bool fits = at.tokens + reach.tokens <= limit.tokens && at.scored + reach.scored <= limit.scored;
    const RowShape size = fits ? sampler.write(placement.length, words, scratch, view)
                               : write_aside(sampler, placement.length, words, scratch, view);
    at = at + size;
    batch.cu_seqlens()[row + 1] = static_cast<int32_t>(at.tokens);
    batch.offsets()[row] = offset_of(request, row, placement, size.tokens);
    written.largest_row = written.largest_row.most_of(size);
  });
  return written;
}

// Where each share starts in the batch, and the end. One share alone may get more room than it needs; then nothing is measured.
inline std::vector<RowShape> lay_out(const RowSampler& sampler, const Request& request, const Shares& shares,
                                     Placements& placements) {
  std::vector<RowShape> ends(static_cast<size_t>(shares.shares) + 1);
  in_parallel(shares.shares, [&](int64_t share) {
    const int64_t begin = shares.begin(share), end = shares.end(share);
    draw_placements(request, begin, end, placements);
    RowShape room = largest_room(sampler, placements, begin, end);
    if (shares.shares > 1 || room.tokens > most_tokens) room = exact_room(sampler, request, placements, begin, end);
    ends[static_cast<size_t>(share) + 1] = room;
  });
  for (size_t i = 1; i < ends.size(); ++i) ends[i] = ends[i] + ends[i - 1];
  check_room(ends.back());
  return ends;
}

inline Batch sample_rows(const RowSampler& sampler, const Request& request) {
  const Shares shares(request.rows, request.threads);
  Placements placements(static_cast<size_t>(request.rows));
  const std::vector<RowShape> ends = lay_out(sampler, request, shares, placements);
  Batch batch(request.rows, ends.back());
  batch.cu_seqlens()[0] = 0;
  std::vector<Written> written(static_cast<size_t>(shares.shares));
  in_parallel(shares.shares, [&](int64_t share) {
    const auto i = static_cast<size_t>(share);
    written[i] = write_rows(sampler, request, placements, shares.begin(share), shares.end(share), ends[i], ends[i + 1], batch);
  });
  RowShape largest_row;
  for (const Written& each : written) largest_row = largest_row.most_of(each.largest_row);
  batch.set_written(written.back().end, largest_row);
  return batch;
}

}  // namespace lengen
