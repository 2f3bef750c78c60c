#include "checkpoint/key_report.hpp"
#include "checkpoint/name_matching.hpp"
#include "checkpoint/name_parts.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>

#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <span>
#include <string_view>

namespace treadle {

namespace {

enum class Where { anywhere, start, end };

struct Rule {
  std::string_view from;
  std::string_view to;
  Where where = Where::anywhere;
};

// The order matters: later rules see what earlier ones made.
constexpr Rule kBackbone[] = {
    {"_", "."},
    {".b", ".bias", Where::end},
    {".w", ".weight", Where::end},
    {"bn.s", "norm.weight", Where::end},
    {"bn.bias", "norm.bias", Where::end},
    {"bn.rm", "norm.running_mean"},
    {"bn.running.mean", "norm.running_mean", Where::end},
    {"bn.riv", "norm.running_var", Where::end},
    {"bn.running.var", "norm.running_var", Where::end},
    {"bn.gamma", "norm.weight", Where::end},
    {"bn.beta", "norm.bias", Where::end},
    {"gn.s", "norm.weight", Where::end},
    {"gn.bias", "norm.bias", Where::end},
    {"res.conv1.norm.", "conv1.norm.", Where::start},
    {"conv1.", "stem.conv1.", Where::start},
    {".branch1.", ".shortcut."},
    {".branch2a.", ".conv1."},
    {".branch2b.", ".conv2."},
    {".branch2c.", ".conv3."},
    {"AnnIndex.lowres", "ann_index_lowres"},
    {"Index.UV.lowres", "index_uv_lowres"},
    {"U.lowres", "u_lowres"},
    {"V.lowres", "v_lowres"},
};

constexpr Rule kHeadsBeforeFpn[] = {
    {"conv.rpn.fpn2", "proposal_generator.rpn_head.conv"},
    {"conv.rpn", "proposal_generator.rpn_head.conv"},
    {"rpn.bbox.pred.fpn2", "proposal_generator.rpn_head.anchor_deltas"},
    {"rpn.cls.logits.fpn2", "proposal_generator.rpn_head.objectness_logits"},
    {"rpn.bbox.pred", "proposal_generator.rpn_head.anchor_deltas"},
    {"rpn.cls.logits", "proposal_generator.rpn_head.objectness_logits"},
    {"bbox.pred", "bbox_pred", Where::start},
    {"cls.score", "cls_score", Where::start},
    {"fc6.", "box_head.fc1.", Where::start},
    {"fc7.", "box_head.fc2.", Where::start},
    {"head.conv", "box_head.conv", Where::start},
};

constexpr Rule kHeadsAfterFpn[] = {
    {".[mask].fcn", "mask_head.mask_fcn"},
    {".mask.fcn", "mask_head.mask_fcn", Where::start},
    {"mask.fcn.logits", "mask_head.predictor"},
    {"conv5.mask", "mask_head.deconv"},
    {"conv.fcn", "roi_heads.keypoint_head.conv_fcn"},
    {"kps.score.lowres", "roi_heads.keypoint_head.score_lowres"},
    {"kps.score.", "roi_heads.keypoint_head.score."},
};

void rewrite(const Rule& rule, std::string& name) {
  switch (rule.where) {
    case Where::start:
      if (name.starts_with(rule.from)) name.replace(0, rule.from.size(), rule.to);
      return;
    case Where::end:
      if (name.ends_with(rule.from)) name.replace(name.size() - rule.from.size(), rule.from.size(), rule.to);
      return;
    case Where::anywhere:
      for (std::size_t at = name.find(rule.from); at != std::string::npos; at = name.find(rule.from, at + rule.to.size())) {
        name.replace(at, rule.from.size(), rule.to);
      }
  }
}

void rewrite(std::span<const Rule> rules, std::string& name) {
  for (const Rule& rule : rules) rewrite(rule, name);
}

// In the pattern of the original, the dots of "body.conv.fcn" stand for any character.
void rename_body(std::string& name) {
  constexpr std::string_view kBody = "body.conv.fcn";
  if (name.size() < kBody.size()) return;
  for (std::size_t i = 0; i < kBody.size(); ++i) {
    if (kBody[i] != '.' && name[i] != kBody[i]) return;
  }
  name.replace(0, kBody.size(), "body_conv_fcn");
}

// "fpn.inner.res2.2.sum.lateral.weight" → "fpn_lateral2.weight"; "fpn.res2.2.sum.weight" → "fpn_output2.weight"
void rename_fpn(std::string& name) {
  bool lateral = name.starts_with("fpn.inner.");
  if (!lateral && !name.starts_with("fpn.res")) return;
  auto parts = name_parts(name);
  const std::string& stage_part = parts[lateral ? 2 : 1];
  std::string_view digits = std::string_view(stage_part).substr(std::min<std::size_t>(3, stage_part.size()));
  int stage = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), stage);
  if (error != std::errc() || end != digits.data() + digits.size())
    throw FormatError(fmt::format("the blob name \"{}\" has no stage", name));
  bool norm = std::find(parts.begin(), parts.end(), "norm") != parts.end();
  name = fmt::format("fpn_{}{}{}.{}", lateral ? "lateral" : "output", stage, norm ? ".norm" : "", parts.back());
}

