#include "solver/state_memory.hpp"

#include <ATen/ops/empty_like.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstddef>
#include <memory>

namespace treadle {

at::Tensor empty_state_like(const at::Tensor& like) {
  at::Tensor state = at::empty_like(like);
#if defined(MADV_HUGEPAGE)
  // Every step reads and writes all of the state, once: with pages of 4 KiB much of that time goes into finding pages, and the
  // processor's prefetchers start anew at each. The kernel may give this memory huge pages, which lie whole in it; where it does
  // not, nothing else changes.
  constexpr std::size_t kHugePage = std::size_t{1} << 21;
  if (state.is_cpu() && state.layout() == at::kStrided) {
    void* first = state.unsafeGetTensorImpl()->mutable_data();
    std::size_t bytes = state.nbytes();
    if (std::align(kHugePage, kHugePage, first, bytes)) ::madvise(first, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
  }
#endif
  return state;
}

}  // namespace treadle
