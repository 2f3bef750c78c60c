#pragma once

#include <treadle/engine/hook_base.hpp>

#include <functional>

namespace treadle::hooks {

/// The calls of a CallbackHook; each may be empty.
struct Callbacks {
  std::function<void(TrainerBase&)> before_train{};
  std::function<void(TrainerBase&)> after_train{};
  std::function<void(TrainerBase&)> before_step{};
  std::function<void(TrainerBase&)> after_backward{};
  std::function<void(TrainerBase&)> after_step{};
  std::function<void(TrainerBase&)> registered{};
};

/// A hook made of functions. Loop thread only.
class CallbackHook final : public HookBase {
 public:
  explicit CallbackHook(Callbacks callbacks) : callbacks_(std::move(callbacks)) {}
  void before_train(TrainerBase& trainer) override { call(callbacks_.before_train, trainer); }
  void after_train(TrainerBase& trainer) override { call(callbacks_.after_train, trainer); }
  void before_step(TrainerBase& trainer) override { call(callbacks_.before_step, trainer); }
  void after_backward(TrainerBase& trainer) override { call(callbacks_.after_backward, trainer); }
  void after_step(TrainerBase& trainer) override { call(callbacks_.after_step, trainer); }
  void registered(TrainerBase& trainer) override { call(callbacks_.registered, trainer); }

 private:
  static void call(const std::function<void(TrainerBase&)>& callback, TrainerBase& trainer) {
    if (callback) callback(trainer);
  }
  Callbacks callbacks_;
};

}  // namespace treadle::hooks
