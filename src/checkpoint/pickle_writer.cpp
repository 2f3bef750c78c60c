#include "checkpoint/pickle_writer.hpp"

#include "checkpoint/dtype_names.hpp"
#include "checkpoint/text_encoding.hpp"

#include <treadle/base/errors.hpp>

#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include <bit>
#include <deque>
#include <limits>
#include <set>

namespace treadle {

namespace {

// Python reads containers of any length at once, but its own writer makes batches of this size.
constexpr std::size_t kBatch = 1000;

/// Writes opcodes; remembers text and classes, so that a second occurrence takes 2 to 5 bytes.
class PickleWriter {
 public:
  PickledValue write(const Value& root) {
    find_storages(root);
    out_ = "\x80\x02";
    put(root);
    while (!open_.empty()) advance();
    out_.push_back('.');
    return {.pickle = std::move(out_), .storages = std::move(storages_)};
  }

 private:
  /// A container that is being written.
  struct Frame {
    const Value* container;
    std::size_t done = 0;
    std::size_t size = 0;
  };

  template <class Visit>
  static void visit_tensors(const Value& root, Visit visit) {
    std::vector<const Value*> pending{&root};
    while (!pending.empty()) {
      const Value& value = *pending.back();
      pending.pop_back();
      switch (value.type()) {
        case Value::Type::tensor:
          visit(value.as_tensor());
          break;
        case Value::Type::list:
          for (const Value& item : value.as_list()) pending.push_back(&item);
          break;
        case Value::Type::tuple:
          for (const Value& item : value.as_tuple()) pending.push_back(&item);
          break;
        case Value::Type::dict:
          for (const auto& entry : value.as_dict()) pending.push_back(&entry.value);
          break;
        default:
          break;
      }
    }
  }

  // A reader of the older form takes the dtype of the first tensor for all that share a storage: so it must be known beforehand
  // whether they agree.
  void find_storages(const Value& root) {
    visit_tensors(root, [this](const at::Tensor& tensor) {
      if (tensor.layout() == c10::kSparse) {
        uses_[tensor._indices().storage().unsafeGetStorageImpl()].insert(tensor._indices().scalar_type());
        uses_[tensor._values().storage().unsafeGetStorageImpl()].insert(tensor._values().scalar_type());
      } else if (by_channel(tensor)) {
        for (const at::Tensor& part : {tensor, tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()})
          uses_[part.storage().unsafeGetStorageImpl()].insert(part.scalar_type());
      } else if (tensor.layout() == c10::kStrided && tensor.has_storage()) {
        uses_[tensor.storage().unsafeGetStorageImpl()].insert(tensor.scalar_type());
      }
    });
  }

  static bool by_channel(const at::Tensor& tensor) { return tensor.is_quantized() && tensor.qscheme() != at::kPerTensorAffine; }

  void put(const Value& value) {
    switch (value.type()) {
      case Value::Type::null:
        out_.push_back('N');
        return;
      case Value::Type::boolean:
        put_bool(value.as_bool());
        return;
      case Value::Type::integer:
        put_integer(value.as_int());
        return;
      case Value::Type::real:
        put_real(value.as_double());
        return;
      case Value::Type::string:
        put_text(value.as_string());
        return;
      case Value::Type::bytes:
        put_bytes(value.as_bytes().data);
        return;
      case Value::Type::list:
        out_.push_back(']');
        return open(value, value.as_list().size());
      case Value::Type::tuple:
        if (value.as_tuple().empty()) return out_.push_back(')');
        if (value.as_tuple().size() > 3) out_.push_back('(');
        return open(value, value.as_tuple().size());
      case Value::Type::dict:
        out_.push_back('}');
        return open(value, value.as_dict().size());
      case Value::Type::tensor:
        put_tensor(value.as_tensor());
        return;
    }
  }

  void open(const Value& container, std::size_t size) {
    if (size > 0) open_.push_back({.container = &container, .size = size});
  }

  void advance() {
    Frame& frame = open_.back();
    const Value& container = *frame.container;
    bool tuple = container.is(Value::Type::tuple);
    char finish = container.is(Value::Type::dict) ? 'u' : 'e';
    if (frame.done == frame.size) {
      if (tuple) {
        out_.push_back(frame.size > 3 ? 't' : static_cast<char>(0x84 + frame.size));
      } else {
        out_.push_back(finish);
      }
      open_.pop_back();
      return;
    }
    std::size_t i = frame.done++;
    if (!tuple && i % kBatch == 0) {
      if (i > 0) out_.push_back(finish);
      out_.push_back('(');
    }
    switch (container.type()) {
      case Value::Type::list:
        return put(container.as_list()[i]);
      case Value::Type::tuple:
        return put(container.as_tuple()[i]);
      default:
        break;
    }
    const Dict::Entry& entry = container.as_dict().begin()[i];
    if (entry.key.is_string()) {
      put_text(entry.key.string());
    } else {
      put_integer(entry.key.integer());
    }
    put(entry.value);
  }