at::Tensor without_background(const std::string& name, const at::Tensor& weight) {
  if (name.starts_with("bbox_pred.") || name.starts_with("mask_head.predictor.")) {
    std::int64_t first = std::min<std::int64_t>(name.starts_with("bbox_pred.") ? 4 : 1, weight.size(0));
    at::Tensor rest = weight.slice(0, first);
    log_info(fmt::format("Remove prediction weight for background class in {}. The shape changes from {} to {}.", name,
                         tuple_text(weight.sizes().vec()), tuple_text(rest.sizes().vec())));
    return rest;
  }
  if (name.starts_with("cls_score.")) {
    log_info(fmt::format("Move classification weights for background class in {} from index 0 to index {}.", name,
                         weight.size(0) - 1));
    return at::cat({weight.slice(0, 1), weight.slice(0, 0, 1)});
  }
  return weight;
}

}  // namespace

std::vector<std::string> convert_basic_caffe2_names(const std::vector<std::string>& names) {
  std::vector<std::string> renamed = names;
  for (std::string& name : renamed) {
    if (name == "pred_b") name = "linear_b";
    if (name == "pred_w") name = "linear_w";
    std::span<const Rule> rules(kBackbone);
    constexpr std::size_t kBeforeBody = 19;
    rewrite(rules.first(kBeforeBody), name);
    rename_body(name);
    rewrite(rules.subspan(kBeforeBody), name);
  }
  return renamed;
}

RenamedState convert_caffe2_state(const Dict& weights) {
  log_info("Renaming Caffe2 weights ......");
  std::vector<std::string> old_names;
  for (const auto& entry : weights) old_names.push_back(entry.key.string());
  std::sort(old_names.begin(), old_names.end());
  std::vector<std::string> names = convert_basic_caffe2_names(old_names);
  RenamedState renamed;
  for (std::size_t i = 0; i < names.size(); ++i) {
    rewrite(kHeadsBeforeFpn, names[i]);
    rename_fpn(names[i]);
    rewrite(kHeadsAfterFpn, names[i]);
    if (renamed.old_names.contains(names[i])) {
      throw FormatError(fmt::format("the blobs \"{}\" and \"{}\" would both be named \"{}\"",
                                    renamed.old_names.at(names[i]).as_string(), old_names[i], names[i]));
    }
    renamed.old_names.set(names[i], old_names[i]);
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    const at::Tensor& weight = weights.at(old_names[i]).as_tensor();
    bool head =
        names[i].starts_with("bbox_pred.") || names[i].starts_with("mask_head.predictor.") || names[i].starts_with("cls_score.");
    if (head && weight.dim() == 0) throw FormatError(fmt::format("the blob \"{}\" has no classes", old_names[i]));
    renamed.state.set(names[i], without_background(names[i], weight));
  }
  return renamed;
}

}  // namespace treadle
