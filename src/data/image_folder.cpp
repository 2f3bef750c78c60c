#include <treadle/base/errors.hpp>
#include <treadle/data/image_folder.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <set>

#include "base/file_errors.hpp"
#include "data/index_check.hpp"

namespace treadle {

namespace fs = std::filesystem;

void validate(const ImageFolderOptions& options) {
  if (options.root.empty()) throw ConfigError("ImageFolderOptions.root must name a folder", "ImageFolderOptions.root");
  std::set<std::string> seen;
  for (const std::string& name : options.classes) {
    if (name.empty() || !seen.insert(name).second) {
      throw ConfigError(fmt::format("ImageFolderOptions.classes must be different names of folders, found \"{}\"", name),
                        "ImageFolderOptions.classes");
    }
  }
  validate(options.decode);
}

namespace {

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

bool is_picture(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

constexpr const char* kReading = "read the folder";

std::vector<fs::path> pictures_below(const fs::path& folder) {
  return with_io_errors(kReading, folder, [&] {
    std::vector<fs::path> found;
    for (auto entry = fs::recursive_directory_iterator(folder); entry != fs::recursive_directory_iterator(); ++entry) {
      if (is_hidden(entry->path())) {
        entry.disable_recursion_pending();
      } else if (is_picture(entry->path()) && entry->is_regular_file()) {
        found.push_back(entry->path());
      }
    }
    std::sort(found.begin(), found.end());
    return found;
  });
}

}  // namespace

std::vector<std::string> class_folders(const fs::path& root) {
  return with_io_errors(kReading, root, [&] {
    std::vector<std::string> names;
    for (const fs::directory_entry& entry : fs::directory_iterator(root)) {
      if (entry.is_directory() && !is_hidden(entry.path())) names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  });
}

ImageFolder::ImageFolder(ImageFolderOptions options) : options_(std::move(options)) {
  validate(options_);
  if (options_.classes.empty()) options_.classes = class_folders(options_.root);
  if (options_.classes.empty()) throw FormatError("the folder has no folders, which would be its classes", options_.root);
  for (std::size_t label = 0; label < options_.classes.size(); ++label) {
    const fs::path folder = options_.root / options_.classes[label];
    const std::vector<fs::path> pictures = pictures_below(folder);
    if (pictures.empty()) throw FormatError("the class has no picture (.jpg, .jpeg or .png)", folder);
    for (const fs::path& picture : pictures) files_.push_back({picture, static_cast<std::int64_t>(label)});
  }
}

Sample ImageFolder::get(std::int64_t index, Rng&) const {
  const Image image = load_image(file(index), options_.decode);
  // As decoded: transforms make it smaller before anybody pays for another order of the pixels.
  return {{"image", image.pixels().permute({2, 0, 1})}, {"label", files_[static_cast<std::size_t>(index)].label}};
}

std::optional<std::int64_t> ImageFolder::label(std::int64_t index) const {
  check_index(index, size());
  return files_[static_cast<std::size_t>(index)].label;
}

std::optional<ImageSize> ImageFolder::image_size(std::int64_t index) const {
  return read_image_size(file(index), options_.decode.max_pixels);
}

const fs::path& ImageFolder::file(std::int64_t index) const {
  check_index(index, size());
  return files_[static_cast<std::size_t>(index)].path;
}

}  // namespace treadle