  void put_bool(bool value) { out_.push_back(static_cast<char>(value ? 0x88 : 0x89)); }

  template <class T>
  void put_number(T value) {
    out_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }

  void put_integer(std::int64_t value) {
    if (value >= 0 && value <= 0xff) {
      out_.push_back('K');
      put_number(static_cast<std::uint8_t>(value));
    } else if (value >= 0 && value <= 0xffff) {
      out_.push_back('M');
      put_number(static_cast<std::uint16_t>(value));
    } else if (std::in_range<std::int32_t>(value)) {
      out_.push_back('J');
      put_number(static_cast<std::int32_t>(value));
    } else {
      out_ += "\x8a\x08";
      put_number(value);
    }
  }

  void put_real(double value) {
    out_.push_back('G');
    put_number(__builtin_bswap64(std::bit_cast<std::uint64_t>(value)));
  }

  void put_text(const std::string& text) {
    if (recall(text_numbers_, text)) return;
    if (!is_utf8(text)) throw FormatError(fmt::format("text that is not UTF-8 cannot be saved: \"{}\"", latin1_to_utf8(text)));
    if (text.size() > std::numeric_limits<std::uint32_t>::max()) throw FormatError("text of 4 GiB or more cannot be saved");
    out_.push_back('X');
    put_number(static_cast<std::uint32_t>(text.size()));
    out_ += text;
    remember(text_numbers_, text);
  }

  // Protocol 2 has no byte strings: Python writes text whose characters are the bytes, and how to turn it back.
  void put_bytes(const std::string& bytes) {
    std::string text = latin1_to_utf8(bytes);
    if (text.size() > std::numeric_limits<std::uint32_t>::max()) throw FormatError("bytes of 2 GiB or more cannot be saved");
    put_global("_codecs", "encode");
    out_.push_back('X');
    put_number(static_cast<std::uint32_t>(text.size()));
    out_ += text;
    put_text("latin1");
    out_ += "\x86R";
  }

  void put_global(std::string_view module, std::string_view name) {
    std::string full = fmt::format("{}\n{}\n", module, name);
    if (recall(global_numbers_, full)) return;
    out_.push_back('c');
    out_ += full;
    remember(global_numbers_, full);
  }

  template <class Map, class K>
  bool recall(const Map& numbers, const K& key) {
    auto found = numbers.find(key);
    if (found == numbers.end()) return false;
    if (found->second <= 0xff) {
      out_.push_back('h');
      put_number(static_cast<std::uint8_t>(found->second));
    } else {
      out_.push_back('j');
      put_number(found->second);
    }
    return true;
  }

  template <class Map, class K>
  void remember(Map& numbers, const K& key) {
    std::uint32_t number = memo_size_++;
    numbers.emplace(key, number);
    if (number <= 0xff) {
      out_.push_back('q');
      put_number(static_cast<std::uint8_t>(number));
    } else {
      out_.push_back('r');
      put_number(number);
    }
  }

  void put_tensor(const at::Tensor& tensor) {
    if (recall(tensor_numbers_, tensor.unsafeGetTensorImpl())) return;
    if (tensor.layout() == c10::kSparse) {
      put_sparse(tensor);
    } else if (tensor.is_quantized()) {
      put_quantized(tensor);
    } else {
      put_strided(tensor);
    }
    remember(tensor_numbers_, tensor.unsafeGetTensorImpl());
  }

  void put_strided(const at::Tensor& tensor) {
    auto dtype = tensor.scalar_type();
    std::string_view name = name_of_dtype(dtype);
    if (tensor.layout() != c10::kStrided || tensor.is_meta() || !tensor.has_storage() || name.empty()) {
      throw FormatError(fmt::format("a tensor of dtype {}, layout number {}, on {} cannot be saved", c10::toString(dtype),
                                    static_cast<int>(tensor.layout()), tensor.device().str()));
    }
    c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
    std::uint64_t nbytes = tensor.storage().nbytes();
    std::string_view storage_class = storage_class_of_dtype(dtype);
    bool typed = !storage_class.empty() && uses_[storage].size() == 1 && nbytes % tensor.element_size() == 0;
    put_global("torch._utils", typed ? "_rebuild_tensor_v2" : "_rebuild_tensor_v3");
    out_.push_back('(');
    put_storage(tensor, typed ? storage_class : std::string_view());
    put_no_hooks();
    if (!typed) put_global("torch", name);
    if (tensor.is_conj() || tensor.is_neg()) {
      out_ += "}(";
      if (tensor.is_conj()) put_text("conj"), put_bool(true);
      if (tensor.is_neg()) put_text("neg"), put_bool(true);
      out_.push_back('u');
    }
    out_ += "tR";
  }

