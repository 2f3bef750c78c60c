#pragma once

// From Treadle's parameter groups to LibTorch's.

#include "solver/optimizer_layout.hpp"
#include "solver/option_reading.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/base/text.hpp>
#include <treadle/solver/group_info.hpp>
#include <treadle/solver/param_groups.hpp>

#include <string>
#include <vector>

namespace treadle {

/// LibTorch's groups over the same parameters, without options of their own: LibTorch would mistake an explicit option that
/// equals its built-in default for one that was not given. `set_group_options` follows.
std::vector<torch::optim::OptimizerParamGroup> bare_torch_groups(const std::vector<ParamGroup>& groups);

std::vector<GroupInfo> group_infos(const std::vector<ParamGroup>& groups);

/// `problem` with the place it was found in: "parameter group 2 (conv.weight, …): …".
[[noreturn]] void throw_group_error(const std::vector<ParamGroup>& groups, std::size_t index, const std::string& problem);

/// Takes options of a group over where it has them, and remembers every key there is.
struct GroupOptionSetter {
  const ValueView view;
  std::vector<std::string> known{};

  template <class T>
  void option(const char* key, T& field) {
    known.emplace_back(key);
    if (auto found = view.find(key)) read_option(*found, field);
  }
  void fixed(const char* key, const Value&) { known.emplace_back(key); }
};

/// `defaults` with the options of each group put over them, in the optimizer's groups. Throws ConfigError for an unknown key or a
/// value of the wrong type.
template <class Options>
void set_group_options(torch::optim::Optimizer& optimizer, const std::vector<ParamGroup>& groups, const Options& defaults) {
  for (std::size_t g = 0; g < groups.size(); ++g) {
    Options options = defaults;
    GroupOptionSetter setter{ValueView(groups[g].options)};
    try {
      visit_options(options, setter);
    } catch (const FormatError& error) {
      throw_group_error(groups, g, error.what());
    }
    for (const auto& [key, value] : groups[g].options) {
      bool known = key.is_string() && (key.string() == "initial_lr" ||
                                       std::find(setter.known.begin(), setter.known.end(), key.string()) != setter.known.end());
      if (!known) {
        throw_group_error(
            groups, g, "the optimizer has no option \"" + key.to_string() + "\"" + did_you_mean(key.to_string(), setter.known));
      }
    }
    static_cast<Options&>(optimizer.param_groups()[g].options()) = options;
  }
}

}  // namespace treadle
