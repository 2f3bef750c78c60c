#include <treadle/config/versions.hpp>

#include "config/tree.hpp"

#include <treadle/base/errors.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ranges>
#include <span>

namespace treadle {
namespace {

struct Rename {
  std::string_view old_key;
  std::string_view new_key;
};

// The renamings of Detectron2's config/compat.py; index i leads from version i to i + 1.
constexpr std::array<Rename, 1> renames_to_1{{{"MODEL.RPN_HEAD.NAME", "MODEL.RPN.HEAD_NAME"}}};
constexpr std::array<Rename, 18> renames_to_2{{
    {"MODEL.WEIGHT", "MODEL.WEIGHTS"},
    {"MODEL.PANOPTIC_FPN.SEMANTIC_LOSS_SCALE", "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT"},
    {"MODEL.PANOPTIC_FPN.RPN_LOSS_SCALE", "MODEL.RPN.LOSS_WEIGHT"},
    {"MODEL.PANOPTIC_FPN.INSTANCE_LOSS_SCALE", "MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT"},
    {"MODEL.PANOPTIC_FPN.COMBINE_ON", "MODEL.PANOPTIC_FPN.COMBINE.ENABLED"},
    {"MODEL.PANOPTIC_FPN.COMBINE_OVERLAP_THRESHOLD", "MODEL.PANOPTIC_FPN.COMBINE.OVERLAP_THRESH"},
    {"MODEL.PANOPTIC_FPN.COMBINE_STUFF_AREA_LIMIT", "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT"},
    {"MODEL.PANOPTIC_FPN.COMBINE_INSTANCES_CONFIDENCE_THRESHOLD", "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH"},
    {"MODEL.ROI_HEADS.SCORE_THRESH", "MODEL.ROI_HEADS.SCORE_THRESH_TEST"},
    {"MODEL.ROI_HEADS.NMS", "MODEL.ROI_HEADS.NMS_THRESH_TEST"},
    {"MODEL.RETINANET.INFERENCE_SCORE_THRESHOLD", "MODEL.RETINANET.SCORE_THRESH_TEST"},
    {"MODEL.RETINANET.INFERENCE_TOPK_CANDIDATES", "MODEL.RETINANET.TOPK_CANDIDATES_TEST"},
    {"MODEL.RETINANET.INFERENCE_NMS_THRESHOLD", "MODEL.RETINANET.NMS_THRESH_TEST"},
    {"TEST.DETECTIONS_PER_IMG", "TEST.DETECTIONS_PER_IMAGE"},
    {"TEST.AUG_ON", "TEST.AUG.ENABLED"},
    {"TEST.AUG_MIN_SIZES", "TEST.AUG.MIN_SIZES"},
    {"TEST.AUG_MAX_SIZE", "TEST.AUG.MAX_SIZE"},
    {"TEST.AUG_FLIP", "TEST.AUG.FLIP"},
}};

// From version 2 on one anchor generator serves both detectors; before, each had its own keys.
constexpr std::string_view anchor_ratios = "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS";
constexpr std::string_view anchor_sizes = "MODEL.ANCHOR_GENERATOR.SIZES";
constexpr std::string_view old_anchor_ratios[] = {"MODEL.RPN.ANCHOR_ASPECT_RATIOS", "MODEL.RETINANET.ANCHOR_ASPECT_RATIOS"};
constexpr std::string_view old_anchor_sizes[] = {"MODEL.RPN.ANCHOR_SIZES", "MODEL.RETINANET.ANCHOR_SIZES"};
constexpr std::string_view old_anchor_strides = "MODEL.RETINANET.ANCHOR_STRIDES";

std::string_view parent_of(std::string_view key) { return key.substr(0, key.rfind('.')); }
std::string_view name_of(std::string_view key) { return key.substr(key.rfind('.') + 1); }

const Entry& require(Section& root, std::string_view key) {
  const Entry* entry = find_entry(root, key);
  if (!entry)
    throw ConfigError(fmt::format("the config cannot be translated between versions: it has no key {}", key), std::string(key));
  return *entry;
}

void put(Section& root, std::string_view key, Entry entry) {
  Section* section = &root;
  const std::vector<std::string_view> parts = split_key(key);
  for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
    Entry& next = section->at_or_new(parts[i]);
    if (next.origin.source.empty()) {
      next.is_section = true;
      next.origin = entry.origin;
    }
    section = &next.section;
  }
  entry.key = parts.back();
  section->at_or_new(parts.back()) = std::move(entry);
}

/// Removes a key and the sections that this leaves empty.
void remove(Section& root, std::string_view key) {
  require(root, key);
  const bool top = key.find('.') == std::string_view::npos;
  Section& section = top ? root : find_entry(root, parent_of(key))->section;
  std::erase_if(section.entries, [&](const Entry& entry) { return entry.key == name_of(key); });
  if (section.entries.empty() && !top) remove(root, parent_of(key));
}

void rename(Section& root, std::string_view from, std::string_view to) {
  put(root, to, require(root, from));
  remove(root, from);
}

std::span<const Rename> renames_to(int version) {
  if (version == 1) return renames_to_1;
  return renames_to_2;
}

void upgrade_step(Section& root, int to_version) {
  for (const auto& [old_key, new_key] : renames_to(to_version)) rename(root, old_key, new_key);
  if (to_version != 2) return;
  const Entry& architecture = require(root, "MODEL.META_ARCHITECTURE");
  const std::size_t kept = architecture.value.is(Value::Type::string) && architecture.value.as_string() == "RetinaNet" ? 1 : 0;
  rename(root, old_anchor_ratios[kept], anchor_ratios);
  rename(root, old_anchor_sizes[kept], anchor_sizes);
  remove(root, old_anchor_sizes[1 - kept]);
  remove(root, old_anchor_ratios[1 - kept]);
  remove(root, old_anchor_strides);
}

void downgrade_step(Section& root, int from_version) {
  for (const auto& [old_key, new_key] : std::views::reverse(renames_to(from_version))) rename(root, new_key, old_key);
  if (from_version != 2) return;
  rename(root, anchor_ratios, old_anchor_ratios[0]);
  rename(root, anchor_sizes, old_anchor_sizes[0]);
  put(root, old_anchor_ratios[1], require(root, old_anchor_ratios[0]));
  put(root, old_anchor_sizes[1], require(root, old_anchor_sizes[0]));
  put(root, old_anchor_strides, Entry{"", {default_source, 0}, List(), Value::Type::list, false, {}});
}

Entry& version_entry(Section& root) {
  Entry* entry = root.find("VERSION");
  if (!entry || !entry->value.is(Value::Type::integer))
    throw ConfigError("a config is translated by its VERSION, which this one lacks", "VERSION");
  return *entry;
}

}  // namespace

Config downgrade_config(const Config& config, int version) {
  Config result = config.clone();
  Section& root = ConfigAccess::state(result).root;
  const std::int64_t current = version_entry(root).value.as_int();
  if (version < 0 || version > current || current > latest_config_version) {
    throw ConfigError(fmt::format("cannot translate a config of version {} down to version {}", current, version), "VERSION");
  }
  for (int v = static_cast<int>(current); v > version; --v) downgrade_step(root, v);
  version_entry(root).value = version;
  return result;
}

Config upgrade_config(const Config& config, int version) {
  Config result = config.clone();
  Section& root = ConfigAccess::state(result).root;
  const std::int64_t current = version_entry(root).value.as_int();
  if (current < 0 || current > version || version > latest_config_version) {
    throw ConfigError(fmt::format("cannot translate a config of version {} up to version {}", current, version), "VERSION");
  }
  for (int v = static_cast<int>(current); v < version; ++v) upgrade_step(root, v + 1);
  version_entry(root).value = version;
  return result;
}

}  // namespace treadle
