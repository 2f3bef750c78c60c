#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace treadle {

/// What Treadle's optimizers know about a group beyond LibTorch's options.
struct GroupInfo {
  std::vector<std::string> names;          ///< full parameter names; empty when not known
  std::vector<std::string> explicit_keys;  ///< options the group came with, in their order: Python writes these first
  std::optional<double> initial_lr;        ///< set by an LRScheduler
};

/// Python's switches that LibTorch's options have no field for, as they stand in every group of a state.
struct OptimizerSwitches {
  bool maximize = false;
  bool fused = false;
  bool foreach = true;  ///< Treadle's kernels take all tensors of a group at once
};

/// A base of Treadle's optimizers; functions that get a `torch::optim::Optimizer&` look for it. Loop thread only.
class GroupInfoHolder {
 public:
  virtual ~GroupInfoHolder() = default;
  /// Of the group at that index; empty for one that was added with `add_param_group`, until something is written into it.
  const GroupInfo& group_info(std::size_t group) const noexcept {
    static const GroupInfo none;
    return group < group_info_.size() ? group_info_[group] : none;
  }
  /// To write into; a reference holds until that of a later group is asked for.
  GroupInfo& group_info(std::size_t group) {
    if (group >= group_info_.size()) group_info_.resize(group + 1);
    return group_info_[group];
  }
  const OptimizerSwitches& switches() const noexcept { return switches_; }
  void set_switches(OptimizerSwitches switches) noexcept { switches_ = switches; }

 protected:
  GroupInfoHolder(std::vector<GroupInfo> info, OptimizerSwitches switches) : group_info_(std::move(info)), switches_(switches) {}
  GroupInfoHolder(const GroupInfoHolder&) = default;
  GroupInfoHolder& operator=(const GroupInfoHolder&) = default;

 private:
  std::vector<GroupInfo> group_info_;
  OptimizerSwitches switches_;
};

}  // namespace treadle
