#pragma once

#include <functional>
#include <memory>

namespace treadle::hooks {

/// Enters a state that lasts as long as the object it returns lives, such as averaged weights standing in the model; a null
/// pointer means that there is nothing to enter.
using Scope = std::function<std::shared_ptr<void>()>;

}  // namespace treadle::hooks
