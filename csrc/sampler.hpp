// What a task tells the engine, and the loop that turns it into a batch.
#pragma once

#include <algorithm>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "batch.hpp"
#include "random.hpp"

namespace lengen {

inline constexpr int64_t longest_length = int64_t{1} << 20;
inline constexpr int64_t most_tokens = std::numeric_limits<int32_t>::max();

// The lengths a task can draw from a range: first, first + stride, ..., `count` of them, or those listed. They are equally likely,
// or length i is drawn by the 64-bit random numbers from thresholds[i - 1] up to below thresholds[i]; then starts[b] is the first
// length that numbers with the high byte b may draw.
struct Lengths {
  int64_t first;
  int64_t stride;
  int64_t count;
  const int32_t* listed = nullptr;
  const uint64_t* thresholds = nullptr;
  const int32_t* starts = nullptr;

  int64_t at(int64_t i) const { return listed == nullptr ? first + stride * i : listed[i]; }
  int64_t last() const { return at(count - 1); }
  int64_t drawn_by(uint64_t draw) const {
    int64_t i = starts[draw >> 56];
    while (i < count - 1 && thresholds[i] <= draw) ++i;
    return at(i);
  }
};

// The `starts` of thresholds.
inline std::vector<int32_t> starts_of(const std::vector<uint64_t>& thresholds) {
  std::vector<int32_t> starts;
  for (uint64_t byte = 0; byte < 256 && !thresholds.empty(); ++byte) {
    const auto found = std::upper_bound(thresholds.begin(), thresholds.end() - 1, byte << 56);
    starts.push_back(static_cast<int32_t>(found - thresholds.begin()));
  }
  return starts;
}

// Lengths congruent to `residue` modulo `stride` in low..high.
inline Lengths lengths_between(int64_t low, int64_t high, int64_t stride, int64_t residue) {
  const int64_t first = low + ((residue - low) % stride + stride) % stride;
  return {first, stride, first > high ? 0 : (high - first) / stride + 1};
}

template <class T>
LENGEN_RARE void grow(std::vector<T>& memory, int64_t size) {
  memory.resize(static_cast<size_t>(size));
}

// A vector as uninitialised working memory: at least `size` values, contents left from before.
template <class T>
T* at_least(std::vector<T>& memory, int64_t size) {
  if (static_cast<int64_t>(memory.size()) < size) [[unlikely]] grow(memory, size);
  return memory.data();
}

// The length of a row, and the random number that will become its offset once its size is known.
struct Placement {
  int32_t length;
  uint64_t offset_draw;
};

// Working memory of one thread, kept between rows.
struct Scratch {
  std::vector<uint64_t> bits[3], fresh, woven;
  std::vector<uint32_t> order, moved, sorted, draws;
  std::vector<uint8_t> letters, labels, parts, seen;
  std::vector<int32_t> tokens, scored;
  std::vector<int64_t> targets;
  std::vector<Placement> placements;
  std::vector<uint8_t> numbers, sum, kept;
  std::vector<int64_t> operands;
  int64_t identity = 0;  // order[0..identity) is 0, 1, 2, ... between rows

  static Scratch& of_this_thread() {
    static thread_local Scratch scratch;
    return scratch;
  }
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

// Rows begin..end-1 of a request, with the placements of all rows.
struct RowRange {
  const Request& request;
  const Placement* placements;
  int64_t begin, end;
};

// What was kept of a row: its size, and where the next one goes.
struct Kept {
  RowShape shape;
  uint8_t* end;
};

// What one thread wrote.
struct Written {
  RowShape end;
  RowShape largest_row;
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
  // The size of a row of length n; if it keeps rows, the greatest it can have, of which it has half the tokens at least.
  virtual RowShape largest_shape(int64_t n) const = 0;
  // How far the writing of a row may go past the end of `scored` and `targets`; less room needed, fewer rows are copied.
  virtual int64_t scored_spill() const { return spill; }

