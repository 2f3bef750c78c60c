#pragma once

#include <treadle/base/module_state.hpp>
#include <treadle/checkpoint/checkpointer.hpp>

#include <string>
#include <utility>
#include <vector>

namespace treadle {

/// Keys grouped by what stands before their last dot, in the order of first appearance: "a.x", "a.y", "b" → ("a", {"x", "y"}),
/// ("b", {}).
std::vector<std::pair<std::string, std::vector<std::string>>> group_keys(const std::vector<std::string>& keys);
/// Each group as one word, as fvcore writes it: `a.{x, y}`, `a.x`, `b`.
std::vector<std::string> describe_groups(const std::vector<std::string>& keys);

std::string missing_keys_message(const std::vector<std::string>& keys);
std::string unexpected_keys_message(const std::vector<std::string>& keys);
std::string incorrect_shape_message(const IncorrectShape& mismatch);
/// Why a state may not fit, behind its error: ` (the checkpoint is of another model: …)` with some of the keys, or nothing when
/// all keys fit.
std::string other_model_note(const IncompatibleKeys& incompatible);
/// `(2, 3)`, `(2,)`, `()`: as Python writes a tuple.
std::string tuple_text(const std::vector<std::int64_t>& numbers);

/// Without those whose tensor has another name in `entries` that is not missing: it was loaded under that one.
std::vector<std::string> drop_reused_keys(const std::vector<std::string>& missing, const Dict& entries);

/// Takes `prefix` off every key, when all have it (an empty key counts as having it); the keys are then in sorted order.
void strip_prefix(Dict& state, const std::string& prefix);

}  // namespace treadle
