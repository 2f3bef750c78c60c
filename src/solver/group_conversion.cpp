#include "solver/group_conversion.hpp"

#include <fmt/format.h>

namespace treadle {

std::vector<torch::optim::OptimizerParamGroup> bare_torch_groups(const std::vector<ParamGroup>& groups) {
  validate(groups);
  std::vector<torch::optim::OptimizerParamGroup> converted;
  converted.reserve(groups.size());
  for (const ParamGroup& group : groups) converted.emplace_back(group.params);
  return converted;
}

std::vector<GroupInfo> group_infos(const std::vector<ParamGroup>& groups) {
  std::vector<GroupInfo> infos;
  for (const ParamGroup& group : groups) {
    GroupInfo& info = infos.emplace_back(GroupInfo{group.names, {}, std::nullopt});
    for (const auto& [key, value] : group.options) {
      if (key.is_string()) info.explicit_keys.push_back(key.string());
    }
  }
  return infos;
}

void throw_group_error(const std::vector<ParamGroup>& groups, std::size_t index, const std::string& problem) {
  const auto& names = groups[index].names;
  std::string label = names.empty() ? "" : fmt::format(" ({}{})", names[0], names.size() > 1 ? ", …" : "");
  throw ConfigError(fmt::format("parameter group {}{}: {}", index, label, problem));
}

}  // namespace treadle
