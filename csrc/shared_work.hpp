// Batches drawn by several threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "sampler.hpp"
#include "workers.hpp"

namespace lengen {

// Rows cut into small pieces, so that a thread which comes late leaves little undone. All but the last part of the batch need their
// exact room. Where sizes vary, pieces are drawn and kept until all have their room; or, of tasks that do not keep rows, drawn
// once more, and there parts are as large as can be, since the last of them needs no exact room.
class SharedWork {
 public:
  SharedWork(const RowSampler& sampler, const Request& request, Placement* placements)
      : sampler_(sampler), request_(request), placements_(placements),
        pieces_(std::min<int64_t>(int64_t{request.threads} * pieces_per_thread, request.rows)),
        pieces_in_part_(sampler.shape_varies() && !sampler.keeps_rows() ? pieces_per_thread : 1),
        parts_((pieces_ + pieces_in_part_ - 1) / pieces_in_part_), begins_(static_cast<size_t>(pieces_) + 1),
        kept_(static_cast<size_t>(pieces_)) {}

  Batch draw() {
    in_parallel(pieces_, request_.threads, [this](int64_t piece) { measure(piece); });
    add_up();
    Batch batch(request_.rows, begins_.back() + spare_room);
    std::vector<Written> written(static_cast<size_t>(parts_));
    in_parallel(parts_, request_.threads, [&](int64_t part) { written[static_cast<size_t>(part)] = write(part, batch); });
    RowShape largest_row;
    for (const Written& each : written) largest_row = largest_row.most_of(each.largest_row);
    batch.set_written(written.back().end, largest_row);
    return batch;
  }

 private:
  static constexpr int64_t pieces_per_thread = 4;

  int64_t first_row(int64_t piece) const { return request_.rows / pieces_ * piece + request_.rows % pieces_ * piece / pieces_; }
  int64_t first_piece(int64_t part) const { return std::min(part * pieces_in_part_, pieces_); }
  RowRange rows(int64_t piece, int64_t end) const { return {request_, placements_, first_row(piece), first_row(end)}; }
  RowShape& begin(int64_t piece) { return begins_[static_cast<size_t>(piece)]; }
  bool in_last_part(int64_t piece) const { return piece >= first_piece(parts_ - 1); }

  void measure(int64_t piece) {
    const RowRange range = rows(piece, piece + 1);
    draw_placements(request_, range.begin, range.end, placements_);
    const bool keep = sampler_.keeps_rows();
    begin(piece + 1) = keep ? sampler_.keep(range, kept_[static_cast<size_t>(piece)]) : sampler_.room(range, !in_last_part(piece));
  }

  // Turns the room of each piece into where the next begins.
  void add_up() {
    for (int64_t piece = 0; piece < pieces_; ++piece) begin(piece + 1) = begin(piece) + begin(piece + 1);
    if (begins_.back().tokens > most_tokens && !sampler_.keeps_rows()) {
      const int64_t last = first_piece(parts_ - 1);
      begins_.back() = begin(last) + sampler_.room(rows(last, pieces_), true);
    }
    check_room(begins_.back());
  }

  Written write(int64_t part, const Batch& batch) {
    const int64_t first = first_piece(part), end = first_piece(part + 1);
    const RowShape limit = end == pieces_ ? begin(end) + spare_room : begin(end);
    return sampler_.write_rows(rows(first, end), kept_[static_cast<size_t>(first)], begin(first), limit, batch);
  }

  const RowSampler& sampler_;
  const Request& request_;
  Placement* placements_;
  int64_t pieces_, pieces_in_part_, parts_;
  std::vector<RowShape> begins_;
  std::vector<Slab> kept_;  // of each piece
};

// Whether a batch takes long enough, by a rough estimate, to be worth waking other threads for.
inline bool is_worth_sharing(const RowSampler& sampler, const Request& request) {
  constexpr double row_microseconds = 0.06, token_microseconds = 0.0006, least_microseconds = 200;
  const int64_t typical = request.lengths.at(request.lengths.count / 2);
  const auto tokens = static_cast<double>(sampler.largest_shape(typical).tokens);
  return static_cast<double>(request.rows) * (row_microseconds + token_microseconds * tokens) >= least_microseconds;
}

inline Batch sample_rows(const RowSampler& sampler, const Request& request) {
  Placement* placements = at_least(Scratch::of_this_thread().placements, request.rows);
  const bool alone = request.threads <= 1 || request.rows == 1 || !is_worth_sharing(sampler, request);
  if (alone) return sample_here(sampler, request, placements);
  return SharedWork(sampler, request, placements).draw();
}

}  // namespace lengen
