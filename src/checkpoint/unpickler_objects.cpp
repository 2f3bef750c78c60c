#include "checkpoint/dtype_names.hpp"
#include "checkpoint/text_encoding.hpp"
#include "checkpoint/unpickler.hpp"

#include <fmt/format.h>

#include <bit>

namespace treadle {

NodeId Unpickler::make(NodeId callable, NodeId arguments) {
  if (is(callable, NodeKind::opaque)) {
    // The name is the value of the first entry of every opaque object.
    const Link& name = graph_.link(graph_.link(graph_.first_link(callable)).next);
    NodeId made = opaque(content_of(graph_, source_, node(name.node)));
    describe_opaque(made, "args", arguments);
    return made;
  }
  expect(is(callable, NodeKind::global), "something that is no class or function is called");
  expect(is(arguments, NodeKind::tuple), "the arguments of a call are no tuple");
  expect(graph_.count(arguments) <= 16, "a call with more than 16 arguments");
  auto list = graph_.items(arguments);
  auto global = static_cast<Global>(node(callable).small);
  switch (global) {
    case Global::ordered_dict:
    case Global::counter:
      return make_dict(list);
    case Global::default_dict:
      expect(list.empty() || is(list[0], NodeKind::none) || is(list[0], NodeKind::global) || is(list[0], NodeKind::opaque),
             "a defaultdict with a strange default");
      return make_dict(list.size() < 2 ? std::vector<NodeId>{} : std::vector<NodeId>(list.begin() + 1, list.end()));
    case Global::set:
    case Global::frozen_set:
      return make_set(list);
    case Global::byte_array:
    case Global::bytes:
      return make_bytes(list);
    case Global::encode:
      return make_encoded(list);
    case Global::complex:
      return make_complex(list);
    case Global::size:
      if (list.empty()) return arguments;
      expect(list.size() == 1 && (is(list[0], NodeKind::tuple) || is(list[0], NodeKind::list)),
             "a torch.Size of something else than a tuple");
      expect(graph_.count(list[0]) <= 64, "a torch.Size of more than 64 entries");
      for (NodeId item : graph_.items(list[0])) integer(item, "an entry of a torch.Size");
      return list[0];
    case Global::device:
      return make_device(list);
    case Global::get_layout:
      expect(list.size() == 1, "a layout needs one name");
      text(list[0], "the name of a layout");
      return list[0];
    case Global::rebuild_tensor:
    case Global::rebuild_tensor_v2:
    case Global::rebuild_tensor_v3:
      return make_tensor(global, list);
    case Global::rebuild_quantized:
      return make_quantized(list);
    case Global::rebuild_from_type:
      // (function, class, its arguments, attributes); attributes are no data.
      expect(list.size() == 4 && is_global(list[1], Global::tensor_class), "a tensor of a class of its own");
      expect(is_global(list[0], Global::rebuild_tensor_v2) || is_global(list[0], Global::rebuild_parameter),
             "a tensor that is built by something else than torch");
      return make(list[0], list[2]);
    case Global::rebuild_parameter:
      return make_parameter(list, 3);
    case Global::rebuild_parameter_with_state:
      return make_parameter(list, 4);
    case Global::rebuild_sparse:
      return make_sparse(list);
    case Global::numpy_reconstruct:
    case Global::numpy_dtype:
    case Global::numpy_scalar:
    case Global::numpy_from_buffer:
      return make_numpy(global, list);
    default:
      fail(fmt::format("the class {} is used as a function", to_string(global)));
  }
}

NodeId Unpickler::make_dict(const std::vector<NodeId>& arguments) {
  NodeId dict = graph_.add({.kind = NodeKind::dict, .ordered = true});
  if (arguments.empty()) return dict;
  expect(arguments.size() == 1, "a dict is made of more than one argument");
  NodeId from = arguments[0];
  graph_.charge(8 * sizeof(NodeId) * graph_.count(from));  // of the copies below
  std::vector<NodeId> items;
  if (is(from, NodeKind::dict)) {
    items = graph_.items(from);
  } else {
    expect(is(from, NodeKind::list) || is(from, NodeKind::tuple), "a dict is made of something that is neither dict nor list");
    for (NodeId pair : graph_.items(from)) {
      expect((is(pair, NodeKind::list) || is(pair, NodeKind::tuple)) && graph_.count(pair) == 2,
             "a dict is made of something else than pairs");
      for (NodeId part : graph_.items(pair)) items.push_back(part);
    }
  }
  for (std::size_t i = 0; i < items.size(); i += 2) set_item(dict, items[i], items[i + 1]);
  return dict;
}

NodeId Unpickler::make_set(const std::vector<NodeId>& arguments) {
  NodeId set = graph_.add({.kind = NodeKind::set});
  if (arguments.empty()) return set;
  expect(arguments.size() == 1, "a set is made of more than one argument");
  NodeKind kind = node(arguments[0]).kind;
  expect(kind == NodeKind::list || kind == NodeKind::tuple || kind == NodeKind::set,
         "a set is made of something that is no list");
  graph_.charge(sizeof(NodeId) * graph_.count(arguments[0]));
  for (NodeId item : graph_.items(arguments[0])) {
    NodeKind of = node(item).kind;
    expect(of != NodeKind::list && of != NodeKind::dict && of != NodeKind::set, "a set holds something that can change");
    graph_.append(set, item);
  }
  return set;
}

NodeId Unpickler::make_bytes(const std::vector<NodeId>& arguments) {
  if (arguments.empty()) return graph_.add_owned(NodeKind::bytes, {});
  if (is(arguments[0], NodeKind::text)) return make_encoded(arguments);
  expect(arguments.size() == 1 && is(arguments[0], NodeKind::bytes), "bytes are made of something that is no bytes");
  return arguments[0];
}

// Protocol 2 has no byte strings: Python writes them as text whose characters are the bytes.
NodeId Unpickler::make_encoded(const std::vector<NodeId>& arguments) {
  expect(arguments.size() == 2, "an encoding needs text and a name");
  std::string codec = text(arguments[1], "the name of an encoding");
  if (codec != "latin1" && codec != "latin-1") fail(fmt::format("the encoding \"{}\"; bytes travel as latin1", codec));
  expect(is(arguments[0], NodeKind::text), "an encoding needs text");
  graph_.charge(node(arguments[0]).small);  // for the time it takes: one text may be encoded again and again
  Node bytes = node(arguments[0]);
  bytes.kind = NodeKind::bytes;
  if (bytes.form == TextForm::latin1) {
    bytes.form = TextForm::raw;
  } else {
    std::string_view stored = bytes.form == TextForm::owned ? std::string_view(graph_.strings[bytes.wide])
                                                            : source_.read_so_far().substr(bytes.wide, bytes.small);
    expect(narrow_length(stored).has_value(), "bytes hold a character beyond 255");
    if (bytes.form == TextForm::raw) bytes.form = TextForm::narrow;
  }
  return graph_.add(bytes);
}

NodeId Unpickler::make_complex(const std::vector<NodeId>& arguments) {
  expect(arguments.size() == 2 && is(arguments[0], NodeKind::real) && is(arguments[1], NodeKind::real),
         "a complex number needs two floats");
  NodeId tuple = graph_.add({.kind = NodeKind::tuple});
  for (NodeId part : arguments) graph_.append(tuple, part);
  return tuple;
}

NodeId Unpickler::make_device(const std::vector<NodeId>& arguments) {
  expect(arguments.size() == 1 || arguments.size() == 2, "a device needs a type and perhaps a number");
  std::string name = text(arguments[0], "the type of a device");
  if (arguments.size() == 2) name += fmt::format(":{}", integer(arguments[1], "the number of a device"));
  return graph_.add_owned(NodeKind::text, std::move(name));
}

// (storage, offset, sizes, strides[, requires_grad, hooks[, dtype][, {"conj", "neg"}]]), depending on the version.
NodeId Unpickler::make_tensor(Global global, const std::vector<NodeId>& arguments) {
  bool first = global == Global::rebuild_tensor;
  bool third = global == Global::rebuild_tensor_v3;
  std::size_t least = first ? 4 : third ? 7 : 6;
  expect(arguments.size() == least || (!first && arguments.size() == least + 1), "a tensor with the wrong number of arguments");
  expect(is(arguments[0], NodeKind::storage), "a tensor without a storage");
  expect(is(arguments[2], NodeKind::tuple) && is(arguments[3], NodeKind::tuple), "the sizes or strides of a tensor are no tuple");
  TensorSpec spec{.view = static_cast<std::uint32_t>(node(arguments[0]).wide),
                  .sizes = arguments[2],
                  .strides = arguments[3],
                  .offset = integer(arguments[1], "the offset of a tensor"),
                  .position = opcode_at_};
  const StorageView& view = graph_.views[spec.view];
  if (!first) expect_no_hooks(arguments[4], arguments[5]);
  if (third) {
    expect(is_global(arguments[6], Global::dtype), "a tensor without a dtype");
    spec.dtype = static_cast<c10::ScalarType>(node(arguments[6]).wide);
  } else {
    expect(!view.untyped, "a tensor without a dtype");
    spec.dtype = view.dtype;
  }
  expect(!c10::isQIntType(spec.dtype), "a quantized tensor without its scales");
  if (arguments.size() > least && !is(arguments[least], NodeKind::none)) {
    expect(is(arguments[least], NodeKind::dict) && graph_.count(arguments[least]) <= 16,
           "the properties of a tensor are no small dict");
    auto properties = graph_.items(arguments[least]);
    for (std::size_t i = 0; i < properties.size(); i += 2) {
      std::string name = text(properties[i], "the name of a property");
      expect(is(properties[i + 1], NodeKind::boolean), "a property of a tensor is no bool");
      bool on = node(properties[i + 1]).wide != 0;
      if (name == "conj") {
        spec.conjugate = on;
      } else if (name == "neg") {
        spec.negative = on;
      } else {
        fail(fmt::format("a tensor with the property \"{}\"", name));
      }
    }
  }
  graph_.charge(sizeof(TensorSpec));
  graph_.tensors.push_back(spec);
  return graph_.add({.kind = NodeKind::tensor, .wide = graph_.tensors.size() - 1});
}

void Unpickler::expect_no_hooks(NodeId requires_grad, NodeId hooks) {
  expect(is(requires_grad, NodeKind::boolean), "requires_grad of a tensor is no bool");
  expect(is(hooks, NodeKind::dict) || is(hooks, NodeKind::none), "the hooks of a tensor are no dict");
  expect(is(hooks, NodeKind::none) || graph_.count(hooks) == 0, "a tensor has hooks");
}

// (storage, offset, sizes, strides, quantizer, requires_grad, hooks), where the quantizer is (per_tensor_affine, scale, zero
// point) or (per_channel_affine, scales, zero points, axis).
NodeId Unpickler::make_quantized(const std::vector<NodeId>& arguments) {
  expect(arguments.size() == 7, "a quantized tensor with the wrong number of arguments");
  expect(is(arguments[0], NodeKind::storage), "a quantized tensor without a storage");
  expect(is(arguments[2], NodeKind::tuple) && is(arguments[3], NodeKind::tuple),
         "the sizes or strides of a quantized tensor are no tuple");
  expect(is(arguments[4], NodeKind::tuple) && graph_.count(arguments[4]) >= 3 && graph_.count(arguments[4]) <= 4,
         "the quantizer of a tensor is no tuple of 3 or 4");
  expect_no_hooks(arguments[5], arguments[6]);
  const StorageView& view = graph_.views[node(arguments[0]).wide];
  expect(!view.untyped && c10::isQIntType(view.dtype), "a quantized tensor with a storage of plain numbers");

  const auto parts = graph_.items(arguments[4]);
  QuantizerSpec quantizer;
  quantizer.per_channel = parts.size() == 4;
  if (quantizer.per_channel) {
    expect(is_global(parts[0], Global::per_channel_affine) || is_global(parts[0], Global::per_channel_float),
           "an unknown way to quantize by channel");
    expect(is(parts[1], NodeKind::tensor) && is(parts[2], NodeKind::tensor),
           "the scales or zero points of a quantized tensor are no tensors");
    quantizer.scales = parts[1];
    quantizer.zero_points = parts[2];
    quantizer.axis = integer(parts[3], "the axis of a quantized tensor");
  } else {
    expect(is_global(parts[0], Global::per_tensor_affine), "an unknown way to quantize");
    expect(is(parts[1], NodeKind::real), "the scale of a quantized tensor is no float");
    quantizer.scale = std::bit_cast<double>(node(parts[1]).wide);
    quantizer.zero_point = integer(parts[2], "the zero point of a quantized tensor");
  }
  graph_.charge(sizeof(TensorSpec) + sizeof(QuantizerSpec));
  graph_.quantizers.push_back(quantizer);
  graph_.tensors.push_back({.view = static_cast<std::uint32_t>(node(arguments[0]).wide),
                            .sizes = arguments[2],
                            .strides = arguments[3],
                            .offset = integer(arguments[1], "the offset of a tensor"),
                            .position = opcode_at_,
                            .dtype = view.dtype,
                            .quantizer = static_cast<std::uint32_t>(graph_.quantizers.size() - 1)});
  return graph_.add({.kind = NodeKind::tensor, .wide = graph_.tensors.size() - 1});
}

NodeId Unpickler::make_parameter(const std::vector<NodeId>& arguments, std::size_t count) {
  expect(arguments.size() == count, "a parameter with the wrong number of arguments");
  expect(is(arguments[0], NodeKind::tensor) || is(arguments[0], NodeKind::sparse), "a parameter without a tensor");
  expect(is(arguments[1], NodeKind::boolean), "requires_grad of a parameter is no bool");
  expect(is(arguments[2], NodeKind::none) || (is(arguments[2], NodeKind::dict) && graph_.count(arguments[2]) == 0),
         "a parameter has hooks");
  return arguments[0];
}

// (layout, (indices, values, size[, is_coalesced]))
NodeId Unpickler::make_sparse(const std::vector<NodeId>& arguments) {
  expect(arguments.size() == 2 && is(arguments[1], NodeKind::tuple), "a sparse tensor with the wrong arguments");
  std::string layout = text(arguments[0], "the layout of a sparse tensor");
  if (layout != "torch.sparse_coo") fail(fmt::format("a sparse tensor of layout {}; only torch.sparse_coo is read", layout));
  auto parts = graph_.items(arguments[1]);
  expect(parts.size() == 3 || parts.size() == 4, "a sparse tensor with the wrong number of parts");
  expect(is(parts[0], NodeKind::tensor) && is(parts[1], NodeKind::tensor), "a sparse tensor without indices or values");
  expect(is(parts[2], NodeKind::tuple), "the size of a sparse tensor is no tuple");
  NodeId sparse = graph_.add({.kind = NodeKind::sparse});
  for (std::size_t i = 0; i < 3; ++i) graph_.append(sparse, parts[i]);
  if (parts.size() == 4 && !is(parts[3], NodeKind::none)) {
    expect(is(parts[3], NodeKind::boolean), "is_coalesced of a sparse tensor is no bool");
    graph_.append(sparse, parts[3]);
  }
  return sparse;
}

NodeId Unpickler::make_numpy(Global global, const std::vector<NodeId>& arguments) {
  if (global == Global::numpy_dtype) {
    expect(!arguments.empty() && arguments.size() <= 3, "a numpy dtype with the wrong number of arguments");
    std::string name = text(arguments[0], "the name of a numpy dtype");
    auto dtype = dtype_of_numpy(name);
    if (!dtype) fail(fmt::format("numpy arrays of type \"{}\" have no place in a tensor", name));
    graph_.charge(sizeof(ArrayType));
    graph_.array_types.push_back({.dtype = *dtype});
    return graph_.add({.kind = NodeKind::dtype, .wide = graph_.array_types.size() - 1});
  }
  ArraySpec spec;
  spec.position = opcode_at_;
  auto take_type = [&](NodeId id) {
    expect(is(id, NodeKind::dtype), "a numpy array without a dtype");
    spec.type = graph_.array_types[node(id).wide];
  };
  if (global == Global::numpy_reconstruct) {
    expect(arguments.size() == 3 && is_global(arguments[0], Global::numpy_array), "a numpy array of a class of its own");
    expect(is(arguments[1], NodeKind::tuple) && graph_.count(arguments[1]) == 1 &&
               integer(graph_.items(arguments[1])[0], "the first size of a numpy array") == 0,
           "a numpy array that is not empty before its content comes");
  } else if (global == Global::numpy_scalar) {
    expect(arguments.size() == 2, "a numpy scalar needs a dtype and bytes");
    take_type(arguments[0]);
    spec.data = arguments[1];
    spec.shape = graph_.add({.kind = NodeKind::tuple});
    spec.built = spec.scalar = true;
  } else {
    expect(arguments.size() == 4 || arguments.size() == 5, "a numpy array with the wrong number of arguments");
    take_type(arguments[1]);
    spec.data = arguments[0];
    spec.shape = arguments[2];
    std::string order = text(arguments[3], "the order of a numpy array");
    // "K" keeps the order of memory: the content in the shape of that order, then the axes permuted.
    bool permuted = order == "K" && arguments.size() == 5 && is(arguments[4], NodeKind::tuple);
    expect(order == "C" || order == "F" || permuted, "the order of a numpy array is neither C nor F nor K with axes");
    if (permuted) spec.axes = arguments[4];
    spec.fortran = order == "F";
    spec.built = true;
  }
  if (spec.built)
    expect(is(spec.data, NodeKind::bytes) || is(spec.data, NodeKind::text), "the content of a numpy array is no bytes");
  if (spec.built) expect(is(spec.shape, NodeKind::tuple), "the shape of a numpy array is no tuple");
  graph_.charge(sizeof(ArraySpec));
  graph_.arrays.push_back(spec);
  return graph_.add({.kind = NodeKind::array, .wide = graph_.arrays.size() - 1});
}

void Unpickler::build(NodeId object, NodeId state) {
  switch (node(object).kind) {
    case NodeKind::dict:
      // An OrderedDict may carry attributes, such as the versions of a state dict's modules; they are no data.
      expect(node(object).ordered, "a plain dict is given a state");
      expect(is(state, NodeKind::dict), "the state of an OrderedDict is no dict");
      return;
    case NodeKind::dtype:
      return build_dtype(object, state);
    case NodeKind::array:
      return build_array(object, state);
    case NodeKind::opaque:
      return describe_opaque(object, "state", state);
    default:
      fail("an object that takes no state is given one");
  }
}

// (version, byte order, sub-array, names, fields, size, alignment, flags, …); plain types have -1 or None for what they lack.
void Unpickler::build_dtype(NodeId object, NodeId state) {
  expect(is(state, NodeKind::tuple) && graph_.count(state) >= 8, "the state of a numpy dtype is no tuple of 8");
  auto parts = graph_.items(state);
  integer(parts[0], "the version of a numpy dtype");
  std::string order = text(parts[1], "the byte order of a numpy dtype");
  expect(order == "<" || order == ">" || order == "|" || order == "=", "the byte order of a numpy dtype is unknown");
  for (std::size_t i = 2; i < 5; ++i) expect(is(parts[i], NodeKind::none), "a numpy dtype with fields");
  graph_.array_types[node(object).wide].swapped = order == ">";
}

// (version, shape, dtype, is Fortran-ordered, content)
void Unpickler::build_array(NodeId object, NodeId state) {
  expect(is(state, NodeKind::tuple) && graph_.count(state) == 5, "the state of a numpy array is no tuple of 5");
  auto parts = graph_.items(state);
  expect(integer(parts[0], "the version of a numpy array") == 1, "a numpy array of an unknown version");
  expect(is(parts[1], NodeKind::tuple), "the shape of a numpy array is no tuple");
  expect(is(parts[2], NodeKind::dtype), "a numpy array without a dtype");
  expect(is(parts[3], NodeKind::boolean) || is(parts[3], NodeKind::integer), "the order of a numpy array is no bool");
  expect(is(parts[4], NodeKind::bytes) || is(parts[4], NodeKind::text), "the content of a numpy array is no bytes");
  ArraySpec& spec = graph_.arrays[node(object).wide];
  expect(!spec.built, "a numpy array gets its content twice");
  spec.built = true;
  spec.shape = parts[1];
  spec.type = graph_.array_types[node(parts[2]).wide];
  spec.fortran = node(parts[3]).wide != 0;
  spec.data = parts[4];
}

NodeId Unpickler::opaque(std::string name) {
  NodeId object = graph_.add({.kind = NodeKind::opaque});
  graph_.append(object, graph_.add_owned(NodeKind::text, "__opaque__"));
  graph_.append(object, graph_.add_owned(NodeKind::text, std::move(name)));
  return object;
}

void Unpickler::describe_opaque(NodeId object, std::string_view key, NodeId value) {
  graph_.append(object, graph_.add_owned(NodeKind::text, std::string(key)));
  graph_.append(object, value);
}

}  // namespace treadle
