#include "solver/optimizer_layout.hpp"
#include "solver/option_reading.hpp"
#include "solver/state_memory.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/value_view.hpp>
#include <treadle/solver/group_info.hpp>
#include <treadle/solver/optimizer_state.hpp>

#include <ATen/ops/scalar_tensor.h>
#include <c10/util/Type.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace treadle {
namespace {

using torch::optim::Optimizer;

struct Range {
  std::string_view option;
  double least, most;
  const char* text;
};

constexpr double kAny = std::numeric_limits<double>::max();  // any finite number
constexpr double kBelowOne = 0x1.fffffffffffffp-1;           // the largest one

/// What Treadle's optimizers and LibTorch's constructors take. Options of LBFGS but for its rate have no limits there.
constexpr std::array kRanges{Range{"lr", 0, kAny, "finite and at least 0"},
                             Range{"momentum", 0, 1, "in [0, 1]"},
                             Range{"dampening", 0, 1, "in [0, 1]"},
                             Range{"weight_decay", 0, kAny, "finite and at least 0"},
                             Range{"betas", 0, kBelowOne, "in [0, 1)"},
                             Range{"eps", 0, kAny, "finite and at least 0"},
                             Range{"alpha", 0, 1, "in [0, 1]"},
                             Range{"lr_decay", 0, kAny, "finite and at least 0"},
                             Range{"initial_accumulator_value", 0, kAny, "finite and at least 0"}};

void check_range(const ValueView& view, std::string_view option, double number) {
  for (const Range& range : kRanges) {
    if (range.option == option && !(number >= range.least && number <= range.most))
      view.fail(fmt::format("must be {}; it is {}", range.text, number));
  }
}

/// Reads options of a group.
struct OptionReader {
  const ValueView& view;

  template <class T>
  void option(const char* key, T& field) {
    const auto found = view.find(key);
    if (!found) view.fail(fmt::format("there is no option \"{}\"; this is the state of another kind of optimizer", key));
    read_option(*found, field);
    check(*found, key, field);
  }
  void fixed(const char*, const Value&) {}

 private:
  static void check(const ValueView& found, const char* key, double number) { check_range(found, key, number); }
  static void check(const ValueView& found, const char* key, const std::tuple<double, double>& numbers) {
    check_range(found.item(0), key, std::get<0>(numbers));
    check_range(found.item(1), key, std::get<1>(numbers));
  }
  template <class T>
  static void check(const ValueView&, const char*, const T&) {}
};

/// As SgdOptions says; LibTorch's own SGD refuses it too.
void check_together(const ValueView& group, const torch::optim::SGDOptions& options) {
  if (options.nesterov() && (options.momentum() == 0 || options.dampening() != 0)) {
    group["nesterov"].fail(fmt::format("needs a momentum above 0 and a dampening of 0; they are {} and {}", options.momentum(),
                                       options.dampening()));
  }
}
template <class Options>
void check_together(const ValueView&, const Options&) {}

/// Reads the state of one parameter. Tensors of the result alias the saved ones until `adopt`.
struct StateReader {
  const ValueView& view;
  const at::Tensor& param;
  std::int64_t flat_size;

  std::optional<ValueView> find(const char* key) const {
    auto found = view.find(key);
    if (found && found->is(Value::Type::null)) found.reset();
    return found;
  }
  static at::Tensor sized(const ValueView& found, at::IntArrayRef sizes) {
    const at::Tensor& tensor = found.as_tensor();
    if (tensor.sizes() != sizes) {
      found.fail(
          fmt::format("expected a tensor of shape [{}], found [{}]", fmt::join(sizes, ", "), fmt::join(tensor.sizes(), ", ")));
    }
    return tensor;
  }
  static at::Tensor scalar_of(const ValueView& found) {
    return found.is(Value::Type::tensor) ? sized(found, {}) : at::scalar_tensor(found.as_double());
  }

