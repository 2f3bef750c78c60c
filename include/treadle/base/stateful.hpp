#pragma once

#include <treadle/base/value.hpp>

#include <functional>
#include <string>
#include <vector>

namespace treadle {

/// Something whose state goes into a checkpoint and comes back out of it. Loop thread only, unless a class says otherwise.
///
/// The contract, which lets a whole tree be loaded or none of it:
/// - `state_dict` may return tensors that alias live memory: `deep_clone` what must survive the next step. In a run of many
///   processes it may be a collective, called by all ranks together.
/// - `check_state_dict` throws FormatError when `load_state_dict` would fail on `state`, and changes nothing.
/// - `load_state_dict`, after a check that passed, does not fail. It copies into existing tensors and never rebinds them, and
///   keeps no reference into `state`.
class Stateful {
 public:
  virtual ~Stateful() = default;
  virtual Dict state_dict() const = 0;
  virtual void check_state_dict(const Dict& state) const = 0;
  virtual void load_state_dict(const Dict& state) = 0;

 protected:
  Stateful() = default;
  Stateful(const Stateful&) = default;
  Stateful& operator=(const Stateful&) = default;
};

/// Stateful made of three functions, for what cannot derive from it (a LibTorch optimizer, a user's own struct).
class StatefulFunctions final : public Stateful {
 public:
  struct Functions {
    std::function<Dict()> state_dict{};
    std::function<void(const Dict&)> check_state_dict{};  ///< may be empty: anything passes
    std::function<void(const Dict&)> load_state_dict{};
  };
  /// Throws Error when `state_dict` or `load_state_dict` is empty.
  explicit StatefulFunctions(Functions functions);
  Dict state_dict() const override;
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;

 private:
  Functions functions_;
};

/// A Stateful under the name it has in a checkpoint; borrowed.
struct NamedStateful {
  std::string name;
  Stateful* object;
};

/// The states of `parts` by name, in their order.
Dict collect_state(const std::vector<NamedStateful>& parts);

/// Loads the state of each part found in `state`: first every part is checked, then every part is loaded, so that an error leaves
/// all of them as they were. Returns the names of the parts `state` has nothing for.
/// Throws FormatError that begins with the name of the part that refused.
std::vector<std::string> load_state(const std::vector<NamedStateful>& parts, const Dict& state);

}  // namespace treadle
