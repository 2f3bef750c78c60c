#include <treadle/base/errors.hpp>
#include <treadle/models/make_model.hpp>

namespace treadle {
namespace {

class AdaptedModule final : public Model {
 public:
  AdaptedModule(std::shared_ptr<torch::nn::Module> module, std::function<LossDict(const Batch&)> losses,
                std::function<List(const Batch&)> predict)
      : Model(module->name()), module_(std::move(module)), losses_(std::move(losses)), predict_(std::move(predict)) {
    // The module itself is not registered as a child, which would put a prefix before every name: its entries are, one by one.
    for (const auto& parameter : module_->named_parameters(/*recurse=*/false)) {
      register_parameter(parameter.key(), parameter.value(), parameter.value().requires_grad());
    }
    for (const auto& buffer : module_->named_buffers(/*recurse=*/false)) register_buffer(buffer.key(), buffer.value());
    for (const auto& child : module_->named_children()) register_module(child.key(), child.value());
    take_mode();
  }

  void train(bool on) override {
    Model::train(on);
    module_->train(on);
  }

  LossDict losses(const Batch& batch) override { return losses_(batch); }

  List predict(const Batch& batch) override {
    if (!predict_)
      throw Error("this model was made without a function for predictions; give make_model one as its third argument");
    return predict_(batch);
  }

 private:
  // `train` sets the children too, whose modes are the module's own business here.
  void take_mode() {
    if (module_->is_training()) return;
    std::vector<std::pair<std::shared_ptr<torch::nn::Module>, bool>> modes;
    for (const auto& child : module_->modules(/*include_self=*/false)) modes.emplace_back(child, child->is_training());
    Model::train(false);
    for (auto& [child, on] : modes) child->train(on);
  }

  std::shared_ptr<torch::nn::Module> module_;
  std::function<LossDict(const Batch&)> losses_;
  std::function<List(const Batch&)> predict_;
};

}  // namespace

std::shared_ptr<Model> adapt_module(std::shared_ptr<torch::nn::Module> module, std::function<LossDict(const Batch&)> losses,
                                    std::function<List(const Batch&)> predict) {
  if (!module) throw Error("make_model needs a module, found a null pointer");
  if (!losses) throw Error("make_model needs a function for the losses");
  return std::make_shared<AdaptedModule>(std::move(module), std::move(losses), std::move(predict));
}

}  // namespace treadle