  void tensor(const char* key, at::Tensor& field, Need need) {
    auto found = find(key);
    if (!found && need == Need::required) view.fail(fmt::format("lacks \"{}\"", key));
    if (found) field = sized(*found, param.sizes());
  }
  void counter(const char* key, std::int64_t& field) {
    double steps = read_number(view[key]);
    if (!(steps >= 0 && steps < 9e15)) view[key].fail(fmt::format("expected a number of steps, found {}", steps));
    field = static_cast<std::int64_t>(steps);
  }
  void integer(const char* key, std::int64_t& field) {
    if (auto found = find(key)) field = found->as_int();
  }
  void number(const char* key, double& field) {
    if (auto found = find(key)) field = read_number(*found);
  }
  void flat(const char* key, at::Tensor& field) {
    if (auto found = find(key)) field = sized(*found, {flat_size});
  }
  void scalar(const char* key, at::Tensor& field) {
    if (auto found = find(key)) field = scalar_of(*found);
  }
  void flats(const char* key, std::deque<at::Tensor>& field) {
    auto found = find(key);
    for (std::size_t i = 0; found && i < found->size(); ++i) field.push_back(sized(found->item(i), {flat_size}));
  }
  void scalars(const char* key, std::deque<at::Tensor>& field) {
    auto found = find(key);
    for (std::size_t i = 0; found && i < found->size(); ++i) field.push_back(scalar_of(found->item(i)));
  }
  void scalars(const char* key, std::optional<std::vector<at::Tensor>>& field) {
    auto found = find(key);
    if (found) field.emplace();
    for (std::size_t i = 0; found && i < found->size(); ++i) {
      ValueView item = found->item(i);
      field->push_back(item.is(Value::Type::null) ? at::Tensor() : scalar_of(item));
    }
  }
};

/// Makes tensors of a newly read state the parameter's own: the tensor already in use with the saved numbers copied into it, or a
/// new one in the layout of the parameter.
class Adopter {
 public:
  Adopter(const at::Tensor& param, std::vector<at::Tensor> in_use) : param_(param), in_use_(std::move(in_use)) {}

  void tensor(const char*, at::Tensor& field, Need) {
    const at::Tensor mine = next_ < in_use_.size() ? in_use_[next_] : at::Tensor();
    ++next_;
    if (!field.defined()) return;
    at::Tensor target = mine.defined() && mine.sizes() == param_.sizes() ? mine : empty_state_like(param_.detach());
    target.copy_(field);
    field = target;
  }
  void flat(const char*, at::Tensor& field) { own(field); }
  void scalar(const char*, at::Tensor& field) { own(field); }
  void flats(const char*, std::deque<at::Tensor>& field) {
    for (at::Tensor& tensor : field) own(tensor);
  }
  void scalars(const char*, std::deque<at::Tensor>& field) { flats("", field); }
  void scalars(const char*, std::optional<std::vector<at::Tensor>>& field) {
    if (!field) return;
    for (at::Tensor& tensor : *field) own(tensor);
  }
  void counter(const char*, std::int64_t) {}
  void integer(const char*, std::int64_t) {}
  void number(const char*, double) {}

 private:
  void own(at::Tensor& field) {
    if (field.defined()) field = field.to(param_.options().requires_grad(false), /*non_blocking=*/false, /*copy=*/true);
  }

  const at::Tensor& param_;
  std::vector<at::Tensor> in_use_;
  std::size_t next_ = 0;
};

/// Lists the tensors of a state in the order in which Adopter meets them.
struct Collector {
  std::vector<at::Tensor> tensors{};
  void tensor(const char*, const at::Tensor& field, Need) { tensors.push_back(field); }
  template <class T>
  void flat(const char*, const T&) {}
  template <class T>
  void scalar(const char*, const T&) {}
  template <class T>
  void flats(const char*, const T&) {}
  template <class T>
  void scalars(const char*, const T&) {}
  void counter(const char*, std::int64_t) {}
  void integer(const char*, std::int64_t) {}
  void number(const char*, double) {}
};

struct ParsedParam {
  at::Tensor param;
  std::unique_ptr<torch::optim::OptimizerParamState> state;  // null: none saved
};

struct ParsedGroup {
  std::unique_ptr<torch::optim::OptimizerOptions> options;
  std::vector<ParsedParam> params;
  bool maximize = false;
  bool fused = false;
};

std::string param_label(const GroupInfoHolder* holder, std::size_t group, std::size_t index) {
  std::string label = fmt::format("parameter {} of group {}", index, group);
  if (holder && index < holder->group_info(group).names.size()) {
    label += fmt::format(" (\"{}\")", holder->group_info(group).names[index]);
  }
  return label;
}

bool read_switch(const ValueView& group, const char* key) {
  auto found = group.find(key);
  return found && !found->is(Value::Type::null) && found->as_bool();
}

std::int64_t count_numbers(const torch::optim::OptimizerParamGroup& group) {
  std::int64_t count = 0;
  for (const at::Tensor& param : group.params()) count += param.numel();
  return count;
}

ParsedGroup parse_group(const torch::optim::OptimizerParamGroup& group, std::size_t g, const ValueView& saved,
                        const ValueView& states, const GroupInfoHolder* holder) {
  ValueView ids = saved["params"];
  if (ids.size() != group.params().size()) {
    ids.fail(
        fmt::format("group {} has {} parameters in the optimizer and {} in the state", g, group.params().size(), ids.size()));
  }
  ParsedGroup parsed;
  parsed.options = group.options().clone();
  parsed.maximize = read_switch(saved, "maximize");
  parsed.fused = read_switch(saved, "fused");
  with_optimizer_kind(group.options(), [&]<class Kind>(Kind) {
    OptionReader reader{saved};
    auto& options = static_cast<typename Kind::Options&>(*parsed.options);
    visit_options(options, reader);
    check_together(saved, options);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      ParsedParam& param = parsed.params.emplace_back(ParsedParam{group.params()[i], nullptr});
      auto entry = states.find(ids.item(i).as_int());
      if (!entry || entry->size() == 0) continue;
      auto state = std::make_unique<typename Kind::State>();
      StateReader state_reader{*entry, param.param, count_numbers(group)};
      try {
        visit_state(*state, state_reader);
      } catch (const FormatError& error) {
        throw FormatError(fmt::format("{}: {}", param_label(holder, g, i), error.what()));
      }
      // LibTorch's SGD takes an entry without a buffer for one with.
      if constexpr (std::is_same_v<typename Kind::State, torch::optim::SGDParamState>) {
        if (!state->momentum_buffer().defined()) continue;
      }
      param.state = std::move(state);
    }
  });
  return parsed;
}

