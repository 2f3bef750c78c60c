#pragma once

#include <treadle/base/value.hpp>
#include <treadle/checkpoint/file.hpp>

#include <filesystem>

namespace treadle {

/// Reads a safetensors file (the format of Hugging Face's library of that name, version 0.4): tensors by name, on the CPU, in the
/// order of the header; the metadata is passed over. `load_checkpoint_file` reads such files too and knows them by their content.
///
/// The file may be hostile: no more memory is taken than its size accounts for, and every byte of the data must belong to exactly
/// one tensor. The format has no checksums, so a flipped bit in a tensor goes unnoticed. Of `options`, the limit of the pickle
/// holds for the header, and `read_tensors` and `file_system` mean what they say. Any thread. Throws FormatError, IoError.
Dict load_safetensors_file(const std::filesystem::path& path, const LoadOptions& options = {});

/// Writes the tensors of `tensors`, which may be on any device, as a safetensors file: weights alone, each contiguous and with a
/// copy of its own, since the format knows no sharing. Commits as `save_checkpoint_file` does. Any thread; nobody may change the
/// tensors meanwhile. Throws IoError, and FormatError for what the format cannot hold: something else than tensors, keys that are
/// no text, sparse tensors, dtypes it has no name for.
void save_safetensors_file(const std::filesystem::path& path, const Dict& tensors, const SaveOptions& options = {});

}  // namespace treadle