  /// Its storage, of a class or untyped, and where it lies there.
  void put_storage(const at::Tensor& tensor, std::string_view storage_class) {
    const bool typed = !storage_class.empty();
    const std::uint64_t nbytes = tensor.storage().nbytes();
    out_.push_back('(');
    put_text("storage");
    typed ? put_global("torch", storage_class) : put_global("torch.storage", "UntypedStorage");
    put_text(std::to_string(number_of(tensor.storage())));
    put_text("cpu");
    put_integer(static_cast<std::int64_t>(typed ? nbytes / tensor.element_size() : nbytes));
    out_ += "tQ";
    put_integer(tensor.storage_offset());
    put_shape(tensor.sizes());
    put_shape(tensor.strides());
  }

  void put_no_hooks() {
    put_bool(false);
    put_global("collections", "OrderedDict");
    out_ += ")R";
  }

  void put_quantized(const at::Tensor& tensor) {
    const std::string_view storage_class = storage_class_of_dtype(tensor.scalar_type());
    if (storage_class.empty()) {
      throw FormatError(fmt::format("a tensor of dtype {} cannot be saved: of quantized ones qint8, quint8 and qint32 can",
                                    c10::toString(tensor.scalar_type())));
    }
    if (uses_[tensor.storage().unsafeGetStorageImpl()].size() != 1)
      throw FormatError("a quantized tensor that shares its memory with a tensor of another dtype cannot be saved");
    put_global("torch._utils", "_rebuild_qtensor");
    out_.push_back('(');
    put_storage(tensor, storage_class);
    if (by_channel(tensor)) {
      out_.push_back('(');
      // Python writes this name for zero points that are floats too; their dtype tells.
      put_global("torch", "per_channel_affine");
      put_strided(tensor.q_per_channel_scales());
      put_strided(tensor.q_per_channel_zero_points());
      put_integer(tensor.q_per_channel_axis());
      out_.push_back('t');
    } else {
      put_global("torch", "per_tensor_affine");
      put_real(tensor.q_scale());
      put_integer(tensor.q_zero_point());
      out_.push_back(static_cast<char>(0x87));
    }
    put_no_hooks();
    out_ += "tR";
  }

  void put_sparse(const at::Tensor& tensor) {
    put_global("torch._utils", "_rebuild_sparse_tensor");
    put_global("torch.serialization", "_get_layout");
    put_text("torch.sparse_coo");
    out_ += "\x85R(";
    put_strided(tensor._indices());
    put_strided(tensor._values());
    put_global("torch", "Size");
    put_shape(tensor.sizes());
    out_ += "\x85R";
    put_bool(tensor.is_coalesced());
    out_ += "t\x86R";
  }

  void put_shape(c10::IntArrayRef numbers) {
    if (numbers.empty()) return out_.push_back(')');
    if (numbers.size() > 3) out_.push_back('(');
    for (std::int64_t number : numbers) put_integer(number);
    out_.push_back(numbers.size() > 3 ? 't' : static_cast<char>(0x84 + numbers.size()));
  }

  std::uint32_t number_of(const c10::Storage& storage) {
    auto [found, added] =
        storage_numbers_.try_emplace(storage.unsafeGetStorageImpl(), static_cast<std::uint32_t>(storages_.size()));
    if (added) storages_.push_back(storage);
    return found->second;
  }

  std::string out_;
  std::deque<Frame> open_;
  std::vector<c10::Storage> storages_;
  std::unordered_map<c10::StorageImpl*, std::set<c10::ScalarType>> uses_;
  std::unordered_map<c10::StorageImpl*, std::uint32_t> storage_numbers_;
  std::unordered_map<std::string, std::uint32_t> text_numbers_;
  std::unordered_map<std::string, std::uint32_t> global_numbers_;
  std::unordered_map<c10::TensorImpl*, std::uint32_t> tensor_numbers_;
  std::uint32_t memo_size_ = 0;
};

}  // namespace

PickledValue pickle_value(const Value& value) { return PickleWriter().write(value); }

}  // namespace treadle
