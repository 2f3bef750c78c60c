// What Python writes beside plain data, byte by byte.
#include <treadle/base/errors.hpp>
#include <treadle/checkpoint/file.hpp>

#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "tests/checkpoint/fault_file_system.hpp"

namespace treadle {
namespace {

using namespace std::string_literals;

Value value_of(const std::string& file, UnknownGlobals unknown = UnknownGlobals::reject) {
  auto files = std::make_shared<FaultFileSystem>();
  files->add("x.pkl", file);
  return load_checkpoint_file("x.pkl", {.unknown = unknown, .file_system = files});
}

std::string little(std::uint32_t number) {
  std::string bytes;
  for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(number >> shift & 0xff);
  return bytes;
}
std::string text(const std::string& content) { return "X" + little(static_cast<std::uint32_t>(content.size())) + content; }
std::string global(const std::string& module, const std::string& name) { return "c" + module + "\n" + name + "\n"; }

/// The pickle of {"a": what `opcodes` push}.
std::string under_a(const std::string& opcodes) { return "\x80\x02}" + text("a") + opcodes + "s."; }
Value a_of(const std::string& opcodes, UnknownGlobals unknown = UnknownGlobals::reject) {
  return value_of(under_a(opcodes), unknown).as_dict().at("a");
}

TEST(Pickle, DefaultsOfADefaultdictAreNamedAsProtocol2NamesThem) {
  for (const char* name : {"long", "int", "unicode", "str", "bool", "float", "list"}) {
    const std::string made = global("collections", "defaultdict") + global("__builtin__", name) + "\x85R";
    EXPECT_TRUE(identical(a_of(made + text("k") + "K\x05s"), Dict{{"k", 5}})) << name;
  }
  const std::string strange = global("collections", "defaultdict") + global("my.module", "make") + "\x85R" + text("k") + "K\x05s";
  EXPECT_THROW(a_of(strange), FormatError);
  EXPECT_TRUE(identical(a_of(strange, UnknownGlobals::keep_opaque), Dict{{"k", 5}}));
}

TEST(Pickle, AClassThatIsAValueIsItsName) {
  EXPECT_EQ(a_of(global("collections", "OrderedDict")).as_string(), "collections.OrderedDict");
  EXPECT_EQ(a_of(global("__builtin__", "unicode")).as_string(), "builtins.str");
  EXPECT_EQ(a_of(global("builtins", "int")).as_string(), "builtins.int");
  EXPECT_EQ(a_of(global("torch.nn.parameter", "Parameter")).as_string(), "torch.nn.parameter.Parameter");
  EXPECT_EQ(a_of(global("torch", "float16")).as_string(), "torch.float16");
  EXPECT_THROW(a_of(global("torch", "FloatStorage")), FormatError);
  const std::string dtype =
      global("numpy", "dtype") + text("f4") + "K\0K\x01\x87R(K\x03"s + text("<") + "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"s;
  EXPECT_EQ(a_of(dtype).as_string(), "float32");
}

TEST(Pickle, AKeyThatADictCannotHaveIsItsText) {
  const std::vector<std::pair<std::string, std::string>> keys = {{"N", "None"},
                                                                 {"\x88", "True"},
                                                                 {"G\x3f\xe0\0\0\0\0\0\0"s, "0.5"},
                                                                 {"G\x3f\xf0\0\0\0\0\0\0"s, "1.0"},
                                                                 {"K\x01K\x02\x86", "(1, 2)"},
                                                                 {"K\x01\x85", "(1,)"},
                                                                 {")", "()"},
                                                                 {text("it's") + text("b") + "\x86", "(\"it's\", 'b')"},
                                                                 {"K\x01K\x02\x86N\x86", "((1, 2), None)"}};
  for (const auto& [opcodes, name] : keys) EXPECT_TRUE(identical(a_of("}" + opcodes + "K\x07s"), Dict{{name, 7}})) << name;
}

TEST(Pickle, AKeyIsNotDeeperNorLongerThanAnybodyNeeds) {
  EXPECT_THROW(a_of("}(" + std::string(2000, 'N') + "tK\x07s"), FormatError);
  EXPECT_THROW(a_of("}N" + std::string(1'000'000, '\x85') + "K\x07s"), FormatError);
  std::string doubled = "N";
  for (char i = 0; i < 31; ++i) doubled += std::string("q") + i + "h" + i + "\x86";
  EXPECT_THROW(a_of("}" + doubled + "K\x07s"), FormatError);
  EXPECT_THROW(a_of("}]K\x07s"), FormatError);
}

/// A file of the format before PyTorch 1.6 with one storage of the floats 1 and 2, under the key "0".
std::string legacy_file(const std::string& opcodes) {
  std::string file = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."s + "\x80\x02M\xe9\x03."s + "\x80\x02}."s;
  file += under_a(opcodes) + "\x80\x02]" + text("0") + "a.";
  return file + "\x02\0\0\0\0\0\0\0"s + "\0\0\x80\x3f\0\0\0\x40"s;
}

std::string storage() { return "(" + text("storage") + global("torch", "FloatStorage") + text("0") + text("cpu") + "K\x02NtQ"; }
std::string tensor_arguments(const std::string& more = "") {
  return "(" + storage() + "K\0K\x02\x85K\x01\x85\x89"s + global("collections", "OrderedDict") + ")R" + more + "t";
}

TEST(Pickle, AttributesOfATensorArePassedOver) {
  const std::string made = global("torch._tensor", "_rebuild_from_type_v2") + "(" + global("torch._utils", "_rebuild_tensor_v2") +
                           global("torch", "Tensor") + tensor_arguments() + "}" + text("note") + text("mine") + "stR";
  EXPECT_TRUE(value_of(legacy_file(made)).as_dict().at("a").as_tensor().equal(at::tensor({1.f, 2.f})));
  std::string other = made;
  EXPECT_THROW(value_of(legacy_file(other.replace(other.find("Tensor\n"), 6, "device"))), FormatError);
}

TEST(Pickle, OneTextOrDictCannotTakeTimeAgainAndAgain) {
  std::string again = text(std::string(100'000, 'x')) + "q\0"s + "0(";
  for (int i = 0; i < 3000; ++i) again += global("_codecs", "encode") + "h\0"s + text("latin1") + "\x86R";
  EXPECT_THROW(a_of(again + "t"), FormatError);

  std::string properties = "}";
  for (int i = 0; i < 9; ++i) properties += text("conj") + "\x89s";
  const std::string rebuild = global("torch._utils", "_rebuild_tensor_v2");
  EXPECT_THROW(value_of(legacy_file(rebuild + tensor_arguments(properties) + "R")), FormatError);
  EXPECT_NO_THROW(value_of(legacy_file(rebuild + tensor_arguments("}" + text("conj") + "\x89s") + "R")));
}

}  // namespace
}  // namespace treadle
