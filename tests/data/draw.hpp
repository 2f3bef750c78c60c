#pragma once

#include <treadle/base/value.hpp>
#include <treadle/data/batch_source.hpp>

namespace treadle {

/// The fields and ids of the next `count` batches; a null stands for the end of a pass.
inline List draw(BatchSource& source, int count) {
  List all;
  for (int i = 0; i < count; ++i) {
    auto batch = source.next();
    if (!batch) {
      all.push_back(nullptr);
      continue;
    }
    List ids;
    for (const std::int64_t id : batch->ids()) ids.push_back(id);
    all.push_back(Dict{{"ids", ids}, {"fields", batch->fields()}});
  }
  return all;
}

}  // namespace treadle
