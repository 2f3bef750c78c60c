#include <evaluation/sample_rows.hpp>
#include <treadle/comm/group.hpp>

#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

namespace treadle {
namespace {

struct Place {
  std::int64_t id;
  const double* row;
};

}  // namespace

void SampleRows::clear() {
  ids_.clear();
  numbers_.clear();
}

void SampleRows::add(const Batch& batch, std::size_t place, std::span<const double> row) {
  ids_.push_back(batch.ids().empty() ? -1 : batch.ids()[place]);
  numbers_.insert(numbers_.end(), row.begin(), row.end());
}

std::vector<double> SampleRows::gather(Group& group) const {
  const List gathered = group.gather(Dict{{"ids", at::tensor(ids_, at::kLong)}, {"rows", at::tensor(numbers_, at::kDouble)}});
  if (!group.is_main_process()) return {};
  std::vector<Place> places;
  for (const Value& rank : gathered) {
    const at::Tensor &ids = rank.as_dict().at("ids").as_tensor(), &rows = rank.as_dict().at("rows").as_tensor();
    const auto* id = ids.const_data_ptr<std::int64_t>();
    const auto* row = rows.const_data_ptr<double>();
    for (std::int64_t i = 0; i < ids.numel(); ++i) places.push_back({id[i], row + static_cast<std::size_t>(i) * columns_});
  }
  std::ranges::stable_sort(places, [](const Place& a, const Place& b) {
    return static_cast<std::uint64_t>(a.id) < static_cast<std::uint64_t>(b.id);  // -1 comes last
  });
  std::vector<double> all;
  all.reserve(places.size() * columns_);
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (i > 0 && places[i].id >= 0 && places[i].id == places[i - 1].id) continue;
    all.insert(all.end(), places[i].row, places[i].row + columns_);
  }
  return all;
}

}  // namespace treadle
