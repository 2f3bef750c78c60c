// What the config says about images: INPUT.*.
#include <defaults/validate_as.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/data/transforms.hpp>
#include <treadle/defaults/options.hpp>

#include <fmt/format.h>

namespace treadle {
namespace {

std::int64_t max_size(const Config& config, const char* key) {
  const std::int64_t size = config.get_int(key);
  if (size < 1) config.fail(key, "at least 1 is needed");
  return size;
}

Transform train_resize(const Config& config) {
  const char* const key = "INPUT.MIN_SIZE_TRAIN";
  const ResizeShortestEdgeOptions options{
      .sizes = config.get_ints(key),
      .range = choice<bool>(config, "INPUT.MIN_SIZE_TRAIN_SAMPLING", {{"choice", false}, {"range", true}}),
      .max_size = max_size(config, "INPUT.MAX_SIZE_TRAIN")};
  return with_keys(config, {{"ResizeShortestEdgeOptions.sizes", key}}, [&] { return resize_shortest_edge(options); });
}

Transform crop(const Config& config) {
  const char* const key = "INPUT.CROP.SIZE";
  RandomPartOptions options;
  options.kind = choice<PartSize>(config, "INPUT.CROP.TYPE",
                                  {{"relative", PartSize::relative},
                                   {"relative_range", PartSize::relative_range},
                                   {"absolute", PartSize::absolute},
                                   {"absolute_range", PartSize::absolute_range}});
  const std::vector<double> size = config.get_doubles(key);
  if (size.size() != options.size.size()) config.fail(key, "expected two numbers");
  options.size = {size[0], size[1]};
  return with_keys(config, {{"RandomPartOptions.size", key}}, [&] { return random_part(options); });
}

/// Empty for none.
Transform flip(const Config& config) {
  enum class Flip { none, horizontal, vertical };
  const auto flip = choice<Flip>(config, "INPUT.RANDOM_FLIP",
                                 {{"horizontal", Flip::horizontal}, {"vertical", Flip::vertical}, {"none", Flip::none}});
  if (flip == Flip::none) return nullptr;
  return random_flip({.vertical = flip == Flip::vertical});
}

}  // namespace

Transform train_transform(const Config& config, const Dataset& dataset) {
  std::vector<Transform> transforms;
  if (config.get_bool("INPUT.CROP.ENABLED")) {
    if (!dataset.has_pictures())
      config.fail("INPUT.CROP.ENABLED", "the data set has no pictures of its own sizes, as image folders have; set it to False");
    transforms.push_back(crop(config));
  }
  if (dataset.has_pictures()) transforms.push_back(train_resize(config));
  if (Transform mirror = flip(config)) transforms.push_back(std::move(mirror));
  if (transforms.size() < 2) return transforms.empty() ? nullptr : transforms.front();
  return compose(std::move(transforms));
}

Transform test_resize(const Config& config) {
  const char* const key = "INPUT.MIN_SIZE_TEST";
  const ResizeShortestEdgeOptions options{.sizes = {config.get_int(key)}, .max_size = max_size(config, "INPUT.MAX_SIZE_TEST")};
  return with_keys(config, {{"ResizeShortestEdgeOptions.sizes", key}}, [&] { return resize_shortest_edge(options); });
}

Transform test_transform(const Config& config, const Dataset& dataset) {
  return dataset.has_pictures() ? test_resize(config) : nullptr;
}

DatasetOptions dataset_options(const Config& config) {
  return {.root = config.get_string("TREADLE.DATA_DIR"),
          .mode = choice<ColourMode>(config, "INPUT.FORMAT",
                                     {{"RGB", ColourMode::rgb}, {"BGR", ColourMode::bgr}, {"L", ColourMode::grey}})};
}

}  // namespace treadle
