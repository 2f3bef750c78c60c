#include "config/yaml_nodes.hpp"

#include <treadle/base/errors.hpp>

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

namespace treadle {
namespace {

constexpr int max_height = 500;
constexpr int max_nodes = 1'000'000;

[[noreturn]] void throw_not_yaml(const std::string& source, int line, int column, std::uint64_t offset,
                                 std::string_view problem) {
  throw FormatError(fmt::format("not valid YAML in line {}, column {}: {}", line, column, problem), source, offset);
}

[[noreturn]] void throw_not_yaml(const std::string& source, const YAML::Mark& mark, std::string_view problem) {
  throw_not_yaml(source, mark.line + 1, mark.column + 1, static_cast<std::uint64_t>(std::max(mark.pos, 0)), problem);
}

/// The length of the well-formed UTF-8 character that `text` starts with, or 0.
std::size_t character_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto follows = [&](std::size_t i) { return (byte(i) & 0xC0u) == 0x80u; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first < 0xE0) return follows(1) ? 2 : 0;
  if (first >= 0xE0 && first < 0xF0) {
    const bool overlong_or_surrogate = (first == 0xE0 && byte(1) < 0xA0) || (first == 0xED && byte(1) >= 0xA0);
    return follows(1) && follows(2) && !overlong_or_surrogate ? 3 : 0;
  }
  if (first >= 0xF0 && first < 0xF5) {
    const bool out_of_range = (first == 0xF0 && byte(1) < 0x90) || (first == 0xF4 && byte(1) >= 0x90);
    return follows(1) && follows(2) && follows(3) && !out_of_range ? 4 : 0;
  }
  return 0;
}

void check_characters(std::string_view text, const std::string& source) {
  int line = 1;
  std::size_t line_begin = 0;
  for (std::size_t i = 0; i < text.size();) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    const std::size_t length = character_length(text.substr(i));
    const int column = static_cast<int>(i - line_begin) + 1;
    if (length == 0) throw_not_yaml(source, line, column, i, "the bytes are not UTF-8");
    if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7F) {
      throw_not_yaml(source, line, column, i, fmt::format("control character 0x{:02x}", c));
    }
    if (c == '\n') {
      ++line;
      line_begin = i + 1;
    }
    i += length;
  }
}

/// yaml-cpp 0.7 gives the escapes `\N` and `\_` as bare Latin-1 bytes. As the source is UTF-8, a stray byte can come from nowhere
/// else.
std::string with_whole_characters(const std::string& value) {
  std::string result;
  for (std::size_t i = 0; i < value.size();) {
    const std::size_t length = character_length(std::string_view(value).substr(i));
    if (length == 0) result += '\xC2';
    result.append(value, i, std::max<std::size_t>(length, 1));
    i += std::max<std::size_t>(length, 1);
  }
  return result;
}

class NodeBuilder final : public YAML::EventHandler {
 public:
  explicit NodeBuilder(const std::string& source) : source_(source) {}

  YamlNode root;
  YAML::Mark last_scalar;

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnAnchor(const YAML::Mark& mark, const std::string& name) override {
    if (!names_.insert(name).second) throw_not_yaml(source_, mark, fmt::format("a second anchor &{}", name));
  }
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { OnScalar(mark, "?", anchor, ""); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) throw_not_yaml(source_, mark, "an alias stands inside what it names");
    YamlNode copy = found->second;
    copy.line = mark.line + 1;
    copy.column = mark.column + 1;
    add(std::move(copy), 0);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, const std::string& value) override {
    last_scalar = mark;
    YamlNode node = make(YamlNode::Kind::scalar, mark, tag);
    node.text = with_whole_characters(value);
    add(std::move(node), anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open_.push_back({make(YamlNode::Kind::sequence, mark, tag), anchor});
  }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    open_.push_back({make(YamlNode::Kind::mapping, mark, tag), anchor});
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    YamlNode node;
    YAML::anchor_t anchor;
  };

  static YamlNode make(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag) {
    YamlNode node;
    node.kind = kind;
    node.line = mark.line + 1;
    node.column = mark.column + 1;
    node.tag = tag.empty() ? "?" : tag;
    return node;
  }

  void close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    add(std::move(done.node), done.anchor);
  }

  void add(YamlNode node, YAML::anchor_t anchor) {
    if (anchor != 0) anchors_[anchor] = node;
    if (open_.empty()) {
      root = std::move(node);
      return;
    }
    YamlNode& parent = open_.back().node;
    parent.height = std::max(parent.height, node.height + 1);
    parent.size += node.size;
    if (parent.height > max_height)
      throw FormatError(fmt::format("line {}: nested deeper than {}", node.line, max_height), source_);
    if (parent.size > max_nodes) throw FormatError(fmt::format("line {}: more than {} values", node.line, max_nodes), source_);
    parent.children.push_back(std::move(node));
  }

  const std::string& source_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, YamlNode> anchors_;
  std::set<std::string> names_;
};

/// yaml-cpp 0.7 lets the end of the file close a quoted scalar, which swallows the rest of the file. Such a scalar is the last
/// one.
void check_last_quote(std::string_view text, const std::string& source, const YAML::Mark& mark) {
  std::string_view rest = text.substr(std::min(text.size(), static_cast<std::size_t>(std::max(mark.pos, 0))));
  while (rest.starts_with('&') || rest.starts_with('!')) {  // anchor and tag come before the quote
    rest.remove_prefix(std::min(rest.find_first_of(" \t\n"), rest.size()));
    rest.remove_prefix(std::min(rest.find_first_not_of(" \t\n"), rest.size()));
  }
  if (!rest.starts_with('"') && !rest.starts_with('\'')) return;
  const char quote = rest.front();
  for (std::size_t i = 1; i < rest.size(); ++i) {
    if (quote == '"' && rest[i] == '\\') {
      ++i;
    } else if (rest[i] == quote) {
      const bool doubled = quote == '\'' && i + 1 < rest.size() && rest[i + 1] == quote;  // stands for one, inside the text
      if (!doubled) return;
      ++i;
    }
  }
  throw_not_yaml(source, mark, "a quote that is never closed");
}

/// What to say of a tab in front of the line at `position`.
std::string tab_advice(std::string_view text, int position) {
  const std::size_t end = std::min(text.size(), static_cast<std::size_t>(std::max(position, 0)));
  const std::size_t newline = text.substr(0, end).rfind('\n');
  const std::string_view line = text.substr(newline == std::string_view::npos ? 0 : newline + 1);
  const std::string_view indent = line.substr(0, std::min(line.find_first_not_of(" \t"), line.size()));
  return indent.find('\t') == std::string_view::npos ? "" : " (the line begins with a tab; YAML is indented with blanks)";
}

}  // namespace

YamlNode parse_yaml(std::string_view text, const std::string& source) {
  constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";
  check_characters(text, source);
  if (text.starts_with(byte_order_mark)) text.remove_prefix(byte_order_mark.size());
  std::istringstream stream{std::string(text)};
  NodeBuilder builder(source);
  try {
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) {
      builder.root.tag = "?";
      return std::move(builder.root);
    }
    check_last_quote(text, source, builder.last_scalar);
    YamlNode first = std::move(builder.root);
    if (parser.HandleNextDocument(builder)) throw FormatError("a config has one YAML document, this file has several", source);
    return first;
  } catch (const YAML::Exception& error) {
    throw_not_yaml(source, error.mark, error.msg + tab_advice(text, error.mark.pos));
  }
}

bool is_yaml_text(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

}  // namespace treadle
