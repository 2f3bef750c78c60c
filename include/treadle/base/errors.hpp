#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace treadle {

/// The root of everything Treadle throws on purpose. `what()` is one line for the user: what happened, where, what to do.
/// Exceptions of LibTorch and of the standard library pass through unchanged.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A setting that is missing, unknown, of the wrong type or out of range. `key` names it ("SOLVER.BASE_LR",
/// "SgdOptions.momentum").
class ConfigError : public Error {
 public:
  explicit ConfigError(const std::string& message, std::string key = {}) : Error(message), key_(std::move(key)) {}
  const std::string& key() const noexcept { return key_; }

 private:
  std::string key_;
};

/// The operating system refused: `operation` on `path` failed with `error_number` (an errno value).
class IoError : public Error {
 public:
  IoError(const std::string& operation, std::filesystem::path path, int error_number, const std::string& advice = {});
  const std::filesystem::path& path() const noexcept { return path_; }
  int error_number() const noexcept { return error_number_; }

 private:
  std::filesystem::path path_;
  int error_number_;
};

/// Data is not what it should be: a malformed file (then `file`, and `offset` in bytes where known), or a state that does not
/// fit.
class FormatError : public Error {
 public:
  explicit FormatError(const std::string& message) : Error(message) {}
  FormatError(const std::string& message, std::filesystem::path file, std::optional<std::uint64_t> offset = std::nullopt);
  /// For a line of a text file, counted from 1: the message begins with FILE:LINE.
  static FormatError in_line(std::int64_t line, const std::string& message, std::filesystem::path file);
  const std::filesystem::path& file() const noexcept { return file_; }
  std::optional<std::uint64_t> offset() const noexcept { return offset_; }

 private:
  std::filesystem::path file_;
  std::optional<std::uint64_t> offset_;
};

/// An operation among processes failed or may not run. `rank` is the rank that reports it.
class CommError : public Error {
 public:
  CommError(const std::string& message, int rank, std::string operation);
  int rank() const noexcept { return rank_; }
  const std::string& operation() const noexcept { return operation_; }

 private:
  int rank_;
  std::string operation_;
};

/// A loss or gradient became NaN or infinite in `iteration`; `losses` holds every loss of that step by name, `ids` the samples of
/// this rank's batches, as far as they have ids. `what()` names the first few of them.
class NonFiniteError : public Error {
 public:
  NonFiniteError(std::int64_t iteration, std::vector<std::pair<std::string, double>> losses, std::vector<std::int64_t> ids = {});
  std::int64_t iteration() const noexcept { return iteration_; }
  const std::vector<std::pair<std::string, double>>& losses() const noexcept { return losses_; }
  const std::vector<std::int64_t>& ids() const noexcept { return ids_; }

 private:
  std::int64_t iteration_;
  std::vector<std::pair<std::string, double>> losses_;
  std::vector<std::int64_t> ids_;
};

}  // namespace treadle
