// What the opcodes do to the stack, the memo and the containers on them.
#include "checkpoint/text_encoding.hpp"
#include "checkpoint/unpickler.hpp"

#include <fmt/format.h>

namespace treadle {

void Unpickler::push_global(std::string_view module, std::string_view name) {
  if (auto known = find_global(module, name)) {
    push_new({.kind = NodeKind::global, .small = static_cast<std::uint32_t>(known->global), .wide = known->detail});
    return;
  }
  if (options_.unknown == UnknownGlobals::reject) {
    fail(
        fmt::format("the file refers to {}.{}, which is not data: save a state_dict() in Python instead (treadle inspect shows "
                    "what is in the file)",
                    module, name));
  }
  std::string full = fmt::format("{}.{}", module, name);
  push(opaque(is_utf8(full) ? full : latin1_to_utf8(full)));
}

void Unpickler::make_tuple(std::size_t from) {
  NodeId tuple = graph_.add({.kind = NodeKind::tuple});
  for (std::size_t i = from; i < stack_.size(); ++i) graph_.append(tuple, stack_[i]);
  pop_to(from);
  push(tuple);
}

void Unpickler::append_from(std::size_t from) {
  expect(from > floor(), "an append without a list");
  NodeId list = stack_[from - 1];
  if (is(list, NodeKind::opaque)) {
    NodeId items = graph_.add({.kind = NodeKind::list});
    for (std::size_t i = from; i < stack_.size(); ++i) graph_.append(items, stack_[i]);
    describe_opaque(list, "items", items);
  } else {
    expect(is(list, NodeKind::list) || is(list, NodeKind::set), "an append to something that is no list");
    for (std::size_t i = from; i < stack_.size(); ++i) graph_.append(list, stack_[i]);
  }
  pop_to(from);
}

void Unpickler::set_items_from(std::size_t from) {
  expect(from > floor(), "an item without a dict");
  expect((stack_.size() - from) % 2 == 0, "a key without a value");
  NodeId dict = stack_[from - 1];
  NodeId target = dict;
  if (is(dict, NodeKind::opaque)) {
    target = graph_.add({.kind = NodeKind::dict});
    describe_opaque(dict, "items", target);
  }
  expect(is(target, NodeKind::dict), "an item for something that is no dict");
  for (std::size_t i = from; i < stack_.size(); i += 2) set_item(target, stack_[i], stack_[i + 1]);
  pop_to(from);
}

void Unpickler::set_item(NodeId dict, NodeId key, NodeId value) {
  const bool is_key = is(key, NodeKind::text) || is(key, NodeKind::integer);
  graph_.append(dict, is_key ? key : graph_.add_owned(NodeKind::text, key_text(key)));
  graph_.append(dict, value);
}

void Unpickler::remember(std::uint64_t index) {
  // Nobody numbers objects higher than there are bytes so far.
  expect(index < position_, "a number in the memo that is too high");
  NodeId id = top();
  if (index >= memo_.size()) {
    graph_.charge((index + 1 - memo_.size()) * 3 * sizeof(NodeId));
    memo_.resize(index + 1, kNoNode);
  }
  memo_[index] = id;
}

void Unpickler::recall(std::uint64_t index) {
  if (index >= memo_.size() || memo_[index] == kNoNode)
    fail(fmt::format("object {} is referred to, but was not remembered", index));
  push(memo_[index]);
}

// ("storage", class, key, location, count), and in the legacy format a sixth: None or (key, first, count) of a part of it.
void Unpickler::push_storage(NodeId id) {
  expect(options_.storages, "a reference to an object outside the pickle");
  expect(is(id, NodeKind::tuple), "the reference to a storage is no tuple");
  expect(graph_.count(id) == 5 || graph_.count(id) == 6, "the reference to a storage has not 5 or 6 parts");
  auto parts = graph_.items(id);
  expect(text(parts[0], "the kind of a reference") == "storage", "a reference to something that is no storage");
  expect(is_global(parts[1], Global::storage) || is_global(parts[1], Global::untyped_storage),
         "the class of a storage is unknown");
  bool untyped = is_global(parts[1], Global::untyped_storage);
  auto dtype = untyped ? c10::ScalarType::Byte : static_cast<c10::ScalarType>(node(parts[1]).wide);
  std::string key =
      is(parts[2], NodeKind::integer) ? std::to_string(integer(parts[2], "key")) : text(parts[2], "the key of a storage");
  text(parts[3], "the location of a storage");
  std::int64_t count = integer(parts[4], "the length of a storage");
  auto size = static_cast<std::int64_t>(c10::elementSize(dtype));
  expect(count >= 0 && count <= std::numeric_limits<std::int64_t>::max() / size, "the length of a storage is impossible");
  std::uint64_t nbytes = static_cast<std::uint64_t>(count) * static_cast<std::uint64_t>(size);

  auto [number, added] = storage_numbers_.try_emplace(key, static_cast<std::uint32_t>(graph_.storages.size()));
  if (added) {
    graph_.charge(2 * key.size() + sizeof(StorageSpec) + 96);
    graph_.storages.push_back({.key = key, .dtype = dtype, .nbytes = nbytes, .position = opcode_at_});
  }
  expect(graph_.storages[number->second].nbytes == nbytes, "one storage is given two lengths");
  StorageView view{.storage = number->second, .nbytes = nbytes, .dtype = dtype, .untyped = untyped};
  if (parts.size() == 6 && !is(parts[5], NodeKind::none)) {
    expect(is(parts[5], NodeKind::tuple) && graph_.count(parts[5]) == 3, "the part of a storage is no tuple of 3");
    auto part = graph_.items(parts[5]);
    std::int64_t first = integer(part[1], "the start of a part of a storage");
    std::int64_t length = integer(part[2], "the length of a part of a storage");
    expect(first >= 0 && first <= count && length >= 0 && length <= count - first, "a part reaches beyond its storage");
    view.first_byte = static_cast<std::uint64_t>(first * size);
    view.nbytes = static_cast<std::uint64_t>(length * size);
  }
  graph_.charge(sizeof(StorageView));
  graph_.views.push_back(view);
  push_new({.kind = NodeKind::storage, .wide = graph_.views.size() - 1});
}

std::string Unpickler::text(NodeId id, std::string_view what) {
  if (!is(id, NodeKind::text)) fail(fmt::format("{} should be text", what));
  std::string content = content_of(graph_, source_, node(id));
  graph_.charge(content.size());  // for the time it takes: one text may be asked for again and again
  return content;
}

std::int64_t Unpickler::integer(NodeId id, std::string_view what) {
  if (!is(id, NodeKind::integer)) fail(fmt::format("{} should be an integer of 64 bits", what));
  return static_cast<std::int64_t>(node(id).wide);
}

std::string content_of(const PickleGraph& graph, const ByteSource& source, const Node& node) {
  if (node.form == TextForm::owned) return graph.strings[node.wide];
  std::string_view stored = source.read_so_far().substr(node.wide, node.small);
  switch (node.form) {
    case TextForm::latin1:
      return latin1_to_utf8(stored);
    case TextForm::narrow: {
      std::string bytes(*narrow_length(stored), '\0');
      narrow(stored, bytes.data());
      return bytes;
    }
    default:
      return std::string(stored);
  }
}

}  // namespace treadle
