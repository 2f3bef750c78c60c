#include "solver/optimizer_layout.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/solver/group_info.hpp>
#include <treadle/solver/optimizer_state.hpp>

#include <ATen/ops/scalar_tensor.h>
#include <c10/util/Type.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>

namespace treadle {
namespace {

using torch::optim::Optimizer;

Value option_value(bool value) { return value; }
Value option_value(double value) { return value; }
Value option_value(std::int64_t value) { return value; }
Value option_value(const std::string& value) { return value; }
Value option_value(const std::tuple<double, double>& value) { return Tuple{std::get<0>(value), std::get<1>(value)}; }
template <class T>
Value option_value(const std::optional<T>& value) {
  return value ? option_value(*value) : Value();
}

/// Writes what the lists of fields name into a Dict.
struct Writer {
  Dict out{};

  template <class T>
  void option(const char* key, const T& field) {
    out.set(key, option_value(field));
  }
  void fixed(const char* key, Value value) { out.set(key, std::move(value)); }
  void counter(const char* key, std::int64_t step) { out.set(key, at::scalar_tensor(step, at::kFloat)); }
  void integer(const char* key, std::int64_t field) { out.set(key, field); }
  void number(const char* key, double field) { out.set(key, field); }
  void tensor(const char* key, const at::Tensor& field, Need) { flat(key, field); }
  void scalar(const char* key, const at::Tensor& field) { flat(key, field); }
  void flat(const char* key, const at::Tensor& field) {
    if (field.defined()) out.set(key, field);
  }
  template <class Tensors>
  void flats(const char* key, const Tensors& field) {
    List list;
    for (const at::Tensor& tensor : field) list.push_back(tensor);
    out.set(key, std::move(list));
  }
  template <class Tensors>
  void scalars(const char* key, const Tensors& field) {
    flats(key, field);
  }
  void scalars(const char* key, const std::optional<std::vector<at::Tensor>>& field) {
    if (field) flats(key, *field);
  }
};

const GroupInfoHolder* holder_of(const Optimizer& optimizer) { return dynamic_cast<const GroupInfoHolder*>(&optimizer); }

[[noreturn]] void throw_unknown(const Optimizer& optimizer) {
  throw Error(
      fmt::format("the state of an optimizer of class {} cannot be saved or loaded: it derives from none of SGD, Adam, AdamW, "
                  "RMSprop, Adagrad and LBFGS",
                  c10::demangle(typeid(optimizer).name())));
}

/// The options in Python's order: those the group came with first, then the others; then what only Treadle's optimizers know.
Dict group_dict(const torch::optim::OptimizerParamGroup& group, const GroupInfoHolder* holder, std::size_t index,
                const Optimizer& optimizer) {
  Writer writer;
  bool known = with_optimizer_kind(group.options(), [&]<class Kind>(Kind) {
    visit_options(static_cast<const typename Kind::Options&>(group.options()), writer);
  });
  if (!known) throw_unknown(optimizer);
  if (!holder) return std::move(writer.out);

  const GroupInfo& info = holder->group_info(index);
  const OptimizerSwitches& switches = holder->switches();
  writer.out.set("maximize", switches.maximize);
  writer.out.set("foreach", switches.foreach && !switches.fused ? Value(true) : Value());
  writer.out.set("fused", switches.fused ? Value(true) : Value());
  Dict ordered;
  for (const std::string& key : info.explicit_keys) {
    if (const Value* value = writer.out.find(key)) ordered.set(key, *value);
  }
  for (const auto& [key, value] : writer.out) {
    if (!ordered.contains(key)) ordered.set(key, value);
  }
  if (info.initial_lr) ordered.set("initial_lr", *info.initial_lr);
  if (!info.names.empty()) {
    List names;
    for (const std::string& name : info.names) names.push_back(name);
    ordered.set("param_names", std::move(names));
  }
  return ordered;
}

}  // namespace

Dict optimizer_state_dict(const Optimizer& optimizer) {
  Dict state;
  List groups;
  const GroupInfoHolder* holder = holder_of(optimizer);
  std::int64_t index = 0;
  for (std::size_t g = 0; g < optimizer.param_groups().size(); ++g) {
    const auto& group = optimizer.param_groups()[g];
    Dict dict = group_dict(group, holder, g, optimizer);
    List params;
    for (const at::Tensor& param : group.params()) {
      auto found = optimizer.state().find(param.unsafeGetTensorImpl());
      if (found != optimizer.state().end()) {
        Writer writer;
        with_optimizer_kind(group.options(), [&]<class Kind>(Kind) {
          visit_state(static_cast<const typename Kind::State&>(*found->second), writer);
        });
        if (!writer.out.empty()) state.set(index, std::move(writer.out));
      }
      params.push_back(index++);
    }
    dict.set("params", std::move(params));
    groups.push_back(std::move(dict));
  }
  return {{"state", std::move(state)}, {"param_groups", std::move(groups)}};
}

std::vector<double> group_lrs(const Optimizer& optimizer) {
  std::vector<double> lrs;
  for (const auto& group : optimizer.param_groups()) lrs.push_back(group.options().get_lr());
  return lrs;
}

void zero_grad(Optimizer& optimizer) {
  for (auto& group : optimizer.param_groups()) {
    for (const at::Tensor& param : group.params()) {
      if (param.grad().defined()) param.mutable_grad().reset();
    }
  }
}

std::size_t summary_group(const Optimizer& optimizer) {
  const auto& groups = optimizer.param_groups();
  auto larger = [](const auto& a, const auto& b) { return a.params().size() < b.params().size(); };
  auto largest = std::max_element(groups.begin(), groups.end(), larger);
  if (largest == groups.end()) throw Error("an optimizer without parameter groups has no learning rate");
  if (largest->params().size() > 1) return static_cast<std::size_t>(largest - groups.begin());

  std::vector<double> lrs = group_lrs(optimizer);
  std::map<double, std::size_t> counts;
  for (double lr : lrs) ++counts[lr];
  auto rarer = [&](double a, double b) { return counts[a] < counts[b]; };
  return static_cast<std::size_t>(std::max_element(lrs.begin(), lrs.end(), rarer) - lrs.begin());
}

double summary_lr(const Optimizer& optimizer) { return group_lrs(optimizer)[summary_group(optimizer)]; }

namespace {

class OptimizerStateful final : public Stateful {
 public:
  OptimizerStateful(Optimizer& optimizer, ResumeSettings settings) : optimizer_(optimizer), settings_(settings) {}
  Dict state_dict() const override { return optimizer_state_dict(optimizer_); }
  void check_state_dict(const Dict& state) const override { check_optimizer_state_dict(optimizer_, state); }
  void load_state_dict(const Dict& state) override { load_optimizer_state_dict(optimizer_, state, settings_); }

 private:
  Optimizer& optimizer_;
  ResumeSettings settings_;
};

}  // namespace

std::unique_ptr<Stateful> optimizer_stateful(Optimizer& optimizer, ResumeSettings settings) {
  return std::make_unique<OptimizerStateful>(optimizer, settings);
}

}  // namespace treadle
