#pragma once

#include <treadle/base/errors.hpp>
#include <treadle/comm/group.hpp>

#include <functional>

namespace treadle {

/// A group of which this process is one rank, the others being played by functions: for testing what a rank does with their
/// answers.
class FakeGroup final : public Group {
 public:
  FakeGroup(int rank, int world_size) : rank_(rank), world_size_(world_size) {}

  /// The rows of all ranks for this rank's row.
  std::function<StepRows(const std::vector<double>& own)> play_exchange;
  int exchanges = 0;
  /// The values of all ranks for this rank's; without it all give the same.
  std::function<List(const Value& own)> play_all_gather;
  /// What the source sends; without it what this rank holds.
  std::function<Value(const Value& own)> play_broadcast;

  int get_rank() const noexcept override { return rank_; }
  int get_world_size() const noexcept override { return world_size_; }
  int get_local_rank() const noexcept override { return rank_; }
  int get_local_size() const noexcept override { return world_size_; }
  std::int64_t generation() const noexcept override { return 0; }
  void synchronize() override {}
  List all_gather(const Value& value) override {
    if (play_all_gather) return play_all_gather(value);
    List values;
    for (int i = 0; i < world_size_; ++i) values.push_back(value);
    return values;
  }
  List gather(const Value& value, int) override { return all_gather(value); }
  Value broadcast(const Value& value, int) override { return play_broadcast ? play_broadcast(value) : value; }
  std::uint64_t shared_random_seed() override { return 4; }
  Dict reduce_dict(const Dict& numbers, bool) override { return numbers; }
  void start_step_exchange(std::span<const double> row) override {
    ++exchanges;
    rows_ = play_exchange(std::vector<double>(row.begin(), row.end()));
  }
  const StepRows& wait_step_exchange() override { return rows_; }
  void mark_broken(const std::string& reason) override { broken_reason = reason; }
  bool is_broken() const noexcept override { return !broken_reason.empty(); }
  void rebuild() override { broken_reason.clear(); }

  std::string broken_reason;

 private:
  int rank_;
  int world_size_;
  StepRows rows_;
};

}  // namespace treadle
