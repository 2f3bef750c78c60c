#pragma once

#include <treadle/base/value.hpp>

#include <string>
#include <vector>

namespace torch::nn {
class Module;
}

namespace treadle {

/// A parameter or buffer under its full name ("conv.weight"). The tensor aliases the module's.
struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};

/// The parameters of `module` and its children, in LibTorch's order. A shared parameter occurs under each of its names.
std::vector<NamedTensor> named_parameters(const torch::nn::Module& module);
std::vector<NamedTensor> named_buffers(const torch::nn::Module& module);

/// Name → tensor for every parameter and buffer, in the order of Python's `Module.state_dict()`: a module's own parameters, its
/// own buffers, then its children. The tensors alias the module's. Names in `skip` are left out.
Dict module_state_dict(const torch::nn::Module& module, const std::vector<std::string>& skip = {});

/// Throws FormatError that lists every key of `module` that `state` lacks, every key that `module` does not know, and every
/// tensor of another shape. Names in `skip` may be absent or present.
void check_module_state_dict(const torch::nn::Module& module, const Dict& state, const std::vector<std::string>& skip = {});

/// Copies every tensor of `state` into the parameter or buffer of its name, converting dtype and device. Checks first; all or
/// nothing.
void load_module_state_dict(torch::nn::Module& module, const Dict& state, const std::vector<std::string>& skip = {});

/// `module.train(on)` and `module.is_training()` for those who do not want its header.
void set_training(torch::nn::Module& module, bool on);
bool is_training(const torch::nn::Module& module) noexcept;

/// Puts a module into evaluation mode for the life of this object, then back into the mode it was in. The module must outlive it.
class EvaluationMode {
 public:
  explicit EvaluationMode(torch::nn::Module& module);
  ~EvaluationMode();
  EvaluationMode(const EvaluationMode&) = delete;
  EvaluationMode& operator=(const EvaluationMode&) = delete;

 private:
  std::vector<std::pair<torch::nn::Module*, bool>> modes_;
};

}  // namespace treadle
