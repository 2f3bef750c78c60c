#pragma once

#include <treadle/data/dataset.hpp>

#include <filesystem>
#include <string>
#include <vector>

namespace treadle {

struct ImageFolderOptions {
  std::filesystem::path root{};        ///< the folder whose folders are the classes
  std::vector<std::string> classes{};  ///< names of folders, in the order of their labels; empty: all, sorted by name
  DecodeOptions decode{.mode = ColourMode::rgb};
};
void validate(const ImageFolderOptions& options);

/// Pictures in one folder for each class, ROOT/CLASS/…/NAME.{jpg,jpeg,png} (in any letter case): class by class, within each
/// sorted by path, so that the order is the same on every machine. Files are decoded when they are asked for. Fields: "image", a
/// uint8 tensor of shape (C, H, W) in which the channels of a pixel stand side by side, and "label", an integer. Hidden files and
/// folders are left out.
///
/// Throws IoError when the folder cannot be read, and FormatError when there is no class or a class has no picture. `get` and
/// `image_size` throw as `load_image` does, with the file.
class ImageFolder final : public Dataset {
 public:
  explicit ImageFolder(ImageFolderOptions options);
  std::int64_t size() const override { return static_cast<std::int64_t>(files_.size()); }
  Sample get(std::int64_t index, Rng& rng) const override;
  std::optional<std::int64_t> label(std::int64_t index) const override;
  /// Of the picture as it is stored, upright, read from the head of its file.
  std::optional<ImageSize> image_size(std::int64_t index) const override;
  bool has_pictures() const override { return true; }

  /// `class_names()[label]`.
  const std::vector<std::string>& class_names() const noexcept { return options_.classes; }
  const std::filesystem::path& file(std::int64_t index) const;

 private:
  struct File {
    std::filesystem::path path;
    std::int64_t label;
  };
  ImageFolderOptions options_;
  std::vector<File> files_;
};

/// The folders in `root` that are not hidden, sorted: what ImageFolder takes for classes. Throws IoError.
std::vector<std::string> class_folders(const std::filesystem::path& root);

}  // namespace treadle
