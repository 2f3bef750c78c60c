#include <treadle/base/log.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/checkpoint/detection_checkpointer.hpp>
#include <treadle/checkpoint/file.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <iostream>
#include <regex>
#include <set>

#include "checkpoint/key_report.hpp"
#include "checkpoint/name_matching.hpp"
#include "tests/reference/checkpoints_tree.hpp"
#include "tests/reference/reference_cases.hpp"

namespace treadle {
namespace {

using nlohmann::ordered_json;
using Lines = std::vector<std::pair<std::string, std::string>>;

const ordered_json& cases() {
  static const auto all = reference_cases("checkpoints");
  return all;
}

std::vector<ordered_json> cases_of(const std::string& kind) {
  std::vector<ordered_json> found;
  for (const auto& test : cases()) {
    if (test["kind"] == kind) found.push_back(test);
  }
  return found;
}

/// Log lines with their level as Python names it.
class Recorder {
 public:
  const Lines& lines() const noexcept { return lines_; }

 private:
  Lines lines_;
  LogCapture capture_{[this](LogLevel level, std::string_view line) {
    const char* names[] = {"DEBUG", "INFO", "WARNING", "ERROR"};
    lines_.emplace_back(names[static_cast<int>(level)], std::string(line));
  }};
};

/// The lines of a case. Colours are Python's alone: a terminal's look is no part of the message.
Lines expected_lines(const ordered_json& logs, const std::string& file) {
  static const std::regex colour("\x1b\\[[0-9;]*m");
  Lines lines;
  for (const auto& log : logs) {
    std::string text = std::regex_replace(log[1].get<std::string>(), colour, "");
    for (std::size_t at = text.find("<FILE>"); at != std::string::npos; at = text.find("<FILE>", at)) text.replace(at, 6, file);
    lines.emplace_back(log[0], text);
  }
  return lines;
}

/// Warnings, errors and the report of the matching, which users act on. How the progress is announced is compared apart.
std::string text_of(const Lines& lines) {
  std::string text;
  for (const auto& [level, line] : lines) text += "\n  " + level + " " + line;
  return text;
}

/// A module with the given entries, made of nested modules by the dots of their names.
class CaseModule : public torch::nn::Module {
 public:
  explicit CaseModule(const ordered_json& input) {
    double value = 0;
    for (const auto& entry : input["model"]) {
      std::string name = entry[0];
      auto dtype = entry.size() > 3 ? dtype_of(entry[3]) : c10::kFloat;
      auto tensor = at::full(entry[2].get<std::vector<std::int64_t>>(), ++value, at::TensorOptions().dtype(dtype));
      add(name, tensor, entry[1] == "param");
    }
    for (const auto& alias : input["aliases"]) {
      bool parameter = false;
      at::Tensor tensor;
      for (const auto& named : treadle::named_parameters(*this)) {
        if (named.name == alias[1].get<std::string>()) tensor = named.tensor, parameter = true;
      }
      for (const auto& named : treadle::named_buffers(*this)) {
        if (named.name == alias[1].get<std::string>()) tensor = named.tensor;
      }
      add(alias[0], tensor, parameter);
    }
  }

