#pragma once

#include <treadle/base/errors.hpp>
#include <treadle/base/text.hpp>

#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace treadle {

/// Names → entries (usually factory functions), so that a config can speak of a class. Any thread.
/// Entries are never removed, so a reference to one stays valid.
template <class Entry>
class Registry {
 public:
  /// `kind` says in messages what is registered: "model", "data set".
  explicit Registry(std::string kind) : kind_(std::move(kind)) {}

  /// Throws Error when `name` is taken.
  void add(const std::string& name, Entry entry) {
    std::lock_guard lock(mutex_);
    if (!entries_.emplace(name, std::move(entry)).second)
      throw Error("a " + kind_ + " named \"" + name + "\" is already registered");
  }

  /// Throws ConfigError that lists the registered names, the nearest first.
  const Entry& get(const std::string& name) const {
    std::lock_guard lock(mutex_);
    auto found = entries_.find(name);
    if (found != entries_.end()) return found->second;
    auto known = names_locked();
    throw ConfigError(
        "there is no " + kind_ + " named \"" + name + "\"" + did_you_mean(name, known) + "; registered: " + quoted_list(known),
        name);
  }

  bool contains(const std::string& name) const {
    std::lock_guard lock(mutex_);
    return entries_.contains(name);
  }

  /// Every name, in alphabetical order.
  std::vector<std::string> names() const {
    std::lock_guard lock(mutex_);
    return names_locked();
  }

 private:
  std::vector<std::string> names_locked() const {
    std::vector<std::string> names;
    for (const auto& [name, entry] : entries_) names.push_back(name);
    return names;
  }

  std::string kind_;
  mutable std::mutex mutex_;
  std::map<std::string, Entry> entries_;
};

}  // namespace treadle
