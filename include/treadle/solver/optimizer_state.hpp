#pragma once

#include <treadle/base/stateful.hpp>
#include <treadle/solver/lr_scheduler.hpp>

#include <cstddef>
#include <memory>
#include <vector>

namespace torch::optim {
class Optimizer;
}

namespace treadle {

/// The state of an optimizer in the layout of Python's `torch.optim.Optimizer.state_dict()`: `state`, a Dict from the index of a
/// parameter to its tensors and counters, and `param_groups`, a List of Dicts with Python's keys, where `params` lists indices.
/// Read by `torch.optim`'s `load_state_dict`, and by Detectron2 inside a checkpoint. Loop thread only.
///
/// Serves SGD, Adam, AdamW, RMSprop, Adagrad and LBFGS of LibTorch, those of Treadle, and what derives from them; throws Error
/// that names the class for any other. Tensors alias live memory. Groups of Treadle's optimizers also carry `param_names` and,
/// once an LRScheduler has been attached, `initial_lr`.
Dict optimizer_state_dict(const torch::optim::Optimizer& optimizer);

/// Throws FormatError when `load_optimizer_state_dict` would fail: other numbers of groups or parameters, a missing or mistyped
/// option, one outside of what the optimizer's constructor takes, a state tensor of another shape. The message names the group,
/// and the parameter or the option with its legal range.
void check_optimizer_state_dict(const torch::optim::Optimizer& optimizer, const Dict& state);

/// Takes over the state of every parameter and every option of every group, the learning rate included; keys that LibTorch has no
/// counterpart for (`foreach`, `capturable`) are passed over. Copies into existing tensors, converting dtype and device; state
/// that the optimizer does not have yet is made in the layout of its parameter. Checks first: nothing is changed when it throws.
/// With `ResumeSettings::current` the weight decay of each group stays as it is, and a difference is warned about.
void load_optimizer_state_dict(torch::optim::Optimizer& optimizer, const Dict& state,
                               ResumeSettings settings = ResumeSettings::saved);

/// Those three as a Stateful, for a tree of states. The optimizer is borrowed.
std::unique_ptr<Stateful> optimizer_stateful(torch::optim::Optimizer& optimizer, ResumeSettings settings = ResumeSettings::saved);

/// Takes their gradients from all parameters, which then have none, as Python's `zero_grad` does. LibTorch's method of that name
/// first detaches each from its graph: an operator call for each parameter, and an error where gradients are views.
void zero_grad(torch::optim::Optimizer& optimizer);

/// The learning rates now in force, one per group.
std::vector<double> group_lrs(const torch::optim::Optimizer& optimizer);

/// The index of the group whose rate stands for all in logs, by Detectron2's rule: the first of those with most parameters; where
/// every group has one, the first with the most common rate. Choose it when training starts and keep it.
std::size_t summary_group(const torch::optim::Optimizer& optimizer);

/// The learning rate of that group.
double summary_lr(const torch::optim::Optimizer& optimizer);

}  // namespace treadle
