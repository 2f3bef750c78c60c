// treadle inspect, verify and diff on files written here. The sums were computed by Python's hashlib.
#include <tests/support/process.hpp>
#include <tests/support/temporary_folder.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/checkpoint/safetensors.hpp>

#include <ATen/ops/_make_per_tensor_quantized_tensor.h>
#include <ATen/ops/_sparse_coo_tensor_unsafe.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>
#include <nlohmann/json.hpp>

namespace treadle {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSumOfSixFloats = "e2c0a71510b5394df7773b63fb5f54372b84c3564e67811bde7d665be227976d";   // 0…5, float32
constexpr const char* kSumOfTransposed = "cdd0a04cfa61c5907e876014486d0a7be478be729f2e17c93202d088f5ab8458";  // 0, 2, 1, 3

ProcessResult treadle(std::vector<std::string> words) {
  const char* program = std::getenv("TREADLE_COMMAND");
  words.insert(words.begin(), program != nullptr ? program : "build/release/bin/treadle");
  return run_process(words);
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

Dict small_state() {
  return {{"model", Dict{{"fc.weight", at::arange(6, c10::kFloat).view({2, 3})}, {"steps", at::full({}, 7, c10::kLong)}}},
          {"trainer", Dict{{"hooks", List{1, Dict{{"best", 0.5}}}}}},
          {"iteration", 9}};
}

struct CheckpointCommands : testing::Test {
  TemporaryFolder folder;
  std::string a = folder / "a.pth", b = folder / "b.pth";

  void damage(const std::string& file) {
    std::string content = read_text(file);
    const float two = 2;
    const std::size_t at = content.find(std::string(reinterpret_cast<const char*>(&two), sizeof two));
    ASSERT_NE(at, std::string::npos);
    content[at] = static_cast<char>(content[at] ^ 1);
    write_text(file, content);
  }
};

TEST_F(CheckpointCommands, InspectListsTensorsWithTheirSumsAndEverythingElse) {
  save_checkpoint_file(a, small_state());
  const ProcessResult result = treadle({"inspect", a});
  EXPECT_EQ(result.status, 0) << result.err;
  const std::vector<std::string> lines = lines_of(result.out);
  ASSERT_EQ(lines.size(), 6u) << result.out;
  for (const char* part : {"model.fc.weight", "float32", "(2, 3)", "24 B", kSumOfSixFloats})
    EXPECT_TRUE(contains(lines[0], part)) << part;
  for (const char* part : {"model.steps", "int64", " () ", "8 B"}) EXPECT_TRUE(contains(lines[1], part)) << part;
  EXPECT_TRUE(contains(lines[2], "trainer.hooks[0]") && lines[2].ends_with(" 1")) << lines[2];
  EXPECT_TRUE(contains(lines[3], "trainer.hooks[1].best") && lines[3].ends_with(" 0.5")) << lines[3];
  EXPECT_TRUE(contains(lines[4], "iteration") && lines[4].ends_with(" 9")) << lines[4];
  EXPECT_TRUE(contains(lines[5], "2 tensors with 7 elements in 32 bytes, 3 other values")) << lines[5];
  EXPECT_TRUE(lines[5].ends_with("its checksums fit")) << lines[5];
}

TEST_F(CheckpointCommands, InspectClaimsNoChecksumsOfAFormatWithoutThem) {
  const fs::path pickle = folder / "a.pkl";
  write_text(pickle, std::string("\x80\x02}X\x04\x00\x00\x00stepK\x09s.", 16));  // {"step": 9}
  const ProcessResult result = treadle({"inspect", pickle});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(contains(result.out, "step") && contains(result.out, "has 16 bytes, in a format without checksums")) << result.out;
}

TEST_F(CheckpointCommands, InspectGivesTheSameAsJson) {
  Dict state = small_state();
  state.set("late",
            Dict{{"inf", std::numeric_limits<double>::infinity()}, {"none", nullptr}, {"raw", Bytes{"abc"}}, {"empty", List{}}});
  save_checkpoint_file(a, state);
  const ProcessResult result = treadle({"inspect", "--json", a});
  ASSERT_EQ(result.status, 0) << result.err;
  const auto report = nlohmann::json::parse(result.out);
  EXPECT_EQ(report["file"], a);
  EXPECT_EQ(report["file_bytes"], fs::file_size(a));
  const nlohmann::json first = {
      {"name", "model.fc.weight"}, {"dtype", "float32"}, {"shape", {2, 3}}, {"bytes", 24}, {"sha256", kSumOfSixFloats}};
  EXPECT_EQ(report["tensors"][0], first);
  EXPECT_EQ(report["tensors"][1]["shape"], nlohmann::json::array());
  EXPECT_EQ(report["totals"], (nlohmann::json{{"tensors", 2}, {"elements", 7}, {"bytes", 32}, {"values", 7}}));
  std::map<std::string, nlohmann::json> values;
  for (const auto& value : report["values"]) values[value["name"]] = value["value"];
  EXPECT_EQ(values.at("trainer.hooks[1].best"), 0.5);
  EXPECT_EQ(values.at("iteration"), 9);
  EXPECT_EQ(values.at("late.inf"), "inf");
  EXPECT_TRUE(values.at("late.none").is_null());
  EXPECT_EQ(values.at("late.raw"), "sha256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(values.at("late.empty"), nlohmann::json::array());
}

TEST_F(CheckpointCommands, SumsAreOfTheContentNotOfTheLayout) {
  const auto square = at::arange(4, c10::kFloat).view({2, 2});
  const auto sparse = at::_sparse_coo_tensor_unsafe(at::tensor({0, 1}, c10::kLong).view({2, 1}), at::full({1}, 1.f), {2, 3});
  save_checkpoint_file(a, Dict{{"view", square.t()}, {"copy", square.t().contiguous()}, {"sparse", sparse}});
  const ProcessResult result = treadle({"inspect", a});
  const std::vector<std::string> lines = lines_of(result.out);
  ASSERT_EQ(lines.size(), 4u) << result.out << result.err;
  EXPECT_TRUE(contains(lines[0], kSumOfTransposed) && contains(lines[1], kSumOfTransposed)) << result.out;
  EXPECT_TRUE(contains(lines[2], "float32 sparse") && contains(lines[2], "20 B")) << result.out;
}

TEST_F(CheckpointCommands, NamesOfAFileCannotSteerTheTerminal) {
  save_checkpoint_file(a, Dict{{"x\x1b[2J", "y\x07"}});
  save_checkpoint_file(b, Dict{{"x\x1b[2J", "z"}});
  for (const ProcessResult& result : {treadle({"inspect", a}), treadle({"diff", a, b})}) {
    EXPECT_FALSE(contains(result.out, "\x1b") || contains(result.out, "\x07")) << result.out;
    EXPECT_TRUE(contains(result.out, "x\\x1b[2J")) << result.out;
  }
}

TEST_F(CheckpointCommands, DamageIsOneLineOnStderr) {
  save_checkpoint_file(a, small_state());
  damage(a);
  for (const char* command : {"inspect", "verify"}) {
    const ProcessResult result = treadle({command, a});
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(lines_of(result.err).size(), 1u) << result.err;
    EXPECT_TRUE(contains(result.err, "a.pth") && contains(result.err, "damaged")) << result.err;
  }
  EXPECT_EQ(treadle({"diff", a, a}).status, 1);
  EXPECT_TRUE(contains(treadle({"verify", folder / "absent.pth"}).err, "No such file"));
}

TEST_F(CheckpointCommands, VerifySaysWhatIsGood) {
  save_checkpoint_file(a, small_state());
  const ProcessResult result = treadle({"verify", a});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, "good  " + a + ": 2 tensors, 32 B, 3 other values, iteration 9\n");
}

TEST_F(CheckpointCommands, VerifyClaimsNoChecksumsOfAFormatWithoutThem) {
  save_safetensors_file(folder / "a.safetensors", Dict{{"w", at::arange(6, c10::kFloat)}});
  EXPECT_EQ(treadle({"verify", folder / "a.safetensors"}).out,
            "good  " + folder / "a.safetensors" + ": 1 tensors, 24 B, 0 other values, in a format without checksums\n");
}

TEST_F(CheckpointCommands, WhatCannotBeWrittenIsAnError) {
  save_checkpoint_file(a, small_state());
  for (const std::string& words : {"inspect " + a, "verify " + a, "verify " + folder.path().string(), "diff " + a + " " + a}) {
    const std::string program = std::getenv("TREADLE_COMMAND") ? std::getenv("TREADLE_COMMAND") : "build/release/bin/treadle";
    for (const char* place : {">/dev/full", ">&-"}) {
      const ProcessResult result = run_process({"/bin/sh", "-c", program + " " + words + " " + place});
      EXPECT_EQ(result.status, 1) << words << place;
      EXPECT_TRUE(contains(result.err, "stdout")) << result.err;
    }
  }
}

TEST_F(CheckpointCommands, DiffTellsTypesAndQuantizersApart) {
  const auto quantized = [](double scale) {
    return at::_make_per_tensor_quantized_tensor(at::tensor({1, 2, 3}, c10::kChar), scale, 0);
  };
  save_checkpoint_file(a, Dict{{"n", 1}, {"q", quantized(0.5)}});
  save_checkpoint_file(b, Dict{{"n", 1.0}, {"q", quantized(0.25)}});
  const ProcessResult result = treadle({"diff", a, b});
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(contains(result.out, "n: int 1 and float 1")) << result.out;
  EXPECT_TRUE(contains(result.out, "q: equal whole numbers, but quantized in another way")) << result.out;
}

TEST_F(CheckpointCommands, VerifyOfAFolderTellsGoodFromBad) {
  EXPECT_TRUE(contains(treadle({"verify", folder.path().string()}).err, "no checkpoint in"));
  save_checkpoint_file(a, small_state());
  save_checkpoint_file(b, small_state());
  write_text(folder / "notes.txt", "not looked at");
  write_text(folder / "last_checkpoint", "b.pth");
  const ProcessResult good = treadle({"verify", folder.path().string()});
  EXPECT_EQ(good.status, 0) << good.out;
  EXPECT_TRUE(contains(good.out, "2 of 2 checkpoints are good")) << good.out;

  damage(b);
  const ProcessResult bad = treadle({"verify", folder.path().string()});
  EXPECT_EQ(bad.status, 1);
  EXPECT_TRUE(contains(bad.out, "good  a.pth") && contains(bad.out, "bad   ") && contains(bad.out, "b.pth")) << bad.out;
  EXPECT_TRUE(contains(bad.out, "1 of 2 checkpoints are good")) << bad.out;
}

TEST_F(CheckpointCommands, VerifyOfAFolderFollowsLastCheckpoint) {
  save_checkpoint_file(a, small_state());
  write_text(folder / "last_checkpoint", "gone.pth");
  const ProcessResult result = treadle({"verify", folder.path().string()});
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(contains(result.out, "last_checkpoint names \"gone.pth\"")) << result.out;
}

TEST_F(CheckpointCommands, DiffOfEqualFilesIsZero) {
  Dict state = small_state();
  state.set("nan", at::full({3}, std::numeric_limits<float>::quiet_NaN()));
  save_checkpoint_file(a, state);
  save_checkpoint_file(b, state);
  const ProcessResult result = treadle({"diff", a, b});
  EXPECT_EQ(result.status, 0) << result.out;
  EXPECT_TRUE(contains(result.out, "equal in every bit")) << result.out;
}

TEST_F(CheckpointCommands, DiffTellsWhatDiffersAndByHowMuch) {
  const float infinity = std::numeric_limits<float>::infinity();
  const auto base = at::tensor({1.f, 2.f, -infinity, 0.f});
  const auto other = at::tensor({1.f, 2.25f, -infinity, -0.f});
  save_checkpoint_file(a, Dict{{"w", base},
                               {"same", base},
                               {"shape", at::zeros({2})},
                               {"type", at::zeros({2})},
                               {"n", 1},
                               {"gone", "x"},
                               {"kind", 1}});
  save_checkpoint_file(b, Dict{{"w", other},
                               {"same", base},
                               {"shape", at::zeros({3})},
                               {"type", at::zeros({2}, c10::kLong)},
                               {"n", 2},
                               {"kind", 1.0},
                               {"new", 3}});
  const ProcessResult result = treadle({"diff", a, b});
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(contains(result.out, "w: 2 of 4 elements differ, by at most 0.25\n")) << result.out;
  EXPECT_TRUE(contains(result.out, "shape: float32 (2,) and float32 (3,)\n")) << result.out;
  EXPECT_TRUE(contains(result.out, "type: float32 (2,) and int64 (2,)\n")) << result.out;
  EXPECT_TRUE(contains(result.out, "n: 1 and 2\n")) << result.out;
  EXPECT_TRUE(contains(result.out, "gone: only in " + a + "\n")) << result.out;
  EXPECT_TRUE(contains(result.out, "new: only in " + b + "\n")) << result.out;
  EXPECT_TRUE(contains(result.out, "kind: ")) << result.out;
  EXPECT_FALSE(contains(result.out, "same")) << result.out;
  EXPECT_TRUE(contains(result.out, "7 of 7 entries differ")) << result.out;
}

TEST_F(CheckpointCommands, DiffSeesNansLargeTensorsAndOtherOrders) {
  auto large = at::zeros({(1 << 20) + 5}, c10::kShort);
  save_checkpoint_file(a, Dict{{"nan", at::zeros({3})}, {"large", large.clone()}});
  large[-1] = 300;
  save_checkpoint_file(b, Dict{{"nan", at::tensor({0.f, std::numeric_limits<float>::quiet_NaN(), 1.f})}, {"large", large}});
  const ProcessResult result = treadle({"diff", a, b});
  EXPECT_TRUE(contains(result.out, "nan: 2 of 3 elements differ, by at most nan")) << result.out;
  EXPECT_TRUE(contains(result.out, "large: 1 of 1048581 elements differ, by at most 300")) << result.out;

  save_checkpoint_file(a, Dict{{"x", 1}, {"y", Dict{{"z", 2}}}});
  save_checkpoint_file(b, Dict{{"y.z", 2}, {"x", 1}});
  const ProcessResult moved = treadle({"diff", a, b});
  EXPECT_EQ(moved.status, 1);
  EXPECT_TRUE(contains(moved.out, "another order or nesting")) << moved.out;
}

TEST_F(CheckpointCommands, WrongUsageIsTwo) {
  EXPECT_EQ(treadle({"diff", a}).status, 2);
  EXPECT_EQ(treadle({"inspect"}).status, 2);
  EXPECT_EQ(treadle({"verify", a, b}).status, 2);
  for (const char* command : {"inspect", "verify", "diff"}) {
    const ProcessResult help = treadle({command, "--help"});
    EXPECT_EQ(help.status, 0);
    EXPECT_TRUE(contains(help.out, "Example:"));
  }
}

}  // namespace
}  // namespace treadle
