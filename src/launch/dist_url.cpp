#include <launch/dist_url.hpp>
#include <treadle/base/errors.hpp>

#include <fmt/format.h>

#include <charconv>
#include <string_view>

namespace treadle {
namespace {

[[noreturn]] void refuse(const std::string& text, const std::string& problem) {
  throw ConfigError(
      fmt::format("LaunchOptions.dist_url is \"{}\": {}; tcp://HOST:PORT, file://PATH, env:// or auto is needed", text, problem),
      "LaunchOptions.dist_url");
}

bool read_port(std::string_view digits, std::uint16_t& port) {
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  return error == std::errc() && end == digits.data() + digits.size();
}

DistUrl parse_tcp(const std::string& text, std::string_view rest) {
  DistUrl url{.kind = DistUrl::Kind::tcp};
  const std::size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos) refuse(text, "it has no port");
  std::string_view host = rest.substr(0, colon);
  if (!read_port(rest.substr(colon + 1), url.port)) refuse(text, "its port is no number from 0 to 65535");
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host.empty()) refuse(text, "it has no host");
  url.host = host;
  return url;
}

}  // namespace

DistUrl parse_dist_url(const std::string& text) {
  const std::string_view view = text;
  if (view == "auto") return {};
  if (view == "env://") return {.kind = DistUrl::Kind::environment};
  if (view.starts_with("tcp://")) return parse_tcp(text, view.substr(6));
  if (view.starts_with("file://")) {
    DistUrl url{.kind = DistUrl::Kind::file, .file = std::filesystem::path(view.substr(7))};
    if (!url.file.is_absolute()) refuse(text, "the path of a file must be absolute, as in file:///tmp/meet");
    return url;
  }
  refuse(text, "this is no address");
}

std::string to_string(const DistUrl& url) {
  if (url.kind == DistUrl::Kind::file) return "file://" + url.file.string();
  const bool brackets = url.host.find(':') != std::string::npos;
  return fmt::format("tcp://{}{}{}:{}", brackets ? "[" : "", url.host, brackets ? "]" : "", url.port);
}

DistUrl resolve_environment(const DistUrl& url, const EnvironmentReader& environment) {
  if (url.kind != DistUrl::Kind::environment) return url;
  const auto need = [&](const std::string& name) {
    const auto value = environment(name);
    if (!value || value->empty())
      throw ConfigError("LaunchOptions.dist_url is env://, but the environment variable " + name + " is not set",
                        "LaunchOptions.dist_url");
    return *value;
  };
  DistUrl resolved{.kind = DistUrl::Kind::tcp, .host = need("MASTER_ADDR")};
  const std::string port = need("MASTER_PORT");
  if (!read_port(port, resolved.port) || resolved.port == 0) {
    throw ConfigError("the environment variable MASTER_PORT is \"" + port + "\"; a number from 1 to 65535 is needed",
                      "LaunchOptions.dist_url");
  }
  return resolved;
}

}  // namespace treadle
