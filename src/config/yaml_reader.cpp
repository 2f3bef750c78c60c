#include "config/yaml_reader.hpp"

#include "config/python_expression.hpp"
#include "config/scalar.hpp"
#include "config/yaml_nodes.hpp"

#include <treadle/base/errors.hpp>

#include <fmt/format.h>

#include <array>

namespace treadle {
namespace {

constexpr std::string_view yaml_prefix = "tag:yaml.org,2002:";
constexpr std::string_view eval_tag = "tag:yaml.org,2002:python/object/apply:eval";

struct NamedKind {
  std::string_view tag;
  ScalarKind kind;
};
constexpr std::array<NamedKind, 11> scalar_tags{{{"str", ScalarKind::string},
                                                 {"int", ScalarKind::integer},
                                                 {"float", ScalarKind::real},
                                                 {"bool", ScalarKind::boolean},
                                                 {"null", ScalarKind::null},
                                                 {"timestamp", ScalarKind::timestamp},
                                                 {"python/str", ScalarKind::string},
                                                 {"python/int", ScalarKind::integer},
                                                 {"python/float", ScalarKind::real},
                                                 {"python/bool", ScalarKind::boolean},
                                                 {"python/none", ScalarKind::null}}};

class Reader {
 public:
  Reader(const std::string& source, const ConfigLoadOptions& options) : source_(source), options_(options) {}

  Section section(const YamlNode& mapping, const std::string& path) const {
    Section result;
    for (const auto& [key, node] : pairs(mapping)) {
      const std::string name = section_key(*key);
      const std::string full = join_key(path, name);
      Entry& entry = result.at_or_new(name);  // of equal keys the last one counts, as in PyYAML
      entry = Entry{name, origin(*key), {}, Value::Type::null, is_mapping(*node), {}};
      if (entry.is_section) {
        entry.section = section(*node, full);
      } else {
        entry.value = value(*node, full);
        entry.declared = entry.value.type();
      }
    }
    return result;
  }

  [[noreturn]] void fail(const YamlNode& node, const std::string& path, std::string_view problem) const {
    const std::string where = origin(node).to_string();
    throw ConfigError(path.empty() ? fmt::format("{}: {}", where, problem) : fmt::format("{}: {}: {}", where, path, problem),
                      path);
  }

 private:
  using Pair = std::pair<const YamlNode*, const YamlNode*>;

  Origin origin(const YamlNode& node) const { return {source_, source_ == default_source ? 0 : node.line}; }

  static bool is_mapping(const YamlNode& node) { return node.kind == YamlNode::Kind::mapping; }

  static bool is_merge_key(const YamlNode& key) {
    return key.kind == YamlNode::Kind::scalar && key.tag == "?" && resolve_scalar(key.text) == ScalarKind::merge;
  }

  /// Keys and values with `<<` resolved: what is merged in comes first, so that the mapping's own keys win.
  std::vector<Pair> pairs(const YamlNode& mapping) const {
    if (mapping.tag != "?" && mapping.tag != "!" && mapping.tag != "tag:yaml.org,2002:map" &&
        mapping.tag != "tag:yaml.org,2002:python/dict") {
      fail(mapping, {}, fmt::format("the tag {} is not for configs", mapping.tag));
    }
    std::vector<Pair> merged, own;
    for (std::size_t i = 0; i + 1 < mapping.children.size(); i += 2) {
      const YamlNode& key = mapping.children[i];
      const YamlNode& node = mapping.children[i + 1];
      if (!is_merge_key(key)) {
        own.emplace_back(&key, &node);
      } else if (is_mapping(node)) {
        const std::vector<Pair> more = pairs(node);
        merged.insert(merged.end(), more.begin(), more.end());
      } else if (node.kind == YamlNode::Kind::sequence) {
        for (auto item = node.children.rbegin(); item != node.children.rend(); ++item) {  // the first one wins
          if (!is_mapping(*item)) fail(*item, {}, "<< merges mappings only");
          const std::vector<Pair> more = pairs(*item);
          merged.insert(merged.end(), more.begin(), more.end());
        }
      } else {
        fail(node, {}, "<< merges mappings only");
      }
    }
    merged.insert(merged.end(), own.begin(), own.end());
    return merged;
  }

