#pragma once

#include "checkpoint/byte_source.hpp"
#include "checkpoint/pickle_globals.hpp"
#include "checkpoint/pickle_graph.hpp"

#include <treadle/checkpoint/file.hpp>

#include <limits>
#include <string>
#include <unordered_map>
#include <vector>

namespace treadle {

/// Reads one pickle of protocol 2 to 5 into a graph. An abstract machine of a stack and a memo (CPython's Lib/pickletools.py
/// describes the opcodes), of which only those are known that data needs. Throws FormatError.
class Unpickler {
 public:
  struct Options {
    UnknownGlobals unknown = UnknownGlobals::reject;
    bool storages = true;  ///< the pickle may refer to storages of tensors
    /// What the budget of the graph grows by for each byte of the pickle that was read; 0 when the budget is whole already.
    std::uint64_t budget_per_byte = 0;
    /// The most bytes of the pickle, not counting the content of its strings.
    std::uint64_t max_bytes = std::numeric_limits<std::uint64_t>::max();
  };
  /// Starts at `position` of `source`.
  Unpickler(ByteSource& source, PickleGraph& graph, std::uint64_t position, Options options)
      : source_(source), graph_(graph), options_(options), position_(position) {}

  /// The object of the pickle.
  NodeId load();
  /// Where the pickle ended.
  std::uint64_t position() const noexcept { return position_; }

 private:
  bool step(NodeId& result);
  bool step_scalar(unsigned char opcode);
  bool step_text(unsigned char opcode);
  bool step_container(unsigned char opcode);
  bool step_memo(unsigned char opcode);
  bool step_object(unsigned char opcode);

  template <class T>
  T number();
  void push(NodeId node);
  void push_new(Node node);
  NodeId pop();
  NodeId& top();
  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  std::size_t pop_mark();
  void pop_to(std::size_t height) { stack_.resize(height); }

  void push_text(std::uint64_t length, TextForm form);
  void push_bytes(std::uint64_t length);
  void push_long(std::uint64_t length);
  void push_global(std::string_view module, std::string_view name);
  std::string line();
  void make_tuple(std::size_t from);
  void append_from(std::size_t from);
  void set_items_from(std::size_t from);
  void set_item(NodeId dict, NodeId key, NodeId value);
  std::string key_text(NodeId key, int depth = 0);
  void remember(std::uint64_t index);
  void recall(std::uint64_t index);
  void push_storage(NodeId id);

  // unpickler_objects.cpp: what the known classes and functions would make.
  NodeId make(NodeId callable, NodeId arguments);
  NodeId make_dict(const std::vector<NodeId>& arguments);
  NodeId make_set(const std::vector<NodeId>& arguments);
  NodeId make_bytes(const std::vector<NodeId>& arguments);
  NodeId make_encoded(const std::vector<NodeId>& arguments);
  NodeId make_complex(const std::vector<NodeId>& arguments);
  NodeId make_device(const std::vector<NodeId>& arguments);
  NodeId make_tensor(Global global, const std::vector<NodeId>& arguments);
  NodeId make_parameter(const std::vector<NodeId>& arguments, std::size_t count);
  NodeId make_quantized(const std::vector<NodeId>& arguments);
  void expect_no_hooks(NodeId requires_grad, NodeId hooks);
  NodeId make_sparse(const std::vector<NodeId>& arguments);
  NodeId make_numpy(Global global, const std::vector<NodeId>& arguments);
  void build(NodeId object, NodeId state);
  void build_dtype(NodeId object, NodeId state);
  void build_array(NodeId object, NodeId state);
  NodeId opaque(std::string name);
  void describe_opaque(NodeId object, std::string_view key, NodeId value);

  const Node& node(NodeId id) const { return graph_[id]; }
  bool is(NodeId id, NodeKind kind) const { return graph_[id].kind == kind; }
  bool is_global(NodeId id, Global global) const {
    return is(id, NodeKind::global) && static_cast<Global>(graph_[id].small) == global;
  }
  std::string text(NodeId id, std::string_view what);
  std::int64_t integer(NodeId id, std::string_view what);
  void expect(bool condition, std::string_view message) const {
    if (!condition) fail(std::string(message));
  }
  [[noreturn]] void fail(const std::string& message) const { source_.fail(message, opcode_at_); }

  ByteSource& source_;
  PickleGraph& graph_;
  Options options_;
  std::uint64_t position_;
  std::uint64_t opcode_at_ = 0;
  std::vector<NodeId> stack_;
  std::vector<std::size_t> marks_;
  std::vector<NodeId> memo_;
  std::unordered_map<std::string, std::uint32_t> storage_numbers_;
};

/// What a text or bytes node holds: text as UTF-8.
std::string content_of(const PickleGraph& graph, const ByteSource& source, const Node& node);

}  // namespace treadle
