#pragma once

#include <treadle/base/value.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace treadle {

/// A read-only look into a Value that remembers the way it went, so that an error says where it happened:
///
///     ValueView state(checkpoint, "model_final.pth");
///     double best = state["trainer"]["treadle_hooks"]["BestCheckpointer"]["best_metric"].as_double();
///     // FormatError: model_final.pth: expected a float, found string at
///     // "trainer.treadle_hooks.BestCheckpointer.best_metric"
///
/// Borrows the Value: it must outlive every view into it. A value type; any thread.
class ValueView {
 public:
  /// `source` (a file, a hook's name) opens the error message when it is not empty.
  explicit ValueView(const Value& root, std::string source = {});
  /// The Dict is borrowed, not copied.
  explicit ValueView(const Dict& root, std::string source = {});

  /// The element under `key`; FormatError when this is no Dict or has no such key.
  ValueView operator[](const Key& key) const;
  /// The element at `index`; FormatError when this is no List or Tuple, or is shorter.
  ValueView item(std::size_t index) const;
  /// The element under `key`, or nothing when it is absent; FormatError when this is no Dict.
  std::optional<ValueView> find(const Key& key) const;
  bool contains(const Key& key) const { return find(key).has_value(); }
  /// The number of elements of a Dict, List or Tuple.
  std::size_t size() const;

  bool is(Value::Type type) const noexcept;
  bool as_bool() const;
  std::int64_t as_int() const;
  double as_double() const;
  const std::string& as_string() const;
  const Bytes& as_bytes() const;
  const List& as_list() const;
  const Tuple& as_tuple() const;
  const Dict& as_dict() const;
  const at::Tensor& as_tensor() const;

  /// The path from the root, as in `trainer.hooks.LRScheduler` or `model.layers[3]`; empty for the root.
  const std::string& path() const noexcept { return path_; }
  /// Throws FormatError: `problem` at this view's path.
  [[noreturn]] void fail(const std::string& problem) const;

 private:
  ValueView(const Value* value, const Dict* dict, std::string source, std::string path);
  template <class T>
  const T& expect(const T* found, std::string_view wanted) const;

  const Value* value_;  // null when the root is a bare Dict
  const Dict* dict_;
  std::string source_;
  std::string path_;
};

}  // namespace treadle
