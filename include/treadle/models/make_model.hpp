#pragma once

#include <treadle/models/model.hpp>

#include <functional>
#include <memory>
#include <utility>

namespace treadle {

/// A Model that owns no parameters of its own: those of `module` stand in it under the names they have in `module`, and stay the
/// same tensors. Mode (train, eval) and device of the two go together. The module must be complete: what it registers later is
/// not seen. `predict` may be empty; calling `Model::predict` then throws Error. Throws Error when `module` is null or `losses`
/// is empty.
std::shared_ptr<Model> adapt_module(std::shared_ptr<torch::nn::Module> module, std::function<LossDict(const Batch&)> losses,
                                    std::function<List(const Batch&)> predict = nullptr);

/// The shared module behind a `std::shared_ptr` or a holder.
template <class T>
std::shared_ptr<torch::nn::Module> as_shared_module(const std::shared_ptr<T>& module) {
  return module;
}
template <class Holder>
  requires requires(const Holder& holder) { holder.ptr(); }
std::shared_ptr<torch::nn::Module> as_shared_module(const Holder& holder) {
  return holder.ptr();
}

/// Makes a Model of any LibTorch module, held as `std::shared_ptr<T>` or as a holder such as `torch::nn::Sequential`:
///
///     auto model = make_model(
///         net, [](auto& net, const Batch& batch) -> LossDict {
///           return {{"loss", torch::mse_loss(net->forward(batch.tensor("x")), batch.tensor("y"))}};
///         });
template <class Pointer, class Losses>
std::shared_ptr<Model> make_model(Pointer module, Losses losses) {
  return adapt_module(as_shared_module(module),
                      [module, losses](const Batch& batch) mutable -> LossDict { return losses(module, batch); });
}

/// The same with predictions: `predict(module, batch)` gives one Dict per sample.
template <class Pointer, class Losses, class Predict>
std::shared_ptr<Model> make_model(Pointer module, Losses losses, Predict predict) {
  return adapt_module(
      as_shared_module(module), [module, losses](const Batch& batch) mutable -> LossDict { return losses(module, batch); },
      [module, predict](const Batch& batch) mutable -> List { return predict(module, batch); });
}

}  // namespace treadle
