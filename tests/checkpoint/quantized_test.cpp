// Quantized tensors: with one scale, or with one per channel.
#include <treadle/base/errors.hpp>
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/checkpoint/open_file.hpp>

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/quantize_per_channel.h>
#include <ATen/ops/quantize_per_tensor.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "tests/checkpoint/small_model.hpp"
#include "tests/support/source_folder.hpp"
#include "tests/support/temporary_folder.hpp"

namespace treadle {
namespace {

/// The tensors that `quantized()` of kPython makes.
Dict quantized() {
  Dict all;
  for (const auto& [name, dtype] : {std::pair{"qint8", at::kQInt8}, {"quint8", at::kQUInt8}, {"qint32", at::kQInt32}}) {
    const at::Tensor x = at::arange(12, at::kFloat).reshape({3, 4}) - 5;
    all.set(std::string(name) + "_tensor", at::quantize_per_tensor(x, 0.3, 4, dtype));
    const at::Tensor scales = at::tensor({0.1, 0.25, 3.0}, at::kDouble), zeros = at::tensor({1, 0, 7}, at::kLong);
    all.set(std::string(name) + "_channel", at::quantize_per_channel(x, scales, zeros, 0, dtype));
  }
  const at::Tensor x = at::arange(8, at::kFloat).reshape({4, 2});
  all.set("float_points",
          at::quantize_per_channel(x, at::tensor({0.5, 0.75}, at::kFloat), at::tensor({0.25, -1.5}, at::kFloat), 1, at::kQUInt8));
  const at::Tensor whole = at::quantize_per_tensor(at::arange(6, at::kFloat), 0.5, 1, at::kQUInt8);
  all.set("whole", whole);
  all.set("part", whole.slice(0, 2, 5));
  all.set("turned", at::quantize_per_tensor(x, 1.0, 0, at::kQInt8).t());
  all.set("empty", at::quantize_per_tensor(at::arange(0, at::kFloat), 2.0, 3, at::kQInt8));
  return all;
}

constexpr const char* kPython = R"(
import sys, torch, warnings, collections
warnings.simplefilter("ignore")
folder = sys.argv[1]

def quantized():
    all = {}
    for name, dtype in (("qint8", torch.qint8), ("quint8", torch.quint8), ("qint32", torch.qint32)):
        x = torch.arange(12, dtype=torch.float32).reshape(3, 4) - 5
        all[name + "_tensor"] = torch.quantize_per_tensor(x, 0.3, 4, dtype)
        scales = torch.tensor([0.1, 0.25, 3.0], dtype=torch.float64)
        all[name + "_channel"] = torch.quantize_per_channel(x, scales, torch.tensor([1, 0, 7]), 0, dtype)
    x = torch.arange(8, dtype=torch.float32).reshape(4, 2)
    all["float_points"] = torch.quantize_per_channel(x, torch.tensor([0.5, 0.75]), torch.tensor([0.25, -1.5]), 1, torch.quint8)
    whole = torch.quantize_per_tensor(torch.arange(6, dtype=torch.float32), 0.5, 1, torch.quint8)
    all["whole"] = whole
    all["part"] = whole[2:5]
    all["turned"] = torch.quantize_per_tensor(x, 1.0, 0, torch.qint8).t()
    all["empty"] = torch.quantize_per_tensor(torch.arange(0, dtype=torch.float32), 2.0, 3, torch.qint8)
    return all

def facts(t):
    if t.qscheme() == torch.per_tensor_affine:
        quantizer = (t.q_scale(), t.q_zero_point())
    else:
        s, z = t.q_per_channel_scales(), t.q_per_channel_zero_points()
        quantizer = (s.dtype, s.tolist(), z.dtype, z.tolist(), t.q_per_channel_axis())
    return (t.dtype, t.qscheme(), tuple(t.shape), t.stride(), t.storage_offset(), t.int_repr().tolist(), quantizer)

def check():
    found = torch.load(folder + "/ours.pth", weights_only=True)
    wanted = quantized()
    assert list(found) == list(wanted), list(found)
    for name in wanted:
        assert facts(found[name]) == facts(wanted[name]), (name, facts(found[name]), facts(wanted[name]))
    assert found["part"].untyped_storage().data_ptr() == found["whole"].untyped_storage().data_ptr()

class Evil:
    def __init__(self, *args, rebuild=torch._utils._rebuild_qtensor):
        self.args, self.rebuild = args, rebuild
    def __reduce__(self):
        return self.rebuild, self.args

def storage(dtype, count):
    t = torch.zeros(count, dtype=torch.int8)
    return torch.storage.TypedStorage(wrap_storage=t.untyped_storage(), dtype=dtype, _internal=True)

def hostile():
    q, none = storage(torch.qint8, 6), collections.OrderedDict()
    s, z = torch.tensor([0.5, 1.0], dtype=torch.float64), torch.tensor([0, 1])
    A, C = torch.per_tensor_affine, torch.per_channel_affine
    def qt(params, size=(2, 3), stride=(3, 1), offset=0, st=q, hooks=none, grad=False):
        return Evil(st, offset, size, stride, params, grad, hooks)
    cases = {
        "axis_high": qt((C, s, z, 2)), "axis_negative": qt((C, s, z, -1)), "axis_text": qt((C, s, z, "0")),
        "axis_huge": qt((C, s, z, 1 << 62)),
        "scales_long": qt((C, torch.ones(3, dtype=torch.float64), z, 0)), "points_short": qt((C, s, z[:1], 0)),
        "scales_two_dims": qt((C, s.reshape(2, 1), z, 0)), "scales_integers": qt((C, z, z, 0)),
        "scales_mixed": qt((C, s, torch.tensor([0.0, 1.0]), 0)), "scales_half": qt((C, s.half(), z, 0)),
        "scales_complex": qt((C, s.to(torch.complex128), z, 0)),
        "scales_quantized": qt((C, torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8), z, 0)),
        "scales_expanded": qt((C, torch.tensor([0.5], dtype=torch.float64).expand(1 << 40), z, 0), size=(1 << 40,), stride=(0,)),
        "scale_text": qt((A, "1", 0)), "scale_integer": qt((A, 1, 0)), "point_float": qt((A, 1.0, 0.5)),
        "point_huge": qt((A, 1.0, 1 << 70)), "params_short": qt((A, 1.0)), "params_none": qt(None),
        "scheme_wrong": qt((torch.per_tensor_symmetric, 1.0, 0)), "scheme_swapped": qt((C, 1.0, 0)), "scheme_text": qt(("x", 1.0, 0)),
        "size_huge": qt((A, 1.0, 0), size=(1 << 40,), stride=(1,)), "size_negative": qt((A, 1.0, 0), size=(-2, 3)),
        "size_overflow": qt((A, 1.0, 0), size=(1 << 33, 1 << 33)), "stride_negative": qt((A, 1.0, 0), stride=(-3, 1)),
        "stride_zero": qt((A, 1.0, 0), size=(1 << 40,), stride=(0,)), "strides_few": qt((A, 1.0, 0), stride=(1,)),
        "offset_huge": qt((A, 1.0, 0), offset=1 << 62), "offset_one": qt((A, 1.0, 0), offset=1), "offset_negative": qt((A, 1.0, 0), offset=-1),
        "storage_plain": qt((A, 1.0, 0), st=storage(torch.int8, 6)), "storage_none": qt((A, 1.0, 0), st=None),
        "hooks": qt((A, 1.0, 0), hooks=collections.OrderedDict({"a": 1})), "grad_text": qt((A, 1.0, 0), grad="no"),
        "few_arguments": Evil(q, 0, (2, 3), (3, 1), (A, 1.0, 0)),
        "without_quantizer": Evil(q, 0, (2, 3), (3, 1), False, none, rebuild=torch._utils._rebuild_tensor_v2),
    }
    good = qt((C, s, z, 0))
    torch.save({"x": good}, folder + "/good.pth")
    for name, case in cases.items():
        torch.save({"x": case}, folder + "/hostile_" + name + ".pth")

{"check": check, "write": lambda: torch.save(quantized(), folder + "/theirs.pth"), "hostile": hostile}[sys.argv[2]]()
)";

