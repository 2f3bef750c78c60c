#include "engine/named_numbers.hpp"

#include <events/numpy_sums.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/comm/group.hpp>
#include <treadle/engine/step_exchange.hpp>

#include <algorithm>

namespace treadle {
namespace {

// The places of a row; the losses follow.
enum Place : std::size_t { kStop, kFinite, kNames, kDataTime, kLosses };

// A number that differs when names or their order differ; 48 bits fit a double exactly.
double fingerprint(const NamedNumbers& losses) {
  std::uint64_t hash = 14695981039346656037u;
  const auto add = [&](unsigned char byte) { hash = (hash ^ byte) * 1099511628211u; };
  for (const auto& [name, value] : losses) {
    for (char c : name) add(static_cast<unsigned char>(c));
    add(0);
  }
  return static_cast<double>(hash & 0xffffffffffff);
}

double mean_over_ranks(const StepRows& rows, std::size_t place, std::vector<double>& numbers) {
  numbers.clear();
  for (const auto& row : rows) numbers.push_back(row[place]);
  return numpy_mean(numbers.data(), numbers.size());
}

}  // namespace

void StepExchange::start(Group& group, const StepFacts& facts, bool stop) {
  if (started_)
    throw CommError("an exchange is under way; wait for it before the next begins", group.get_rank(), "step exchange");
  assign(facts.losses, verdict_.losses);
  verdict_.data_time = facts.data_time;
  verdict_.finite = facts.finite;
  verdict_.stop = stop;
  if (group.get_world_size() > 1) {
    row_.assign({stop ? 1.0 : 0.0, facts.finite ? 1.0 : 0.0, fingerprint(facts.losses), facts.data_time});
    for (const auto& [name, value] : facts.losses) row_.push_back(value);
    group.start_step_exchange(row_);
  }
  started_ = true;
}

const StepVerdict& StepExchange::wait(Group& group) {
  if (!started_) throw CommError("no exchange has begun", group.get_rank(), "step exchange");
  started_ = false;
  if (group.get_world_size() == 1) return verdict_;
  const StepRows& rows = group.wait_step_exchange();
  verdict_.stop = false;
  verdict_.finite = true;
  verdict_.data_time = rows.front()[kDataTime];
  for (std::size_t rank = 0; rank < rows.size(); ++rank) {
    const auto& row = rows[rank];
    if (row.size() != row_.size() || row[kNames] != row_[kNames]) {
      throw CommError("the losses of rank " + std::to_string(rank) + " have other names than those of this rank",
                      group.get_rank(), "step exchange");
    }
    verdict_.stop = verdict_.stop || row[kStop] != 0;
    verdict_.finite = verdict_.finite && row[kFinite] != 0;
    verdict_.data_time = std::max(verdict_.data_time, row[kDataTime]);
  }
  // What this rank sent is not needed any more.
  for (std::size_t i = 0; i < verdict_.losses.size(); ++i) verdict_.losses[i].second = mean_over_ranks(rows, kLosses + i, row_);
  return verdict_;
}

}  // namespace treadle
