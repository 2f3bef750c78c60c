#include "checkpoint/archive.hpp"
#include "checkpoint/tensor_builder.hpp"
#include "checkpoint/zip_format.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/checkpoint/file_system.hpp>
#include <treadle/checkpoint/open_file.hpp>

#include <ATen/core/Tensor.h>

#include <array>
#include <mutex>
#include <optional>

namespace treadle {

class CheckpointFile::Contents {
 public:
  Contents(const std::filesystem::path& path, const LoadOptions& options)
      : file_((options.file_system ? options.file_system : local_file_system())->open(path)) {
    std::array<char, zip::kMagic.size()> head{};
    if (file_->size() >= head.size()) file_->read(0, std::as_writable_bytes(std::span(head)));
    if (std::string_view(head.data(), head.size()) != zip::kMagic) {
      content_ = load_checkpoint_file(path, options);
      return;
    }
    archive_.emplace(*file_, path, options);
    archive_->map(file_->map());
    ConversionOptions conversion{
        .file_size = file_->size(), .allow_expanded = options.allow_expanded, .placeholders = &placeholders_};
    content_ = to_value(archive_->graph(), archive_->source(), archive_->root(), &*archive_, conversion);
    conversion.placeholders = nullptr;
    builder_.emplace(archive_->graph(), archive_->source(), &*archive_, conversion);
  }

  const Value& content() const noexcept { return content_; }

  at::Tensor read(const at::Tensor& placeholder) {
    auto found = placeholders_.find(placeholder.unsafeGetTensorImpl());
    if (found == placeholders_.end()) return placeholder;
    std::lock_guard lock(mutex_);
    try {
      return builder_->tensor(found->second);
    } catch (const FormatError& error) {
      if (!error.file().empty()) throw;
      throw FormatError(error.what(), archive_->source().path(), archive_->source().file_offset());
    }
  }

 private:
  std::unique_ptr<ReadableFile> file_;
  std::optional<Archive> archive_;
  Placeholders placeholders_;
  Value content_;
  std::mutex mutex_;  // of the builder, and of the archive behind it
  std::optional<TensorBuilder> builder_;
};

CheckpointFile::CheckpointFile(const std::filesystem::path& path, const LoadOptions& options) {
  validate(options);
  LoadOptions all = options;
  all.read_tensors = true;
  contents_ = std::make_unique<Contents>(path, all);
}

CheckpointFile::~CheckpointFile() = default;
CheckpointFile::CheckpointFile(CheckpointFile&& other) noexcept = default;
CheckpointFile& CheckpointFile::operator=(CheckpointFile&& other) noexcept = default;

const Value& CheckpointFile::content() const noexcept { return contents_->content(); }

at::Tensor CheckpointFile::read(const at::Tensor& placeholder) const { return contents_->read(placeholder); }

Value CheckpointFile::read(const Value& part) const {
  Value whole = part;
  std::vector<Value*> pending{&whole};
  while (!pending.empty()) {
    Value& value = *pending.back();
    pending.pop_back();
    switch (value.type()) {
      case Value::Type::tensor:
        value = read(value.as_tensor());
        break;
      case Value::Type::list:
        for (Value& item : value.as_list()) pending.push_back(&item);
        break;
      case Value::Type::tuple:
        for (Value& item : value.as_tuple()) pending.push_back(&item);
        break;
      case Value::Type::dict:
        for (auto& entry : value.as_dict()) pending.push_back(&entry.value);
        break;
      default:
        break;
    }
  }
  return whole;
}

}  // namespace treadle