std::vector<ParsedGroup> parse(const Optimizer& optimizer, const Dict& state) {
  ValueView view(state, "optimizer");
  ValueView saved = view["param_groups"];
  const auto& groups = optimizer.param_groups();
  for (const auto& group : groups) {
    if (!with_optimizer_kind(group.options(), [](auto) {})) {
      throw Error(fmt::format(
          "the state of an optimizer of class {} cannot be loaded: it derives from none of SGD, Adam, AdamW, RMSprop, "
          "Adagrad and LBFGS",
          c10::demangle(typeid(optimizer).name())));
    }
  }
  if (saved.size() != groups.size()) {
    saved.fail(fmt::format("the optimizer has {} parameter groups, the state {}", groups.size(), saved.size()));
  }
  const auto* holder = dynamic_cast<const GroupInfoHolder*>(&optimizer);
  std::vector<ParsedGroup> parsed;
  for (std::size_t g = 0; g < groups.size(); ++g)
    parsed.push_back(parse_group(groups[g], g, saved.item(g), view["state"], holder));
  return parsed;
}

/// A group whose weight decay was another in the state.
struct OtherDecay {
  std::size_t group;
  double current, saved;
};

/// Weight decay is no virtual member of LibTorch's options, and LBFGS has none.
template <class Options>
void keep_weight_decay(const Options& current, Options& loaded, std::size_t g, std::vector<OtherDecay>& others) {
  if constexpr (requires { current.weight_decay(); }) {
    if (current.weight_decay() == loaded.weight_decay()) return;
    others.push_back({g, current.weight_decay(), loaded.weight_decay()});
    loaded.weight_decay(current.weight_decay());
  }
}

void warn_of(const std::vector<OtherDecay>& others) {
  if (others.empty()) return;
  const OtherDecay& first = others.front();
  const std::size_t more = others.size() - 1;
  log_warning(
      fmt::format("the weight decay of parameter group {} differs from the one in the state that is resumed: using {} instead of "
                  "the saved {}{}",
                  first.group, first.current, first.saved,
                  more == 0   ? ""
                  : more == 1 ? "; that of 1 other group differs too"
                              : fmt::format("; those of {} other groups differ too", more)));
}

}  // namespace

void check_optimizer_state_dict(const Optimizer& optimizer, const Dict& state) { parse(optimizer, state); }

void load_optimizer_state_dict(Optimizer& optimizer, const Dict& state, ResumeSettings settings) {
  std::vector<ParsedGroup> parsed = parse(optimizer, state);
  std::vector<OtherDecay> others;
  for (std::size_t g = 0; g < parsed.size(); ++g) {
    auto& group = optimizer.param_groups()[g];
    with_optimizer_kind(group.options(), [&]<class Kind>(Kind) {
      auto& current = static_cast<typename Kind::Options&>(group.options());
      auto& loaded = static_cast<typename Kind::Options&>(*parsed[g].options);
      if (settings == ResumeSettings::current) keep_weight_decay(current, loaded, g, others);
      current = loaded;
      for (ParsedParam& param : parsed[g].params) {
        void* key = param.param.unsafeGetTensorImpl();
        auto found = optimizer.state().find(key);
        if (!param.state) {
          if (found != optimizer.state().end()) optimizer.state().erase(found);
          continue;
        }
        Collector in_use;
        if (found != optimizer.state().end()) visit_state(static_cast<typename Kind::State&>(*found->second), in_use);
        Adopter adopter(param.param, std::move(in_use.tensors));
        visit_state(static_cast<typename Kind::State&>(*param.state), adopter);
        optimizer.state()[key] = std::move(param.state);
      }
    });
  }
  warn_of(others);
  if (auto* holder = dynamic_cast<GroupInfoHolder*>(&optimizer); holder && !parsed.empty()) {
    OptimizerSwitches switches = holder->switches();
    switches.maximize = parsed[0].maximize;
    switches.fused = parsed[0].fused;
    holder->set_switches(switches);
  }
}

}  // namespace treadle