  std::string section_key(const YamlNode& key) const {
    if (key.kind == YamlNode::Kind::scalar) {
      const Value value = scalar(key, {});
      if (value.is(Value::Type::string)) return value.as_string();
      fail(key, {}, fmt::format("the key `{}` reads as {} in YAML; put it into quotes", key.text, to_string(value.type())));
    }
    fail(key, {}, "a key must be text");
  }

  Value value(const YamlNode& node, const std::string& path) const {
    switch (node.kind) {
      case YamlNode::Kind::scalar:
        return scalar(node, path);
      case YamlNode::Kind::sequence:
        return sequence(node, path);
      case YamlNode::Kind::mapping:
        break;
    }
    Dict dict;
    for (const auto& [key, child] : pairs(node)) {
      const Value name = value(*key, path);
      if (name.is(Value::Type::string)) {
        dict.set(name.as_string(), value(*child, path));
      } else if (name.is(Value::Type::integer)) {
        dict.set(name.as_int(), value(*child, path));
      } else {
        fail(*key, path, fmt::format("a key inside a list must be text or an integer, not {}", to_string(name.type())));
      }
    }
    return dict;
  }

  Value sequence(const YamlNode& node, const std::string& path) const {
    if (node.tag == eval_tag) return evaluated(node, path);
    if (node.tag == "tag:yaml.org,2002:python/tuple") return items<Tuple>(node, path);
    if (node.tag == "?" || node.tag == "!" || node.tag == "tag:yaml.org,2002:seq" ||
        node.tag == "tag:yaml.org,2002:python/list") {
      return items<List>(node, path);
    }
    fail(node, path, fmt::format("the tag {} is not for configs", node.tag));
  }

  template <class SequenceType>
  Value items(const YamlNode& node, const std::string& path) const {
    SequenceType result;
    for (const YamlNode& child : node.children) result.push_back(value(child, path));
    return result;
  }

  Value evaluated(const YamlNode& node, const std::string& path) const {
    if (!options_.evaluate) fail(node, path, "expressions are not allowed here (the tag !!python/object/apply:eval)");
    if (node.children.size() != 1 || node.children[0].kind != YamlNode::Kind::scalar) fail(node, path, "eval takes one text");
    try {
      return evaluate_python(node.children[0].text);
    } catch (const Error& error) {
      fail(node, path, fmt::format("{}: {}", error.what(), node.children[0].text));
    }
  }

  Value scalar(const YamlNode& node, const std::string& path) const {
    ScalarKind kind = ScalarKind::string;
    if (node.tag == "?") {
      kind = resolve_scalar(node.text);
    } else if (node.tag != "!") {
      const NamedKind* named = nullptr;
      for (const NamedKind& candidate : scalar_tags) {
        if (node.tag.starts_with(yaml_prefix) && node.tag.substr(yaml_prefix.size()) == candidate.tag) named = &candidate;
      }
      if (!named) fail(node, path, fmt::format("the tag {} is not for configs", node.tag));
      kind = named->kind;
    }
    try {
      return construct_scalar(kind, node.text);
    } catch (const Error& error) {
      fail(node, path, error.what());
    }
  }

  const std::string& source_;
  const ConfigLoadOptions& options_;
};

}  // namespace

Section read_yaml(std::string_view text, const std::string& source, const ConfigLoadOptions& options) {
  const YamlNode root = parse_yaml(text, source);
  const Reader reader(source, options);
  if (root.kind != YamlNode::Kind::mapping) {
    const bool empty = root.kind == YamlNode::Kind::scalar && root.text.empty();
    throw ConfigError(fmt::format("{}: {}; a config is a mapping of keys to values", source,
                                  empty ? "the file is empty" : "the file holds no mapping"));
  }
  return reader.section(root, {});
}

}  // namespace treadle
