// What stands behind the name of a file. The files of other programs are compared in tests/reference.
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/checkpoint/detection_checkpointer.hpp>
#include <treadle/checkpoint/file.hpp>

#include <gtest/gtest.h>

#include "tests/checkpoint/small_model.hpp"
#include "tests/support/temporary_folder.hpp"

namespace treadle {
namespace {

/// Its names have those of a SmallModel as suffixes.
struct Wrapped : torch::nn::Module {
  explicit Wrapped(double number) { inner = register_module("backbone", std::make_shared<SmallModel>(number)); }
  std::shared_ptr<SmallModel> inner;
  double value() const { return inner->value(); }
};

struct DetectionQuery : testing::Test {
  LogCapture quiet{[](LogLevel, std::string_view) {}};
  TemporaryFolder folder;
  Wrapped model{1};
  DetectionCheckpointer checkpointer{model, folder / "run"};

  static Dict small(double value) { return module_state_dict(SmallModel(value)); }
  std::string file(const std::string& name, const Dict& content) const {
    save_checkpoint_file(folder / name, content);
    return folder / name;
  }
};

TEST_F(DetectionQuery, MatchesNamesInEveryFormatAndForOneLoadAlone) {
  const std::string weights = file("w.pth", Dict{{"model", small(5)}});
  checkpointer.load(weights);
  EXPECT_EQ(model.value(), 1);
  checkpointer.load(weights + "?matching_heuristics=True");
  EXPECT_EQ(model.value(), 5);
  model.inner->fill(1);
  checkpointer.load(weights);
  checkpointer.load(weights + "?matching_heuristics=False");
  EXPECT_EQ(model.value(), 1);
  checkpointer.load(file("zoo.pkl", Dict{{"model", small(6)}, {"__author__", "somebody"}}) + "?matching_heuristics=True");
  EXPECT_EQ(model.value(), 6);
}

TEST_F(DetectionQuery, AnyOtherIsRefused) {
  const std::string weights = file("w.pth", Dict{{"model", small(5)}});
  for (const char* query : {"?matching_heuristics=true", "?x=1", "?matching_heuristics=True&x=1"}) {
    try {
      checkpointer.load(weights + query);
      ADD_FAILURE() << query;
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find(query), std::string::npos) << error.what();
    }
    EXPECT_EQ(model.value(), 1);
  }
}

TEST_F(DetectionQuery, IsForgottenWhenItsLoadFails) {
  checkpointer.save("model_final", {});
  std::filesystem::rename(folder / "run/model_final.pth", folder / "run/other.pth");
  save_checkpoint_file(folder / "run/model_final.pth", Dict{{"model", small(5)}});
  EXPECT_THROW(checkpointer.load(folder / "nowhere.pth?matching_heuristics=True"), IoError);
  checkpointer.resume_or_load("");
  EXPECT_EQ(model.value(), 1);
}

TEST_F(DetectionQuery, AFolderMayHaveAQuestionMark) {
  Wrapped other(7);
  DetectionCheckpointer(other, folder / "what?x=1").save("model_final");
  DetectionCheckpointer(model, folder / "what?x=1").resume_or_load("");
  EXPECT_EQ(model.value(), 7);
}

}  // namespace
}  // namespace treadle