 private:
  static c10::ScalarType dtype_of(const std::string& name) {
    const std::map<std::string, c10::ScalarType> known{{"int64", c10::kLong},
                                                       {"float64", c10::kDouble},
                                                       {"float16", c10::kHalf},
                                                       {"bool", c10::kBool},
                                                       {"float32", c10::kFloat}};
    return known.at(name);
  }
  void add(const std::string& name, const at::Tensor& tensor, bool parameter) {
    torch::nn::Module* owner = this;
    std::size_t from = 0;
    for (std::size_t dot = name.find('.'); dot != std::string::npos; from = dot + 1, dot = name.find('.', from)) {
      std::string part = name.substr(from, dot - from);
      std::shared_ptr<torch::nn::Module> child;
      for (const auto& known : owner->named_children()) {
        if (known.key() == part) child = known.value();
      }
      if (!child) child = owner->register_module(part, std::make_shared<torch::nn::Module>());
      owner = child.get();
    }
    if (parameter) {
      owner->register_parameter(name.substr(from), tensor, tensor.is_floating_point());
    } else {
      owner->register_buffer(name.substr(from), tensor);
    }
  }
};

struct Received final : Stateful {
  Value state = nullptr;
  Dict state_dict() const override { return {}; }
  void check_state_dict(const Dict&) const override {}
  void load_state_dict(const Dict& given) override { state = given; }
};

std::vector<std::string> state_differences(const torch::nn::Module& module, const ordered_json& expected) {
  std::vector<std::string> differences;
  Dict state = module_state_dict(module);
  if (state.size() != expected.size()) differences.push_back("another number of entries");
  for (const auto& entry : expected) {
    const Value* found = state.find(entry[0].get<std::string>());
    if (!found || content_sha256(found->as_tensor()) != entry[2].get<std::string>()) differences.push_back(entry[0]);
  }
  return differences;
}

TEST(CheckpointsReference, EveryLoadGivesTheSameModelReportAndRest) {
  int count = 0;
  for (const auto& test : cases_of("load")) {
    SCOPED_TRACE(test["id"].get<std::string>());
    ++count;
    const auto& input = test["input"];
    const auto& expect = test["expect"];
    CaseModule module(input);
    EXPECT_EQ(state_differences(module, input["before"]), std::vector<std::string>{});
    std::string file = (reference_folder() / input["file"].get<std::string>()).string();
    Recorder recorder;
    std::map<std::string, Received> received;
    DetectionCheckpointer checkpointer(module);
    if (input.contains("checkpointables")) {
      for (const auto& name : input["checkpointables"]) checkpointer.add_checkpointable(name, received[name]);
    }
    bool raised = false;
    Dict rest;
    try {
      rest = checkpointer.load(file + input["query"].get<std::string>());
    } catch (const Error&) {
      raised = true;
    }
    EXPECT_EQ(raised, expect.contains("raised"));
    EXPECT_EQ(text_of(recorder.lines()), text_of(expected_lines(expect["logs"], file)));
    if (raised) {
      EXPECT_EQ(state_differences(module, input["before"]), std::vector<std::string>{});
      continue;
    }
    EXPECT_EQ(state_differences(module, expect["after"]), std::vector<std::string>{});
    std::vector<std::string> keys;
    for (const auto& entry : rest) keys.push_back(entry.key.to_string());
    EXPECT_EQ(keys, expect["returned_keys"].get<std::vector<std::string>>());
    for (const auto& [name, tree] : expect["loaded_checkpointables"].items()) {
      if (tree.is_null()) {
        EXPECT_TRUE(received[name].state.is_null());
      } else {
        EXPECT_EQ(TreeComparison().compare(received[name].state, tree), std::vector<std::string>{});
      }
    }
  }
  EXPECT_GT(count, 0);
  std::cout << "  " << count << " loads\n";
}

Dict state_of(const ordered_json& entries, bool numbered) {
  Dict state;
  std::int64_t number = 0;
  for (const auto& entry : entries) {
    auto shape = entry[1].get<std::vector<std::int64_t>>();
    std::int64_t count = 1;
    for (std::int64_t size : shape) count *= size;
    ++number;
    auto tensor = at::arange(static_cast<double>(count), at::TensorOptions().dtype(c10::kFloat)).view(shape);
    state.set(entry[0].get<std::string>(), numbered ? tensor + 1000 * number : tensor);
  }
  return state;
}

TEST(CheckpointsReference, NamesAreMatchedAlike) {
  int count = 0;
  for (const auto& test : cases_of("align")) {
    SCOPED_TRACE(test["id"].get<std::string>());
    ++count;
    Recorder recorder;
    bool raised = false;
    Dict result;
    try {
      result = align_state_dicts(state_of(test["input"]["model"], false), state_of(test["input"]["checkpoint"], true),
                                 test["input"]["c2_conversion"]);
    } catch (const Error&) {
      raised = true;
    }
    const auto& expect = test["expect"];
    ASSERT_EQ(raised, expect.contains("raised"));
    EXPECT_EQ(text_of(recorder.lines()), text_of(expected_lines(expect["logs"], "")));
    if (raised) continue;
    std::set<std::pair<std::string, std::string>> found, wanted;
    for (const auto& entry : result) found.emplace(entry.key.string(), content_sha256(entry.value.as_tensor()));
    for (const auto& entry : expect["result"]) wanted.emplace(entry[0], entry[2]);
    EXPECT_EQ(found, wanted);
  }
  EXPECT_GT(count, 0);
}

TEST(CheckpointsReference, Caffe2NamesAreTranslatedAlike) {
  for (const auto& test : cases_of("c2_names")) {
    EXPECT_EQ(convert_basic_caffe2_names(test["input"]["names"]), test["expect"]["basic"].get<std::vector<std::string>>());
  }
  LogCapture quiet([](LogLevel, std::string_view) {});
  int count = 0;
  for (const auto& test : cases_of("c2_names_full")) {
    for (const auto& expected : test["expect"]) {
      SCOPED_TRACE(expected.dump());
      auto shape = test["input"]["each_alone_with_shape"].get<std::vector<std::int64_t>>();
      RenamedState renamed = convert_caffe2_state({{expected[0].get<std::string>(), at::full(shape, 1.f)}});
      ASSERT_EQ(renamed.state.size(), 1u);
      EXPECT_EQ(renamed.state.begin()->key.string(), expected[1].get<std::string>());
      EXPECT_EQ(renamed.state.begin()->value.as_tensor().sizes().vec(), expected[2].get<std::vector<std::int64_t>>());
      ++count;
    }
  }
  EXPECT_GT(count, 0);
}

TEST(CheckpointsReference, KeysAreReportedAlike) {
  for (const auto& test : cases_of("message")) {
    auto keys = test["input"]["keys"].get<std::vector<std::string>>();
    ordered_json groups = ordered_json::array();
    for (const auto& [head, tails] : group_keys(keys)) groups.push_back({head, tails});
    EXPECT_EQ(groups, test["expect"]["groups"]);
    EXPECT_EQ(describe_groups(keys), test["expect"]["strs"].get<std::vector<std::string>>());
    EXPECT_EQ(missing_keys_message(keys), test["expect"]["missing"].get<std::string>());
    EXPECT_EQ(unexpected_keys_message(keys), test["expect"]["unexpected"].get<std::string>());
  }
  for (const auto& test : cases_of("strip_prefix")) {
    Dict state;
    for (const auto& key : test["input"]["keys"]) state.set(key.get<std::string>(), static_cast<std::int64_t>(state.size()));
    strip_prefix(state, test["input"]["prefix"]);
    ordered_json items = ordered_json::array();
    for (const auto& entry : state) items.push_back({entry.key.string(), entry.value.as_int()});
    EXPECT_EQ(items, test["expect"]["items"]);
  }
}

TEST(CheckpointsReference, AnEmptyPathLoadsNothing) {
  for (const auto& test : cases_of("load_path")) {
    torch::nn::Module module;
    Recorder recorder;
    DetectionCheckpointer checkpointer(module);
    EXPECT_TRUE(checkpointer.load(test["input"]["path"].get<std::string>()).empty());
    EXPECT_EQ(text_of(recorder.lines()), text_of(expected_lines(test["expect"]["logs"], "")));
  }
}

TEST(CheckpointsReference, CheckpointableNamesAreUnique) {
  for (const auto& test : cases_of("checkpointer")) {
    if (test["input"]["what"] != "dup-checkpointable") {
      std::cout << "  " << test["id"] << " has no counterpart: the compiler refuses an object that is not Stateful\n";
      continue;
    }
    torch::nn::Module module;
    Received part;
    Checkpointer checkpointer(module);
    checkpointer.add_checkpointable("optimizer", part);
    EXPECT_THROW(checkpointer.add_checkpointable("optimizer", part), Error);
  }
}

// The whole trainer belongs to a room above this one; here the model of its checkpoint is compared, and the rest counted as left
// out.
TEST(CheckpointsReference, TheModelOfATrainersCheckpointIsThatOfItsResumedRun) {
  for (const auto& test : cases_of("resume")) {
    Value file = load_checkpoint_file(reference_folder() / test["input"]["file"].get<std::string>());
    const Dict& model = file.as_dict().at("model").as_dict();
    ASSERT_EQ(model.size(), test["expect"]["model"].size());
    for (const auto& entry : test["expect"]["model"]) {
      EXPECT_EQ(content_sha256(model.at(entry[0].get<std::string>()).as_tensor()), entry[2].get<std::string>());
    }
    EXPECT_EQ(file.as_dict().at("iteration").as_int(), test["expect"]["iter"].get<std::int64_t>());
    std::cout << "  " << test["id"] << ": the schedule after the resume is left to the tests of the trainer\n";
  }
}

}  // namespace
}  // namespace treadle