struct Quantized : testing::Test {
  TemporaryFolder folder;

  /// False when there is no Python with torch; a failure of the script is one of the test.
  bool python(const std::string& what) {
    const char* chosen = std::getenv("TREADLE_PYTHON");
    const std::string program = chosen ? chosen : source_folder() + "/.venv/bin/python";
    if (std::system((program + " -c 'import torch' >/dev/null 2>&1").c_str()) != 0) return false;
    std::ofstream(folder / "script.py") << kPython;
    const std::string command = program + " " + (folder / "script.py") + " " + folder.path().string() + " " + what;
    EXPECT_EQ(std::system(command.c_str()), 0) << what;
    return true;
  }
};

TEST_F(Quantized, ComeBackWithTheirQuantizers) {
  const Dict tensors = quantized();
  save_checkpoint_file(folder / "x.pth", tensors);
  const Value loaded = load_checkpoint_file(folder / "x.pth");
  EXPECT_TRUE(identical(loaded, tensors));
  const auto tensor = [&](const char* name) { return loaded.as_dict().at(name).as_tensor(); };
  EXPECT_TRUE(tensor("part").is_alias_of(tensor("whole")));
  EXPECT_EQ(tensor("turned").strides(), (at::IntArrayRef{1, 2}));
  EXPECT_EQ(tensor("float_points").qscheme(), at::kPerChannelAffineFloatQParams);
  EXPECT_EQ(tensor("qint8_channel").q_per_channel_axis(), 0);

  const CheckpointFile file(folder / "x.pth");
  for (const auto& entry : tensors)
    EXPECT_TRUE(identical(file.read(file.content().as_dict().at(entry.key)), entry.value)) << entry.key.to_string();
}

