#include <treadle/base/errors.hpp>

#include <fmt/format.h>

#include <cmath>
#include <cstring>

namespace treadle {

IoError::IoError(const std::string& operation, std::filesystem::path path, int error_number, const std::string& advice)
    : Error(fmt::format("cannot {} \"{}\": {}{}{}", operation, path.string(), std::strerror(error_number),
                        advice.empty() ? "" : "; ", advice)),
      path_(std::move(path)),
      error_number_(error_number) {}

namespace {

std::string at_place(const std::string& message, const std::filesystem::path& file, std::optional<std::uint64_t> offset) {
  return offset ? fmt::format("\"{}\" at byte {}: {}", file.string(), *offset, message)
                : fmt::format("\"{}\": {}", file.string(), message);
}

std::string describe_step(std::int64_t iteration, const std::vector<std::pair<std::string, double>>& losses,
                          const std::vector<std::int64_t>& ids) {
  constexpr std::size_t kNamed = 8;
  std::string text = fmt::format("a loss or gradient is not finite in iteration {}:", iteration);
  for (const auto& [name, value] : losses) text += fmt::format(" {} = {}", name, std::isnan(value) ? std::abs(value) : value);
  if (ids.empty()) return text;
  text += "; samples";
  for (std::size_t i = 0; i < ids.size() && i < kNamed; ++i) text += fmt::format("{} {}", i > 0 ? "," : "", ids[i]);
  if (ids.size() > kNamed) text += fmt::format(" and {} more", ids.size() - kNamed);
  return text;
}

}  // namespace

FormatError::FormatError(const std::string& message, std::filesystem::path file, std::optional<std::uint64_t> offset)
    : Error(at_place(message, file, offset)), file_(std::move(file)), offset_(offset) {}

FormatError FormatError::in_line(std::int64_t line, const std::string& message, std::filesystem::path file) {
  FormatError error(fmt::format("{}:{}: {}", file.string(), line, message));
  error.file_ = std::move(file);
  return error;
}

CommError::CommError(const std::string& message, int rank, std::string operation)
    : Error(fmt::format("rank {}, {}: {}", rank, operation, message)), rank_(rank), operation_(std::move(operation)) {}

NonFiniteError::NonFiniteError(std::int64_t iteration, std::vector<std::pair<std::string, double>> losses,
                               std::vector<std::int64_t> ids)
    : Error(describe_step(iteration, losses, ids)), iteration_(iteration), losses_(std::move(losses)), ids_(std::move(ids)) {}

}  // namespace treadle
