#pragma once

#include <treadle/base/value.hpp>

#include <nlohmann/json.hpp>

#include <map>
#include <string>
#include <vector>

/// Compares Values with the trees of the reference data, which say what Python's objects were.
class TreeComparison {
 public:
  /// The differences found, one a line, each with its path.
  std::vector<std::string> compare(const treadle::Value& value, const nlohmann::ordered_json& tree);

  /// Types of Python objects met on the way: tests say at the end what they covered.
  const std::map<std::string, int>& met() const noexcept { return met_; }

 private:
  void node(const treadle::Value& value, const nlohmann::ordered_json& tree, const std::string& path);
  void dict(const treadle::Value& value, const nlohmann::ordered_json& tree, const std::string& path);
  void sequence(const treadle::Value& value, const nlohmann::ordered_json& tree, const std::string& path);
  void set(const treadle::Value& value, const nlohmann::ordered_json& tree, const std::string& path);
  void tensor(const treadle::Value& value, const nlohmann::ordered_json& tree, const std::string& path);
  void array(const treadle::Value& value, const nlohmann::ordered_json& tree, const std::string& path);
  void scalar(const treadle::Value& value, const nlohmann::ordered_json& tree, const std::string& path);
  void content(const at::Tensor& tensor, const nlohmann::ordered_json& tree, const std::string& path);
  void differ(const std::string& path, const std::string& what) { differences_.push_back(path + ": " + what); }

  std::vector<std::string> differences_;
  std::map<std::string, int> met_;
  std::map<int, const void*> storages_;  // number in the reference → storage here
  std::map<int, nlohmann::ordered_json> containers_;
};

/// The SHA-256 of the row-major little-endian bytes of `tensor`, as the reference data gives it.
std::string content_sha256(const at::Tensor& tensor);
