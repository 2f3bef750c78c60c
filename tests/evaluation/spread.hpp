#pragma once

#include <tests/support/fake_group.hpp>
#include <treadle/evaluation/evaluator.hpp>

#include <functional>
#include <memory>
#include <vector>

namespace treadle {

/// What several ranks make of samples 0 … samples - 1, spread in turn and padded with the first ones until all ranks have equally
/// many: the other ranks hand what they would send to the main process, whose results come back. `judge` is given the ids of a
/// batch of up to 3 samples.
inline Dict spread_over_ranks(int ranks, std::size_t samples,
                              const std::function<std::unique_ptr<DatasetEvaluator>(std::shared_ptr<Group>)>& make,
                              const std::function<void(DatasetEvaluator&, const std::vector<std::int64_t>&)>& judge) {
  std::vector<List> sent;  // by rank: the value of each gather
  Dict results;
  for (int rank = ranks - 1; rank >= 0; --rank) {
    auto group = std::make_shared<FakeGroup>(rank, ranks);
    List own;
    std::size_t calls = 0;
    group->play_all_gather = [&](const Value& value) {
      own.push_back(value);
      if (rank != 0) return List{};
      List all{value};
      for (auto other = sent.rbegin(); other != sent.rend(); ++other) all.push_back((*other)[calls]);
      ++calls;
      return all;
    };
    const std::unique_ptr<DatasetEvaluator> evaluator = make(group);
    evaluator->reset();
    const auto of_each = (samples + static_cast<std::size_t>(ranks) - 1) / static_cast<std::size_t>(ranks);
    std::vector<std::int64_t> ids;
    for (std::size_t i = 0; i < of_each; ++i) {
      ids.push_back(static_cast<std::int64_t>((i * static_cast<std::size_t>(ranks) + static_cast<std::size_t>(rank)) % samples));
      if (ids.size() == 3 || i + 1 == of_each) {
        judge(*evaluator, ids);
        ids.clear();
      }
    }
    results = evaluator->evaluate();
    sent.push_back(std::move(own));
  }
  return results;
}

}  // namespace treadle
