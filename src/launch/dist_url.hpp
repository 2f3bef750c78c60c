#pragma once

#include <treadle/launch/started_rank.hpp>

#include <cstdint>
#include <filesystem>
#include <string>

namespace treadle {

/// Where processes meet, as `LaunchOptions::dist_url` says it.
struct DistUrl {
  enum class Kind { automatic, environment, tcp, file };
  Kind kind = Kind::automatic;
  std::string host{};  ///< of tcp
  std::uint16_t port = 0;
  std::filesystem::path file{};
};

/// Throws ConfigError that shows `text` and the forms that are known. An IPv6 address stands in brackets.
DistUrl parse_dist_url(const std::string& text);
/// `tcp://HOST:PORT` or `file://PATH`.
std::string to_string(const DistUrl& url);
/// Replaces `env://` by the address in MASTER_ADDR and MASTER_PORT; throws ConfigError that names the one that is missing.
DistUrl resolve_environment(const DistUrl& url, const EnvironmentReader& environment = read_environment);

}  // namespace treadle
