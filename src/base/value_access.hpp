#pragma once

#include <treadle/base/value.hpp>

#include <utility>
#include <vector>

namespace treadle {

/// Reaches into containers so that copying, comparing and destroying can walk a tree with a stack of their own.
struct ValueAccess {
  template <class Tag>
  static std::vector<Value>& items(Sequence<Tag>& sequence) noexcept {
    return sequence.items_;
  }
  template <class Tag>
  static const std::vector<Value>& items(const Sequence<Tag>& sequence) noexcept {
    return sequence.items_;
  }
  static std::vector<Dict::Entry>& entries(Dict& dict) noexcept { return dict.entries_; }
  static const std::vector<Dict::Entry>& entries(const Dict& dict) noexcept { return dict.entries_; }

  static bool is_nonempty_container(const Value& value) noexcept {
    switch (value.type()) {
      case Value::Type::list:
        return !std::get<List>(value.data_).items_.empty();
      case Value::Type::tuple:
        return !std::get<Tuple>(value.data_).items_.empty();
      case Value::Type::dict:
        return !std::get<Dict>(value.data_).entries_.empty();
      default:
        return false;
    }
  }

  static void move_children(Value& value, std::vector<Value>& into) {
    if (auto* list = std::get_if<List>(&value.data_)) move_items(list->items_, into);
    if (auto* tuple = std::get_if<Tuple>(&value.data_)) move_items(tuple->items_, into);
    if (auto* dict = std::get_if<Dict>(&value.data_)) move_entries(dict->entries_, into);
  }
  static void move_items(std::vector<Value>& items, std::vector<Value>& into) {
    for (Value& item : items) {
      if (is_nonempty_container(item)) into.push_back(std::move(item));
    }
    items.clear();
  }
  static void move_entries(std::vector<Dict::Entry>& entries, std::vector<Value>& into) {
    for (Dict::Entry& entry : entries) {
      if (is_nonempty_container(entry.value)) into.push_back(std::move(entry.value));
    }
    entries.clear();
  }

  // Takes containers apart one level at a time, so that a chain of a million nested lists does not exhaust the stack.
  static void destroy(std::vector<Value>& pending) noexcept {
    while (!pending.empty()) {
      Value value = std::move(pending.back());
      pending.pop_back();
      move_children(value, pending);
    }
  }

  struct Copy {
    const Value* from;
    Value* to;
  };
  template <class TensorCopy>
  static void copy(std::vector<Copy> pending, const TensorCopy& copy_tensor) {
    while (!pending.empty()) {
      auto [from, to] = pending.back();
      pending.pop_back();
      switch (from->type()) {
        case Value::Type::list:
          copy_items(std::get<List>(from->data_), to->data_.emplace<List>(), pending, copy_tensor);
          break;
        case Value::Type::tuple:
          copy_items(std::get<Tuple>(from->data_), to->data_.emplace<Tuple>(), pending, copy_tensor);
          break;
        case Value::Type::dict:
          copy_entries(std::get<Dict>(from->data_), to->data_.emplace<Dict>(), pending, copy_tensor);
          break;
        default:
          copy_leaf(*from, *to, copy_tensor);
      }
    }
  }
  template <class TensorCopy>
  static void copy_leaf(const Value& from, Value& to, const TensorCopy& copy_tensor) {
    if (const auto* tensor = std::get_if<at::Tensor>(&from.data_)) {
      to.data_ = copy_tensor(*tensor);
    } else {
      to.data_ = from.data_;
    }
  }
  // Only containers that hold something wait for their turn: a flat Dict is copied with one allocation.
  template <class TensorCopy>
  static void copy_or_wait(const Value& from, Value& to, std::vector<Copy>& pending, const TensorCopy& copy_tensor) {
    if (is_nonempty_container(from)) {
      pending.push_back({&from, &to});
    } else {
      copy_leaf(from, to, copy_tensor);
    }
  }
  template <class Tag, class TensorCopy>
  static void copy_items(const Sequence<Tag>& from, Sequence<Tag>& to, std::vector<Copy>& pending,
                         const TensorCopy& copy_tensor) {
    to.items_.resize(from.items_.size());
    for (std::size_t i = 0; i < from.items_.size(); ++i) copy_or_wait(from.items_[i], to.items_[i], pending, copy_tensor);
  }
  template <class TensorCopy>
  static void copy_entries(const Dict& from, Dict& to, std::vector<Copy>& pending, const TensorCopy& copy_tensor) {
    to.entries_.reserve(from.entries_.size());
    for (const Dict::Entry& entry : from.entries_) {
      to.entries_.push_back({entry.key, Value()});
      to.index_last();
    }
    for (std::size_t i = 0; i < from.entries_.size(); ++i)
      copy_or_wait(from.entries_[i].value, to.entries_[i].value, pending, copy_tensor);
  }
};

}  // namespace treadle
