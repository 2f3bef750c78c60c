#pragma once

#include <treadle/base/value.hpp>

#include <cstdint>
#include <string>

namespace treadle {

/// A residual network as Detectron2 builds it (He et al., "Deep residual learning", 2015).
struct ResNetOptions {
  std::int64_t depth = 50;     ///< 18, 34 (blocks of two 3x3 convolutions), 50, 101 or 152 (bottlenecks)
  std::string norm = "BN";     ///< a registered norm; "" for none
  std::int64_t freeze_at = 0;  ///< 0 … 5: the stem, then so many stages less one, keep their weights; BN, SyncBN become FrozenBN
  std::int64_t stem_out_channels = 64;   ///< at least 1
  std::int64_t res2_out_channels = 256;  ///< of the first stage, doubled by each further; 64 for depths 18 and 34
  std::int64_t num_groups = 1;           ///< of the 3x3 convolutions of bottlenecks; above 1: ResNeXt
  std::int64_t width_per_group = 64;     ///< channels of a group in the first stage
  bool stride_in_1x1 = false;            ///< bottlenecks halve in the 1x1 convolution (MSRA's weights) or the 3x3 (torchvision's)
  std::int64_t res5_dilation = 1;        ///< 1, or 2 to keep the resolution of res4 in res5
};
/// Throws ConfigError that names the field and its range.
void validate(const ResNetOptions& options);

/// The state of one of torchvision's residual networks under Detectron2's names behind `prefix` ("backbone."):
/// `layer1.0.bn1.weight` becomes `res2.0.conv1.norm.weight`, `fc` becomes `linear`. Any other state comes back as it is. The
/// tensors are shared.
Dict rename_torchvision_resnet(Dict state, const std::string& prefix = {});

}  // namespace treadle
