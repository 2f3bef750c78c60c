#pragma once

#include <treadle/base/errors.hpp>

#include <c10/core/ScalarType.h>

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace treadle {

using NodeId = std::uint32_t;
inline constexpr NodeId kNoNode = 0xffffffff;

/// What an object of a pickle is, before it becomes a Value.
enum class NodeKind : std::uint8_t {
  none,
  boolean,
  integer,
  real,
  text,
  bytes,
  list,
  tuple,
  set,
  dict,
  global,   // number of a known class or function
  storage,  // number in PickleGraph::storages
  tensor,   // number in PickleGraph::tensors
  sparse,   // links: indices, values, size
  dtype,    // numpy dtype: number in PickleGraph::array_types
  array,    // number in PickleGraph::arrays
  opaque,   // unknown class or object, kept as a dict of what is known of it
};

/// How the characters of a text or bytes node are stored.
enum class TextForm : std::uint8_t {
  raw,     // the bytes at `where` in the pickle are the content
  latin1,  // text only: each byte at `where` is one character
  narrow,  // bytes only: UTF-8 at `where`, each character (below 256) one byte
  owned    // number in PickleGraph::strings
};

/// 16 bytes, because a pickle may hold an object per byte.
struct Node {
  NodeKind kind = NodeKind::none;
  TextForm form = TextForm::raw;
  bool ordered = false;     // dict: of a class that takes a state (OrderedDict), not a plain dict
  bool on_path = false;     // container: being converted right now
  std::uint32_t small = 0;  // text, bytes: length; containers: first link
  std::uint64_t wide = 0;   // integer, real: its bits; text, bytes: offset in the pickle; containers: last link << 32 | count
};
static_assert(sizeof(Node) == 16);

struct Link {
  NodeId node;
  std::uint32_t next;
};

/// A storage that the pickle speaks of.
struct StorageSpec {
  std::string key;
  c10::ScalarType dtype = c10::ScalarType::Byte;  // of the first reference; tells how to reverse bytes
  std::uint64_t nbytes = 0;
  std::uint64_t position = 0;  // where the pickle speaks of it
};

/// A part of a storage, which is all of it except in the legacy format.
struct StorageView {
  std::uint32_t storage = 0;
  std::uint64_t first_byte = 0;
  std::uint64_t nbytes = 0;
  c10::ScalarType dtype = c10::ScalarType::Byte;  // Byte when untyped
  bool untyped = false;
};

inline constexpr std::uint32_t kNotQuantized = 0xffffffff;

/// How the numbers of a quantized tensor stand for others: (number - zero point) * scale.
struct QuantizerSpec {
  bool per_channel = false;
  double scale = 1;             // of a whole tensor
  std::int64_t zero_point = 0;  // likewise
  NodeId scales = kNoNode;      // tensors, one entry per channel
  NodeId zero_points = kNoNode;
  std::int64_t axis = 0;
};

struct TensorSpec {
  std::uint32_t view = 0;  // number in PickleGraph::views
  NodeId sizes = kNoNode;
  NodeId strides = kNoNode;
  std::int64_t offset = 0;
  std::uint64_t position = 0;
  c10::ScalarType dtype = c10::ScalarType::Undefined;
  bool conjugate = false;
  bool negative = false;
  std::uint32_t quantizer = kNotQuantized;  // number in PickleGraph::quantizers
};

struct ArrayType {
  c10::ScalarType dtype = c10::ScalarType::Undefined;
  bool swapped = false;
};

struct ArraySpec {
  bool built = false;
  bool scalar = false;
  bool fortran = false;
  ArrayType type;
  NodeId shape = kNoNode;
  NodeId data = kNoNode;
  NodeId axes = kNoNode;  // how to permute the axes of `shape`; none for as they are
  std::uint64_t position = 0;
};

/// The objects of one pickle. Memory for them is charged to a budget, so that a small file cannot ask for much.
class PickleGraph {
 public:
  explicit PickleGraph(std::uint64_t budget) : budget_(budget) {}

  NodeId add(Node node) {
    charge(sizeof(Node) + 1);
    nodes_.push_back(node);
    return static_cast<NodeId>(nodes_.size() - 1);
  }
  Node& operator[](NodeId id) { return nodes_[id]; }
  const Node& operator[](NodeId id) const { return nodes_[id]; }

  /// None, False and True are one node each, however often they occur.
  NodeId add_none() { return constant(constants_[0], {.kind = NodeKind::none}); }
  NodeId add_boolean(bool value) { return constant(constants_[value ? 1 : 2], {.kind = NodeKind::boolean, .wide = value}); }
  NodeId add_integer(std::int64_t value) { return add({.kind = NodeKind::integer, .wide = static_cast<std::uint64_t>(value)}); }
  NodeId add_owned(NodeKind kind, std::string content) {
    charge(sizeof(std::string) + content.size());
    strings.push_back(std::move(content));
    return add({.kind = kind, .form = TextForm::owned, .wide = strings.size() - 1});
  }

  std::size_t count(NodeId container) const { return static_cast<std::uint32_t>(nodes_[container].wide); }
  void append(NodeId container, NodeId item) {
    charge(sizeof(Link));
    links_.push_back({item, 0});
    auto link = static_cast<std::uint32_t>(links_.size() - 1);
    Node& node = nodes_[container];
    if (count(container) == 0) {
      node.small = link;
    } else {
      links_[node.wide >> 32].next = link;
    }
    node.wide = (std::uint64_t{link} << 32) | (count(container) + 1);
  }
  std::uint32_t first_link(NodeId container) const { return nodes_[container].small; }
  const Link& link(std::uint32_t number) const { return links_[number]; }
  /// The items of a container, for short ones.
  std::vector<NodeId> items(NodeId container) const {
    std::vector<NodeId> found;
    found.reserve(count(container));
    std::uint32_t at = first_link(container);
    for (std::size_t i = 0; i < count(container); ++i, at = links_[at].next) found.push_back(links_[at].node);
    return found;
  }

  /// Takes `bytes` from the budget. Throws FormatError when it is spent; the caller adds file and offset.
  void charge(std::uint64_t bytes) {
    if (bytes > budget_) throw FormatError("the objects take far more memory than the size of the pickle accounts for");
    budget_ -= bytes;
  }
  /// Adds to the budget while a pickle of unknown length is being read.
  void allow(std::uint64_t bytes) { budget_ += bytes; }

  // Deques, because a vector takes three times its size while it grows.
  std::deque<std::string> strings;
  std::deque<StorageSpec> storages;
  std::deque<StorageView> views;
  std::deque<TensorSpec> tensors;
  std::deque<QuantizerSpec> quantizers;
  std::deque<ArrayType> array_types;
  std::deque<ArraySpec> arrays;

 private:
  NodeId constant(NodeId& id, Node node) {
    if (id == kNoNode) id = add(node);
    return id;
  }

  std::array<NodeId, 3> constants_ = {kNoNode, kNoNode, kNoNode};
  std::deque<Node> nodes_;
  std::deque<Link> links_;
  std::uint64_t budget_;
};

}  // namespace treadle
