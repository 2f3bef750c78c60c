#include <evaluation/model_device.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/text.hpp>
#include <treadle/evaluation/loss_evaluator.hpp>
#include <treadle/models/model.hpp>

#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <algorithm>

namespace treadle {
namespace {

/// The samples at `places`.
Batch select(const Batch& batch, const std::vector<std::int64_t>& places) {
  const at::Tensor index = at::tensor(places, at::kLong);
  Dict fields;
  for (const auto& [name, field] : batch.fields()) {
    if (field.is(Value::Type::tensor)) {
      const at::Tensor& tensor = field.as_tensor();
      fields.set(name, tensor.index_select(0, index.to(tensor.device())));
    } else if (field.is(Value::Type::list)) {
      List list;
      for (std::int64_t place : places) list.push_back(field.as_list().at(static_cast<std::size_t>(place)));
      fields.set(name, std::move(list));
    } else {
      fields.set(name, field);
    }
  }
  if (batch.ids().empty()) return Batch(std::move(fields));
  std::vector<std::int64_t> ids;
  for (std::int64_t place : places) ids.push_back(batch.ids()[static_cast<std::size_t>(place)]);
  return Batch(std::move(fields), std::move(ids));
}

/// A batch that some rank has judged; its arrays lie in what was gathered.
struct Judged {
  const std::int64_t* ids;
  std::int64_t size;
  const double* losses;
};

struct JudgedByAll {
  std::vector<std::string> names;
  std::vector<Judged> batches;
};

std::vector<std::string> names_in(const Value& list) {
  std::vector<std::string> names;
  for (const Value& name : list.as_list()) names.push_back(name.as_string());
  return names;
}

/// In the order of the first sample of each batch, so that any number of ranks adds in one order.
JudgedByAll judged_by_all(const List& gathered) {
  JudgedByAll all;
  for (const Value& rank : gathered) {
    const Dict& own = rank.as_dict();
    const at::Tensor& sizes = own.at("sizes").as_tensor();
    if (sizes.numel() == 0) continue;
    const std::vector<std::string> found = names_in(own.at("names"));
    if (all.batches.empty()) all.names = found;
    if (found != all.names) {
      throw FormatError(
          fmt::format("the model gave the losses {} on one rank and {} on another", quoted_list(all.names), quoted_list(found)));
    }
    const auto* ids = own.at("ids").as_tensor().const_data_ptr<std::int64_t>();
    const auto* losses = own.at("losses").as_tensor().const_data_ptr<double>();
    for (std::int64_t i = 0; i < sizes.numel(); ++i, losses += found.size()) {
      const std::int64_t size = sizes.const_data_ptr<std::int64_t>()[i];
      all.batches.push_back({ids, size, losses});
      ids += size;
    }
  }
  std::ranges::stable_sort(all.batches, [](const Judged& a, const Judged& b) {
    return static_cast<std::uint64_t>(*a.ids) < static_cast<std::uint64_t>(*b.ids);  // those without ids come last
  });
  return all;
}

}  // namespace

LossEvaluator::LossEvaluator(LossEvaluatorOptions options) : options_(std::move(options)) {
  if (!options_.group) options_.group = make_single_process_group();
}

void LossEvaluator::reset() {
  names_.clear();
  seen_.clear();
  losses_.clear();
  sizes_.clear();
  ids_.clear();
}

void LossEvaluator::process(const Batch& inputs, const List&) {
  if (model_ == nullptr) throw Error("LossEvaluator needs the model: call set_model first, as inference_on_dataset does");
  std::vector<std::int64_t> fresh;
  for (std::int64_t i = 0; i < inputs.size(); ++i) {
    if (inputs.ids().empty() || seen_.insert(inputs.ids()[static_cast<std::size_t>(i)]).second) fresh.push_back(i);
  }
  if (fresh.empty()) return;
  if (options_.one_by_one) {
    for (std::int64_t place : fresh) note(select(inputs, {place}));
  } else {
    note(static_cast<std::int64_t>(fresh.size()) == inputs.size() ? inputs : select(inputs, fresh));
  }
}

void LossEvaluator::note(const Batch& batch) {
  const c10::Device device = device_of(*model_);
  const LossDict losses = model_->losses(device.is_cpu() ? batch : batch.to(device));
  std::vector<std::string> names;
  for (const auto& [name, loss] : losses) {
    names.push_back(name);
    losses_.push_back(loss.item().toDouble());
  }
  if (sizes_.empty()) names_ = names;
  if (names != names_) {
    throw FormatError(
        fmt::format("the model gave the losses {} for one batch and {} for another", quoted_list(names_), quoted_list(names)));
  }
  sizes_.push_back(batch.size());
  for (std::int64_t i = 0; i < batch.size(); ++i)
    ids_.push_back(batch.ids().empty() ? -1 : batch.ids()[static_cast<std::size_t>(i)]);
}

Dict LossEvaluator::evaluate() {
  List own_names;
  for (const std::string& name : names_) own_names.push_back(name);
  const List gathered = options_.group->gather(Dict{{"names", std::move(own_names)},
                                                    {"losses", at::tensor(losses_, at::kDouble)},
                                                    {"sizes", at::tensor(sizes_, at::kLong)},
                                                    {"ids", at::tensor(ids_, at::kLong)}});
  if (!options_.group->is_main_process()) return {};
  const auto [names, batches] = judged_by_all(gathered);
  if (batches.empty()) throw FormatError("there was nothing to evaluate: the data set gave no samples");

  std::unordered_set<std::int64_t> seen;
  std::int64_t samples = 0;
  std::vector<double> sums(names.size());
  for (const Judged& batch : batches) {
    const std::int64_t weight =
        std::count_if(batch.ids, batch.ids + batch.size, [&](std::int64_t id) { return id < 0 || seen.insert(id).second; });
    if (weight == 0) continue;
    samples += weight;
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += static_cast<double>(weight) * batch.losses[i];
  }
  Dict metrics;
  double total = 0;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const double mean = sums[i] / static_cast<double>(samples);
    total += mean;
    metrics.set(names[i], mean);
  }
  if (!metrics.contains("total_loss")) metrics.set("total_loss", total);  // one of the model's own stays, as in training
  metrics.set("num_samples", samples);
  return {{options_.task, std::move(metrics)}};
}

}  // namespace treadle
