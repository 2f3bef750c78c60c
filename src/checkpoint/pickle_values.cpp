#include "checkpoint/pickle_values.hpp"

#include "checkpoint/dtype_names.hpp"
#include "checkpoint/tensor_builder.hpp"
#include "checkpoint/unpickler.hpp"

#include <fmt/format.h>

#include <bit>
#include <deque>

namespace treadle {

namespace {

// A Dict of any size keeps an index of its keys beside its entries.
constexpr std::uint64_t kDictEntryHeap = sizeof(Dict::Entry) + 96;

/// Builds a Value from the top down, with a stack of its own: a file may nest a hundred thousand lists.
class Converter {
 public:
  Converter(PickleGraph& graph, const ByteSource& source, StorageReader* storages, const ConversionOptions& options)
      : graph_(graph), source_(source), tensors_(graph, source, storages, options) {}

  Value convert(NodeId root) {
    Value result;
    place(root, result);
    while (!open_.empty()) {
      Frame& frame = open_.back();
      if (frame.done == graph_.count(frame.node)) {
        graph_[frame.node].on_path = false;
        open_.pop_back();
        continue;
      }
      advance(frame);
    }
    return result;
  }

 private:
  /// A container whose items are being converted. Its Value has all its places already, so that they no longer move.
  struct Frame {
    Value* target;
    NodeId node;
    std::uint32_t link;
    std::uint32_t done;
  };

  void advance(Frame& frame) {
    const Link& link = graph_.link(frame.link);
    Value* target = frame.target;
    switch (target->type()) {
      case Value::Type::list:
        target = &target->as_list()[frame.done];
        break;
      case Value::Type::tuple:
        target = &target->as_tuple()[frame.done];
        break;
      default:
        return advance_dict(frame, link);
    }
    frame.link = link.next;
    ++frame.done;
    place(link.node, *target);
  }

  void advance_dict(Frame& frame, const Link& key) {
    const Link& value = graph_.link(key.next);
    Value* target = frame.target->as_dict().find(key_of(key.node));
    frame.link = value.next;
    frame.done += 2;
    place(value.node, *target);
  }

  /// Puts the Value of `id` into `target`; of a container only the shape, and a frame that fills it.
  void place(NodeId id, Value& target) {
    const Node& node = graph_[id];
    switch (node.kind) {
      case NodeKind::none:
        target = nullptr;
        return;
      case NodeKind::boolean:
        target = node.wide != 0;
        return;
      case NodeKind::integer:
        target = static_cast<std::int64_t>(node.wide);
        return;
      case NodeKind::real:
        target = std::bit_cast<double>(node.wide);
        return;
      case NodeKind::text:
        target = text(node);
        return;
      case NodeKind::bytes:
        target = Bytes{text(node)};
        return;
      case NodeKind::list:
      case NodeKind::set: {
        List list;
        make_room(list, id);
        return open(id, target, std::move(list));
      }
      case NodeKind::tuple: {
        Tuple tuple;
        make_room(tuple, id);
        return open(id, target, std::move(tuple));
      }
      case NodeKind::dict:
      case NodeKind::opaque:
        return open(id, target, make_dict(id));
      case NodeKind::tensor:
        target = tensors_.tensor(node.wide);
        return;
      case NodeKind::sparse:
        target = tensors_.sparse(id);
        return;
      case NodeKind::array:
        target = tensors_.array(node.wide);
        return;
      case NodeKind::global:
        target = global(node);
        return;
      case NodeKind::storage:
        fail("a storage stands outside of a tensor");
      case NodeKind::dtype:
        target = std::string(name_of_dtype(graph_.array_types[node.wide].dtype));
        return;
    }
  }

  void open(NodeId id, Value& target, Value container) {
    if (graph_[id].on_path) fail("a list or dict contains itself");
    target = std::move(container);
    if (graph_.count(id) == 0) return;
    graph_[id].on_path = true;
    if (open_.size() >= deepest_) graph_.charge(sizeof(Frame)), ++deepest_;
    open_.push_back({.target = &target, .node = id, .link = graph_.first_link(id), .done = 0});
  }

  template <class Sequence>
  void make_room(Sequence& sequence, NodeId id) {
    graph_.charge(sizeof(Value) * graph_.count(id));
    sequence.reserve(graph_.count(id));
    for (std::size_t i = 0; i < graph_.count(id); ++i) sequence.push_back(nullptr);
  }

  Value make_dict(NodeId id) {
    Dict dict;
    std::size_t count = graph_.count(id) / 2;
    graph_.charge(kDictEntryHeap * count);
    dict.reserve(count);
    std::uint32_t link = graph_.first_link(id);
    for (std::size_t i = 0; i < count; ++i) {
      dict.set(key_of(graph_.link(link).node), nullptr);
      link = graph_.link(graph_.link(link).next).next;
    }
    return dict;
  }

  Key key_of(NodeId id) {
    const Node& node = graph_[id];
    if (node.kind == NodeKind::integer) return Key(static_cast<std::int64_t>(node.wide));
    return Key(text(node));
  }

  std::string text(const Node& node) {
    std::string content = content_of(graph_, source_, node);
    if (content.capacity() > sizeof(std::string) / 2) graph_.charge(content.capacity());
    return content;
  }

  Value global(const Node& node) {
    auto kind = static_cast<Global>(node.small);
    if (kind == Global::per_tensor_affine || kind == Global::per_channel_affine || kind == Global::per_channel_float)
      return fmt::format("torch.{}", to_string(kind));
    if (kind == Global::dtype) return fmt::format("torch.{}", name_of_dtype(static_cast<c10::ScalarType>(node.wide)));
    if (kind == Global::storage) fail("a storage class stands where data should be");
    return qualified_name(node.wide);
  }

  // The graph no longer knows where such an object stood.
  [[noreturn]] void fail(const std::string& message) const { throw FormatError(message, source_.path(), source_.file_offset()); }

  PickleGraph& graph_;
  const ByteSource& source_;
  TensorBuilder tensors_;
  std::deque<Frame> open_;
  std::size_t deepest_ = 0;  // how many frames were paid for
};

}  // namespace

Value to_value(PickleGraph& graph, const ByteSource& source, NodeId root, StorageReader* storages,
               const ConversionOptions& options) {
  try {
    return Converter(graph, source, storages, options).convert(root);
  } catch (const FormatError& error) {
    if (!error.file().empty()) throw;
    throw FormatError(error.what(), source.path(), source.file_offset());
  }
}

}  // namespace treadle
