#pragma once

#include <treadle/base/module_state.hpp>
#include <treadle/checkpoint/checkpointer.hpp>

#include <string>
#include <vector>

namespace treadle {

/// Throws FormatError when `state` holds something else than tensors under text keys.
void check_tensors(const Dict& state);

/// What of `state`, which `check_tensors` takes, goes into `module`. Names in `skip` are neither missing nor unexpected. Throws
/// FormatError as `check_tensors` does, and for a tensor that cannot be copied into the model's.
ModelLoad match_model(const torch::nn::Module& module, Dict state, const std::vector<std::string>& skip);

/// Copies the tensors into the parameters and buffers of their names, which have their shapes.
void copy_into_module(torch::nn::Module& module, const Dict& state);

/// The keys of a Dict, for messages.
std::vector<std::string> key_names(const Dict& dict);

}  // namespace treadle
