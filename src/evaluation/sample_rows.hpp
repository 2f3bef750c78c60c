#pragma once

#include <treadle/base/batch.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace treadle {

class Group;

/// What an evaluator notes of each sample, a row of numbers, brought together from all ranks in an order that does not depend on
/// how the samples were spread.
class SampleRows {
 public:
  explicit SampleRows(std::size_t columns) : columns_(columns) {}

  void clear();
  /// The row of the sample at `place` of `batch`.
  void add(const Batch& batch, std::size_t place, std::span<const double> row);
  /// On the main process the rows of all ranks behind one another, in the order of ids and each id once; those of batches without
  /// ids follow by rank. Empty elsewhere. A collective.
  std::vector<double> gather(Group& group) const;

 private:
  std::size_t columns_;
  std::vector<std::int64_t> ids_;  // -1 for none
  std::vector<double> numbers_;
};

}  // namespace treadle
