#pragma once

#include <treadle/base/value.hpp>

#include <string>
#include <vector>

namespace treadle {

/// The names of Caffe2's backbone blobs as Detectron2 calls them; one for each, in order.
std::vector<std::string> convert_basic_caffe2_names(const std::vector<std::string>& names);

/// A state under its new name, and the name it came from.
struct RenamedState {
  Dict state;      // new name → tensor, in the order of the sorted old names
  Dict old_names;  // new name → old name
};

/// The weights of a Caffe2 Detectron model under Detectron2's names, its background class dropped or moved to the end.
/// Throws FormatError when two get the same name, or one has no meaning.
RenamedState convert_caffe2_state(const Dict& weights);

/// The tensors of `checkpoint` under the names of `model` that end in theirs, the longest match first, as Detectron2 finds them;
/// those without a match keep their name. With `caffe2` they are renamed before. Reports in the log. Throws FormatError when one
/// tensor would go to two places.
Dict align_state_dicts(const Dict& model, const Dict& checkpoint, bool caffe2);

}  // namespace treadle
