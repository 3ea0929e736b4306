// Batches drawn by several threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "sampler.hpp"
#include "workers.hpp"

namespace lengen {

// Rows cut into small pieces, so that a thread which comes late leaves little undone. Each needs to know where it begins: rows
// whose sizes vary are drawn and kept until all pieces have their room.
class SharedWork {
 public:
  SharedWork(const RowSampler& sampler, const Request& request, Placement* placements)
      : sampler_(sampler), request_(request), placements_(placements),
        pieces_(pieces_of(request)),
        begins_(static_cast<size_t>(pieces_) + 1), kept_(static_cast<size_t>(pieces_)) {}

  Batch draw() {
    in_parallel(pieces_, request_.threads, [this](int64_t piece) { measure(piece); });
    for (size_t piece = 0; piece + 1 < begins_.size(); ++piece) begins_[piece + 1] = begins_[piece] + begins_[piece + 1];
    check_tokens(begins_.back().tokens);
    Batch batch(request_.rows, begins_.back() + spare_room);
    std::vector<Written> written(static_cast<size_t>(pieces_));
    in_parallel(pieces_, request_.threads, [&](int64_t piece) { written[static_cast<size_t>(piece)] = write(piece, batch); });
    RowShape largest_row;
    for (const Written& each : written) largest_row = largest_row.most_of(each.largest_row);
    batch.set_written(written.back().end, largest_row);
    return batch;
  }

 private:
  // So many that the threads end together although other work may slow one of them, but not too short ones: the last rows of each
  // may have to be written to the side. All that is kept of them goes back to the pool.
  static int64_t pieces_of(const Request& request) {
    constexpr int64_t least_per_thread = 4, most_per_thread = 16, most_pieces = 256, enough_rows = 64;
    const int64_t least = least_per_thread * request.threads;
    const int64_t most = std::max(least, std::min(most_per_thread * request.threads, most_pieces));
    return std::min(request.rows, std::clamp(request.rows / enough_rows, least, most));
  }

  int64_t first_row(int64_t piece) const { return request_.rows / pieces_ * piece + request_.rows % pieces_ * piece / pieces_; }
  RowRange rows(int64_t piece) const { return {request_, placements_, first_row(piece), first_row(piece + 1)}; }

  // Places the rows of a piece, and leaves their room where the next piece begins.
  void measure(int64_t piece) {
    const RowRange range = rows(piece);
    draw_placements(request_, range.begin, range.end, placements_);
    const auto i = static_cast<size_t>(piece);
    begins_[i + 1] = sampler_.keeps_rows() ? sampler_.keep(range, kept_[i]) : sampler_.room(range);
  }

  Written write(int64_t piece, const Batch& batch) const {
    const auto i = static_cast<size_t>(piece);
    const RowShape limit = piece + 1 == pieces_ ? begins_[i + 1] + spare_room : begins_[i + 1];
    return sampler_.write_rows(rows(piece), kept_[i], begins_[i], limit, batch);
  }

  const RowSampler& sampler_;
  const Request& request_;
  Placement* placements_;
  int64_t pieces_;
  std::vector<RowShape> begins_;
  std::vector<Slab> kept_;  // of each piece
};

// Tokens of a batch by a rough estimate.
inline double estimated_tokens(const RowSampler& sampler, const Request& request) {
  const auto tokens_at = [&](int64_t i) { return static_cast<double>(sampler.largest_shape(request.lengths.at(i)).tokens); };
  return static_cast<double>(request.rows) * (tokens_at(0) + tokens_at(request.lengths.count - 1)) / 2;
}

// Whether a batch takes long enough to be worth waking other threads for, and is not so large that it may be refused: then rows are
// not kept before that is known.
inline bool is_worth_sharing(const RowSampler& sampler, const Request& request) {
  constexpr double row_microseconds = 0.06, token_microseconds = 0.0006, least_microseconds = 100;
  const double tokens = estimated_tokens(sampler, request), rows = static_cast<double>(request.rows);
  return rows * row_microseconds + tokens * token_microseconds >= least_microseconds && tokens <= static_cast<double>(most_tokens);
}

inline Batch sample_rows(const RowSampler& sampler, const Request& request) {
  Placement* placements = at_least(Scratch::of_this_thread().placements, request.rows);
  const bool alone = request.threads <= 1 || request.rows == 1 || !is_worth_sharing(sampler, request);
  if (alone) return sample_here(sampler, request, placements);
  return SharedWork(sampler, request, placements).draw();
}

}  // namespace lengen
