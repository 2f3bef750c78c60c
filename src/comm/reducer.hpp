#pragma once

#include <comm/exchange.hpp>
#include <treadle/comm/gradient_reducer.hpp>

#include <memory>
#include <string>
#include <vector>

namespace treadle {

/// A reducer over connections of its own, called `name` in the store: gradients do not stand in the way of other messages.
std::unique_ptr<GradientReducer> make_reducer(std::shared_ptr<Exchange> exchange, const std::vector<NamedTensor>& parameters,
                                              const GradientOptions& options, const std::string& name);

}  // namespace treadle
