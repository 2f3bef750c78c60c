#include "config/load.hpp"

#include "config/yaml_reader.hpp"

#include <treadle/base/errors.hpp>

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <system_error>

namespace treadle {
namespace {

constexpr std::string_view base_key = "_BASE_";

constexpr const char* reading = "read the config file";

std::string read_text(const std::filesystem::path& file) {
  std::error_code unknown;  // opening it tells why
  if (std::filesystem::is_directory(file, unknown)) throw IoError(reading, file, EISDIR);
  errno = 0;
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw IoError(reading, file, errno == 0 ? EIO : errno);
  std::string text;
  std::array<char, 1 << 14> part;
  do {
    stream.read(part.data(), part.size());
    text.append(part.data(), static_cast<std::size_t>(stream.gcount()));
  } while (stream);
  if (stream.bad()) throw IoError(reading, file, errno == 0 ? EIO : errno);
  return text;
}

/// By which a file is known again.
std::filesystem::path identity_of(const std::filesystem::path& file) {
  std::error_code error;
  std::filesystem::path identity = std::filesystem::weakly_canonical(file, error);
  if (error) throw IoError(reading, file, error.value());
  return identity;
}

/// `~` and `~user` at the front; a user who does not exist stays as written.
std::string expand_user(const std::string& path) {
  if (!path.starts_with('~')) return path;
  const std::size_t slash = std::min(path.find('/'), path.size());
  const std::string user = path.substr(1, slash - 1);
  std::string home;
  const char* variable = user.empty() ? std::getenv("HOME") : nullptr;
  if (variable) {
    home = variable;
  } else {
    passwd entry{};
    passwd* found = nullptr;
    std::array<char, 16384> buffer;
    if (user.empty()) {
      getpwuid_r(geteuid(), &entry, buffer.data(), buffer.size(), &found);
    } else {
      getpwnam_r(user.c_str(), &entry, buffer.data(), buffer.size(), &found);
    }
    if (!found) return path;
    home = found->pw_dir;
  }
  while (home.ends_with('/')) home.pop_back();
  return home + path.substr(slash);
}

std::filesystem::path resolve_base(const std::string& base, const std::filesystem::path& file, const Origin& origin) {
  if (base.starts_with("http://") || base.starts_with("https://")) {
    throw ConfigError(fmt::format("{}: _BASE_ \"{}\" is not a local file", origin.to_string(), base), std::string(base_key));
  }
  const std::filesystem::path expanded = expand_user(base);
  return expanded.is_absolute() ? expanded : file.parent_path() / expanded;
}

/// Entries of `child` win over those of `base`; sections join.
void overlay(const Section& child, Section& base, const std::string& path) {
  for (const Entry& entry : child.entries) {
    Entry& target = base.at_or_new(entry.key);
    const bool existed = !target.origin.source.empty();
    if (!entry.is_section || !existed) {
      target = entry;
      continue;
    }
    const std::string key = join_key(path, entry.key);
    if (!target.is_section) {
      throw ConfigError(fmt::format("{}: {} is a section here and a value in its base ({})", entry.origin.to_string(), key,
                                    target.origin.to_string()),
                        key);
    }
    overlay(entry.section, target.section, key);
  }
}

std::vector<std::string> base_names(const Entry& entry) {
  const auto fail = [&] {
    throw ConfigError(fmt::format("{}: _BASE_ must be a path or a list of paths", entry.origin.to_string()),
                      std::string(base_key));
  };
  std::vector<std::string> names;
  if (entry.is_section) fail();
  if (entry.value.is(Value::Type::string)) {
    names.push_back(entry.value.as_string());
  } else if (entry.value.is(Value::Type::list)) {
    for (const Value& item : entry.value.as_list()) {
      if (!item.is(Value::Type::string)) fail();
      names.push_back(item.as_string());
    }
  } else {
    fail();
  }
  return names;
}

class Loader {
 public:
  explicit Loader(const ConfigLoadOptions& options) : options_(options) {}

  Section load(const std::filesystem::path& file) {
    const std::string text = read_text(file);
    files.push_back(file.string());
    open_.push_back(identity_of(file));
    Section tree = read_yaml(text, file.string(), options_);
    const auto found = std::ranges::find(tree.entries, base_key, &Entry::key);
    if (found != tree.entries.end()) {
      const Entry base = std::move(*found);
      tree.entries.erase(found);
      Section merged;
      for (const std::string& name : base_names(base)) {
        const std::filesystem::path path = resolve_base(name, file, base.origin);
        refuse_cycle(path, base.origin);
        overlay(load(path), merged, {});
      }
      overlay(tree, merged, {});
      tree = std::move(merged);
    }
    open_.pop_back();
    return tree;
  }

  std::vector<std::string> files;

 private:
  void refuse_cycle(const std::filesystem::path& path, const Origin& origin) const {
    if (std::ranges::find(open_, identity_of(path)) == open_.end()) return;
    throw ConfigError(fmt::format("{}: _BASE_ leads back to \"{}\", which is being read", origin.to_string(), path.string()),
                      std::string(base_key));
  }

  const ConfigLoadOptions& options_;
  std::vector<std::filesystem::path> open_;
};

}  // namespace

LoadedFile load_with_bases(const std::filesystem::path& file, const ConfigLoadOptions& options) {
  Loader loader(options);
  Section tree = loader.load(file);
  return {std::move(tree), std::move(loader.files)};
}

}  // namespace treadle
