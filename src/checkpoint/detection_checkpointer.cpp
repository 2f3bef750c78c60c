#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/base/text.hpp>
#include <treadle/checkpoint/detection_checkpointer.hpp>
#include <treadle/checkpoint/file.hpp>

#include <c10/util/ScopeExit.h>
#include <fmt/format.h>

#include <algorithm>

#include "checkpoint/model_loading.hpp"
#include "checkpoint/name_matching.hpp"

namespace treadle {

namespace {

struct Query {
  bool matching_heuristics = false;
  std::vector<std::string> others;
};

// "a=1&b=2"; a part without a value says nothing, as in Python's parse_qs.
Query parse_query(const std::string& text) {
  Query query;
  std::vector<std::string> heuristics;
  for (std::size_t from = 0; from < text.size();) {
    const std::size_t end = std::min(text.find('&', from), text.size());
    const std::string part = text.substr(from, end - from);
    from = end + 1;
    const std::size_t equals = part.find('=');
    if (equals == std::string::npos || equals + 1 == part.size()) continue;
    const std::string name = part.substr(0, equals), value = part.substr(equals + 1);
    if (name != "matching_heuristics") {
      query.others.push_back(name);
    } else if (value == "True" || value == "False") {
      heuristics.push_back(value);
    } else {
      query.others.push_back(part);
    }
  }
  query.matching_heuristics = heuristics == std::vector<std::string>{"True"};
  return query;
}

/// Where the query of `path` begins: at a '?' in the name of the file, since a folder may have one in its own.
std::size_t query_start(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return std::min(path.find('?', slash == std::string::npos ? 0 : slash), path.size());
}

Dict expect_dict(Value value, const std::string& path, const std::string& what) {
  if (!value.is(Value::Type::dict)) throw FormatError(fmt::format("{} is a {}, no dict", what, to_string(value.type())), path);
  return std::move(value.as_dict());
}

Dict without(const Dict& state, std::string_view suffix) {
  Dict kept;
  for (const auto& entry : state) {
    if (!entry.key.is_string() || !entry.key.string().ends_with(suffix)) kept.set(entry.key, entry.value);
  }
  return kept;
}

bool is_true(const Value* value) { return value && value->is(Value::Type::boolean) && value->as_bool(); }

Dict from_pickle(Dict data, const std::string& path) {
  const Value* author = data.find("__author__");
  if (author && data.contains("model")) {
    log_info(fmt::format("Reading a file from '{}'", author->is(Value::Type::string) ? author->as_string() : describe(*author)));
    return data;
  }
  // Detection models keep their weights under "blobs", classifiers do not.
  if (const Value* blobs = data.find("blobs")) data = expect_dict(*blobs, path, "\"blobs\"");
  return {{"model", without(data, "_momentum")}, {"__author__", "Caffe2"}, {"matching_heuristics", true}};
}

}  // namespace

Dict DetectionCheckpointer::load(const std::string& path, const std::optional<std::vector<std::string>>& checkpointables) {
  log_info(fmt::format("[DetectionCheckpointer] Loading from {} ...", path));
  const std::size_t question = query_start(path);
  query_ = path.substr(std::min(question + 1, path.size()));
  const auto forget_query = c10::make_scope_exit([this] { query_.clear(); });
  return Checkpointer::load(path.substr(0, question), checkpointables);
}

Dict DetectionCheckpointer::load_file(const std::string& path) {
  Dict data = read_layout(path);
  const Query query = parse_query(query_);
  if (query.matching_heuristics) data.set("matching_heuristics", true);
  if (!query.others.empty() && !path.ends_with(".pkl") && !path.ends_with(".pyth")) {
    throw ConfigError(fmt::format("\"{}\" asks for {}; only matching_heuristics=True is known", path + "?" + query_,
                                  quoted_list(query.others)));
  }
  return data;
}

Dict DetectionCheckpointer::read_layout(const std::string& path) {
  if (path.ends_with(".pkl")) {
    return from_pickle(expect_dict(load_checkpoint_file(path, {.file_system = file_system()}), path, "the content"), path);
  }
  Dict data = expect_dict(torch_load(path), path, "the content");
  if (path.ends_with(".safetensors")) data = Dict{{"model", std::move(data)}};
  if (path.ends_with(".pyth")) {
    const Value* state = data.find("model_state");
    if (!state) throw FormatError("a checkpoint of pycls should have \"model_state\"", path);
    return {{"model", without(expect_dict(*state, path, "\"model_state\""), "num_batches_tracked")},
            {"__author__", "pycls"},
            {"matching_heuristics", true}};
  }
  if (!data.contains("model")) data = Dict{{"model", std::move(data)}};
  return data;
}

Value DetectionCheckpointer::torch_load(const std::string& path) {
  return load_checkpoint_file(path, {.file_system = file_system()});
}

ModelLoad DetectionCheckpointer::load_model(Dict& checkpoint) {
  if (is_true(checkpoint.find("matching_heuristics"))) {
    const Value* author = checkpoint.find("__author__");
    bool caffe2 = author && author->is(Value::Type::string) && author->as_string() == "Caffe2";
    Value& state = checkpoint.at("model");
    if (!state.is(Value::Type::dict)) throw FormatError("\"model\" of the checkpoint is no Dict");
    check_tensors(state.as_dict());
    state = align_state_dicts(module_state_dict(model(), options().non_persistent), state.as_dict(), caffe2);
  }
  ModelLoad load = Checkpointer::load_model(checkpoint);
  IncompatibleKeys& keys = load.incompatible;
  // Old checkpoints lack the former, which the config sets anyway, and have the latter, which are computed now.
  for (const NamedTensor& buffer : named_buffers(model())) {
    if (buffer.name == "pixel_mean" || buffer.name == "pixel_std") std::erase(keys.missing_keys, buffer.name);
  }
  std::erase_if(keys.unexpected_keys,
                [](const std::string& key) { return key.find("anchor_generator.cell_anchors") != std::string::npos; });
  return load;
}

}  // namespace treadle