  // The room that rows need, or at most need if their sizes vary.
  virtual RowShape room(const RowRange& rows) const = 0;
  // Whether sizes vary; then what is random in rows can be drawn before they are written, and perhaps by another thread.
  virtual bool keeps_rows() const = 0;
  // Draws rows, and returns the room they need and what was drawn.
  virtual RowShape keep(const RowRange& rows, Slab& kept) const = 0;
  // Writes rows between the totals `from` and `limit` of the batch; `kept` is what was drawn of them, or empty.
  virtual Written write_rows(const RowRange& rows, const Slab& kept, RowShape from, RowShape limit, const Batch& batch) const = 0;
};

inline Lengths reachable_lengths(const RowSampler& sampler, int64_t low, int64_t high) {
  const Lengths lengths = lengths_between(low, high, sampler.stride(), sampler.residue());
  if (low > high || low < sampler.shortest() || high > sampler.longest() || lengths.count == 0) {
    throw std::invalid_argument("the task cannot draw lengths " + std::to_string(low) + ".." + std::to_string(high));
  }
  return lengths;
}

// Lengths in increasing order; with thresholds, one a length.
inline void check_listed(const std::vector<int32_t>& listed, const std::vector<uint64_t>& thresholds) {
  const bool in_range = !listed.empty() && listed.front() >= 0 && listed.back() <= longest_length;
  if (!in_range || std::adjacent_find(listed.begin(), listed.end(), std::greater_equal<>()) != listed.end()) {
    throw std::invalid_argument("lengths must increase, from 0 or more to " + std::to_string(longest_length) + " or less");
  }
  if (!thresholds.empty() && (thresholds.size() != listed.size() || !std::is_sorted(thresholds.begin(), thresholds.end()))) {
    throw std::invalid_argument("thresholds must not fall, and there must be one for each length");
  }
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

inline RowKey key_of(const Request& request, int64_t row) {
  return {request.seed, request.stream, static_cast<uint32_t>(request.first_row + row)};
}

// Rows drawn together: lanes across rows keep the vector unit full on short rows.
inline constexpr int64_t rows_at_once = 8;

inline void draw_placements(const Request& request, int64_t begin, int64_t end, Placement* placements) {
  const Lengths lengths = request.lengths;
  const auto count = static_cast<uint64_t>(lengths.count);
  PlacementBlock blocks[rows_at_once];
  for (int64_t first = begin; first < end; first += rows_at_once) {
    draw_placement_blocks(key_of(request, first), rows_at_once, blocks);
    for (int64_t row = first; row < std::min(end, first + rows_at_once); ++row) {
      const PlacementBlock& block = blocks[row - first];
      if (lengths.thresholds != nullptr) {
        placements[row] = {static_cast<int32_t>(lengths.drawn_by(block.length_draw)), block.offset_draw};
        continue;
      }
      const uint64_t index = settle(block.length_draw, count, key_of(request, row), &PlacementBlock::length_draw);
      placements[row] = {static_cast<int32_t>(lengths.at(static_cast<int64_t>(index))), block.offset_draw};
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
    blocks_ = std::min(blocks, most_blocks);
    if (blocks_ > 0) random_heads(key_, rows_at_once, content_block, blocks_, words_);
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

// Visits rows in groups of rows_at_once, with the first content words of each, if they are drawn.
template <class Task, class Visit>
void for_each_group(const Task& task, const RowRange& rows, bool drawn, Visit&& visit) {
  Heads heads;
  for (int64_t first = rows.begin; first < rows.end; first += rows_at_once) {
    const int64_t last = std::min(rows.end, first + rows_at_once);
    int32_t longest = 0;
    for (int64_t row = first; row < last; ++row) longest = std::max(longest, rows.placements[row].length);
    const int64_t words = drawn ? task.usual_words(longest) : 0;
    heads.draw(key_of(rows.request, first), (words + words_per_block - 1) / words_per_block);
    visit(first, last, longest, heads);
  }
}

// A task that can draft short rows: drafts(longest) says whether it can draft rows of this length or less; draft(n, words, draft)
// draws what is random in one, finish_draft(n, draft) reads it, and write_draft(n, draft, row) writes it as write would have done.
// Each is done for all rows of a group before the next: what one row waits for overlaps with the others, and small stores have left
// the processor's store queue before a wide load reads them.
template <class Task>
concept DraftsRows = requires(const Task& task, Words& words, typename Task::Draft& draft, const RowView& row) {
  task.drafts(int64_t{});
  task.draft(int64_t{}, words, draft);
  task.finish_draft(int64_t{}, draft);
  task.write_draft(int64_t{}, draft, row);
};

// A task whose rows vary in size, so that what is random in one, a few bytes, is kept until it is known where the row begins:
// kept_bytes(n) is how many at most, keep(n, words, scratch, at) draws a row, write_kept(n, at, row) writes it and moves `at`
// behind it. The first row begins at a multiple of 8 bytes, so those that hold words take a multiple of it. What is kept may be
// read kept_margin bytes before its beginning, and read and written as many past its end. Such a task has no `write`.
inline constexpr int64_t kept_margin = 64;

template <class Task>
concept KeepsRows = requires(const Task& task, Words& words, Scratch& scratch, uint8_t* at, const uint8_t*& from,
                             const RowView& row) {
  task.kept_bytes(int64_t{});
  task.keep(int64_t{}, words, scratch, at);
  task.write_kept(int64_t{}, from, row);
};

// A task that can draw several rows at once: draws_together(longest) says whether it does for rows of this length or less;
// draw_together(placements, rows, longest, heads, scratch) draws what is random in them, write_drawn(i, n, longest, scratch, row)
// writes row i as write would have done.
template <class Task>
concept DrawsTogether = requires(const Task& task, const Placement* placements, const Heads& heads, Scratch& scratch,
                                 const RowView& row) {
  task.draws_together(int64_t{});
  task.draw_together(placements, int64_t{}, int64_t{}, heads, scratch);
  task.write_drawn(int64_t{}, int64_t{}, int64_t{}, scratch, row);
};

// Both halves of a task: what is asked of it as a RowSampler, and its rows. Task has, beside what RowSampler leaves open,
// write(n, words, scratch, row), which writes a row and returns its size; or it keeps rows. The loops over rows are compiled with
// everything they call, for either path.
template <class Task>
class RowsOf : public RowSampler {
 public:
  RowShape room(const RowRange& rows) const final {
    RowShape room;
    for (int64_t row = rows.begin; row < rows.end; ++row) room = room + task().largest_shape(rows.placements[row].length);
    return room;
  }

  bool keeps_rows() const final { return KeepsRows<Task>; }

  RowShape keep(const RowRange& rows, Slab& kept) const final {
    if constexpr (KeepsRows<Task>) {
#if LENGEN_HAS_AVX2_PATH
      if (use_avx2()) return keep_with_avx2(task(), rows, kept);
#endif
      return keep_all(task(), rows, kept);
    } else {
      return room(rows);
    }
  }

  Written write_rows(const RowRange& rows, const Slab& kept, RowShape from, RowShape limit, const Batch& batch) const final {
    const uint8_t* at = kept.data() == nullptr ? nullptr : kept_in(kept);
#if LENGEN_HAS_AVX2_PATH
    if (use_avx2()) return write_with_avx2(task(), rows, at, from, limit, batch);
#endif
    return write(task(), rows, at, from, limit, batch);
  }

 private:
  const Task& task() const { return static_cast<const Task&>(*this); }

  static uint8_t* kept_in(const Slab& kept) { return reinterpret_cast<uint8_t*>(kept.data()) + kept_margin; }

  // What rows first..last-1 take while they are kept, with the margins. (Longer rows may take less: lengths can be numbers of pairs.)
  static int64_t bytes_to_keep(const Task& task, const Placement* placements, int64_t first, int64_t last) {
    int64_t bytes = 2 * kept_margin;
    for (int64_t row = first; row < last; ++row) bytes += task.kept_bytes(placements[row].length);
    return bytes;
  }

  static RowShape keep_all(const Task& task, const RowRange& rows, Slab& kept) {
    kept = Slab(static_cast<size_t>(bytes_to_keep(task, rows.placements, rows.begin, rows.end)));
    uint8_t* at = kept_in(kept);
    Scratch& scratch = Scratch::of_this_thread();
    RowShape room;
    for_each_group(task, rows, true, [&](int64_t first, int64_t last, int64_t, const Heads& heads) {
      for (int64_t row = first; row < last; ++row) {
        Words words = heads.words(row - first);
        const Kept one = task.keep(rows.placements[row].length, words, scratch, at);
        room = room + one.shape;
        at = one.end;
      }
    });
    return room;
  }

  static Written write(const Task& task, const RowRange& rows, const uint8_t* kept, RowShape from, RowShape limit,
                       const Batch& batch) {
    Scratch& scratch = Scratch::of_this_thread();
    const RowShape beyond{spill, task.scored_spill()};
    Written written{from, {}};
    for_each_group(task, rows, kept == nullptr, [&](int64_t first, int64_t last, int64_t longest, const Heads& heads) {
      RowShape reach = written.end + beyond;
      for (int64_t row = first; row < last; ++row) reach = reach + task.largest_shape(rows.placements[row].length);
      if (reach.tokens <= limit.tokens && reach.scored <= limit.scored) [[likely]] {
        const auto write_at = [](int64_t, const RowView& place, auto&& write_at) { return write_at(place); };
        write_group(task, rows, {first, last, longest}, heads, kept, scratch, batch, written, write_at);
      } else {
        const auto write_at = [&](int64_t n, const RowView& place, auto&& write_at) {
          const RowShape end = RowShape{place.start, place.scored - batch.scored()} + task.largest_shape(n) + beyond;
          const bool fits = end.tokens <= limit.tokens && end.scored <= limit.scored;
          return fits ? write_at(place) : write_aside(task, n, scratch, place, write_at);
        };
        write_group(task, rows, {first, last, longest}, heads, kept, scratch, batch, written, write_at);
      }
    });
    return written;
  }

  // Rows first..last-1, and the greatest of their lengths.
  struct Group {
    int64_t first, last, longest;
  };

  // Writes each row by place_row(n, where, write_there), which decides where it goes; moves `kept` behind the rows, if they were.
  template <class PlaceRow>
  LENGEN_INLINE static void write_group(const Task& task, const RowRange& rows, Group group, const Heads& heads,
                                        const uint8_t*& kept, Scratch& scratch, const Batch& batch, Written& written,
                                        PlaceRow&& place_row) {
    const Batch::Arrays to = batch.arrays();
    const Request& request = rows.request;
    const Placement* const placements = rows.placements;
    const auto [first, last, longest] = group;
    RowShape at = written.end, largest_row = written.largest_row;
    const auto write_rows = [&](auto&& write_row) {
      for (int64_t row = first; row < last; ++row) {
        const int64_t n = placements[row].length;
        const RowView place{to.tokens + at.tokens, to.scored + at.scored, to.targets + at.scored, at.tokens};
        const RowShape size = place_row(n, place, [&](const RowView& view) { return write_row(row, n, view); });
        at = at + size;
        to.cu_seqlens[row + 1] = static_cast<int32_t>(at.tokens);
        to.offsets[row] = offset_of(request, row, placements[row], size.tokens);
        largest_row = largest_row.most_of(size);
      }
      written = {at, largest_row};
    };
    if constexpr (DrawsTogether<Task>) {
      if (task.draws_together(longest)) {
        task.draw_together(placements + first, last - first, longest, heads, scratch);
        return write_rows([&](int64_t row, int64_t n, const RowView& view) {
          return task.write_drawn(row - first, n, longest, scratch, view);
        });
      }
    }
    if constexpr (DraftsRows<Task>) {
      if (task.drafts(longest)) {
        typename Task::Draft drafts[rows_at_once];
        for (int64_t row = first; row < last; ++row) {
          Words words = heads.words(row - first);
          task.draft(placements[row].length, words, drafts[row - first]);
        }
        for (int64_t row = first; row < last; ++row) task.finish_draft(placements[row].length, drafts[row - first]);
        return write_rows([&](int64_t row, int64_t n, const RowView& view) { return task.write_draft(n, drafts[row - first], view); });
      }
    }
    if constexpr (KeepsRows<Task>) {
      const auto write_all = [&](const uint8_t*& from) {
        write_rows([&](int64_t, int64_t n, const RowView& view) { return task.write_kept(n, from, view); });
      };
      if (kept != nullptr) return write_all(kept);
      const uint8_t* begin = at_least(scratch.kept, bytes_to_keep(task, placements, first, last)) + kept_margin;
      uint8_t* at = scratch.kept.data() + kept_margin;
      for (int64_t row = first; row < last; ++row) {
        Words words = heads.words(row - first);
        at = task.keep(placements[row].length, words, scratch, at).end;
      }
      write_all(begin);
    } else {
      write_rows([&](int64_t row, int64_t n, const RowView& view) {
        Words words = heads.words(row - first);
        return task.write(n, words, scratch, view);
      });
    }
  }

  // Writes a row to the side and copies it: for rows whose spill might leave the room of this thread.
  template <class WriteAt>
  LENGEN_RARE static RowShape write_aside(const Task& task, int64_t n, Scratch& scratch, const RowView& row, WriteAt&& write_at) {
    const RowShape most = task.largest_shape(n);
    const RowView aside{at_least(scratch.tokens, most.tokens + spill), at_least(scratch.scored, most.scored + spill),
                        at_least(scratch.targets, most.scored + spill), row.start};
    const RowShape size = write_at(aside);
    std::copy_n(aside.tokens, size.tokens, row.tokens);
    std::copy_n(aside.scored, size.scored, row.scored);
    std::copy_n(aside.targets, size.scored, row.targets);
    return size;
  }

#if LENGEN_HAS_AVX2_PATH
  LENGEN_AVX2 LENGEN_WITH_ALL_IT_CALLS static RowShape keep_with_avx2(const Task& task, const RowRange& rows, Slab& kept) {
    return keep_all(task, rows, kept);
  }

  LENGEN_AVX2 LENGEN_WITH_ALL_IT_CALLS static Written write_with_avx2(const Task& task, const RowRange& rows, const uint8_t* kept,
                                                                      RowShape from, RowShape limit, const Batch& batch) {
    return write(task, rows, kept, from, limit, batch);
  }
#endif
};

// Behind the last row there is room for its spill.
inline constexpr RowShape spare_room{spill, spill};

inline void check_tokens(int64_t least) {
  if (least <= most_tokens) return;
  throw std::length_error("the batch would have " + std::to_string(least) +
                          " tokens or more; at most 2147483647 fit in one batch, so ask for fewer or shorter rows");
}

inline Batch sample_here(const RowSampler& sampler, const Request& request, Placement* placements) {
  const RowRange all{request, placements, 0, request.rows};
  draw_placements(request, 0, request.rows, placements);
  RowShape room = sampler.room(all);
  Slab kept;
  if (sampler.keeps_rows() && room.tokens > most_tokens) {
    check_tokens(room.tokens / 2);
    room = sampler.keep(all, kept);
  }
  check_tokens(room.tokens);
  const RowShape limit = room + spare_room;
  Batch batch(request.rows, limit);
  const Written written = sampler.write_rows(all, kept, {}, limit, batch);
  batch.set_written(written.end, written.largest_row);
  return batch;
}

}  // namespace lengen