TEST_F(Quantized, DifferWhenTheirQuantizersDo) {
  const at::Tensor x = at::arange(4, at::kFloat).reshape({2, 2});
  const auto by_tensor = [&](double scale, std::int64_t zero) {
    return at::quantize_per_tensor(x * scale, scale, zero, at::kQInt32);
  };
  const at::Tensor one = by_tensor(1, 0);
  EXPECT_TRUE(identical(one, one.clone()));
  EXPECT_FALSE(identical(one, by_tensor(2, 0)));  // the same whole numbers
  EXPECT_FALSE(identical(one, by_tensor(1, 1)));
  const auto by_channel = [&](double scale, std::int64_t zero, std::int64_t axis) {
    return at::quantize_per_channel(x * 0, at::tensor({1.0, scale}, at::kDouble), at::tensor({std::int64_t{0}, zero}, at::kLong),
                                    axis, at::kQInt32);
  };
  const at::Tensor channels = by_channel(1, 0, 0);
  EXPECT_TRUE(identical(channels, by_channel(1, 0, 0)));
  EXPECT_FALSE(identical(channels, by_channel(2, 0, 0)));
  EXPECT_FALSE(identical(channels, by_channel(1, 0, 1)));
  EXPECT_FALSE(identical(channels, at::quantize_per_tensor(x * 0, 1.0, 0, at::kQInt32)));
  EXPECT_TRUE(identical(deep_clone(Value(channels)), channels));
}

TEST_F(Quantized, AreSavedBesideTraining) {
  SmallModel model;
  Checkpointer checkpointer(model, folder.path());
  const Dict tensors = quantized();
  checkpointer.save_async("x", Dict{{"quantized", tensors}});
  checkpointer.wait();
  EXPECT_TRUE(identical(load_checkpoint_file(folder / "x.pth").as_dict().at("quantized"), tensors));
}

TEST_F(Quantized, DoNotBecomeNumbersAndLeaveTheModelAsItWas) {
  SmallModel model(2);
  const at::Tensor weight = at::quantize_per_tensor(at::full({3, 2}, 5.f), 0.3, 4, at::kQInt8);
  save_checkpoint_file(folder / "m.pth",
                       Dict{{"model", Dict{{"bias", at::full({3}, 5.f)}, {"mean", at::full({2}, 5.f)}, {"weight", weight}}}});
  try {
    Checkpointer(model).load(folder / "m.pth");
    FAIL();
  } catch (const FormatError& error) {
    EXPECT_NE(std::string(error.what()).find("\"weight\" of the checkpoint"), std::string::npos) << error.what();
  }
  EXPECT_EQ(model.value(), 2);
}

TEST_F(Quantized, OfLessThanEightBitsAreRefused) {
  const at::Tensor tensor = at::quantize_per_tensor(at::arange(8, at::kFloat), 1.0, 0, at::kQUInt4x2);
  try {
    save_checkpoint_file(folder / "x.pth", tensor);
    FAIL();
  } catch (const FormatError& error) {
    EXPECT_NE(std::string(error.what()).find("QUInt4x2"), std::string::npos) << error.what();
  }
}

TEST_F(Quantized, PythonReadsOursAndWeReadPythons) {
  save_checkpoint_file(folder / "ours.pth", quantized());
  if (!python("check")) GTEST_SKIP() << "there is no Python with torch; TREADLE_PYTHON names one";
  python("write");
  EXPECT_TRUE(identical(load_checkpoint_file(folder / "theirs.pth"), quantized()));
}

TEST_F(Quantized, HostileOnesAreRefused) {
  if (!python("hostile")) GTEST_SKIP() << "there is no Python with torch; TREADLE_PYTHON names one";
  EXPECT_EQ(load_checkpoint_file(folder / "good.pth").as_dict().at("x").as_tensor().q_per_channel_axis(), 0);
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    if (!entry.path().filename().string().starts_with("hostile_")) continue;
    ++count;
    EXPECT_THROW(load_checkpoint_file(entry.path()), FormatError) << entry.path();
    EXPECT_THROW(
        {
          const CheckpointFile file(entry.path());
          file.read(file.content());
        },
        FormatError)
        << entry.path();
  }
  EXPECT_EQ(count, 37);
}

}  // namespace
}  // namespace treadle
