// Mutated files, one after the other, must give an Error or a value that can be saved and read again, within the promised memory.
//
//   TREADLE_FUZZ_INPUTS=1000000   how many (the default keeps `make test` short)
//   TREADLE_FUZZ_SEED=7           other inputs
//   TREADLE_FUZZ_FIRST=123        begin with this one: what a crash names, to see it again
#include <treadle/base/errors.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/checkpoint/open_file.hpp>
#include <treadle/checkpoint/safetensors.hpp>

#include <ATen/ops/arange.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>

#include "tests/checkpoint/fault_file_system.hpp"
#include "tests/fuzz/mutator.hpp"
#include "tests/reference/reference_cases.hpp"
#include "tests/support/heap_meter.hpp"

namespace treadle {
namespace {

std::uint64_t setting(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text && *text ? std::strtoull(text, nullptr, 10) : otherwise;
}

volatile std::sig_atomic_t current_input = 0;

// Says which input it was, then dies of the signal as if nothing had been in between.
void report_crash(int number) {
  char text[] = "fuzz: crashed at input 0000000000; set TREADLE_FUZZ_FIRST to it\n";
  int rest = current_input;
  for (std::size_t i = 32; rest > 0; --i, rest /= 10) text[i] = static_cast<char>('0' + rest % 10);
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, sizeof text - 1);
  std::signal(number, SIG_DFL);
  std::raise(number);
}

std::vector<std::string> reference_files() {
  constexpr std::uintmax_t kLargest = 64 << 10;
  std::vector<std::filesystem::path> paths;
  for (const char* family : {"checkpoints", "hostile"}) {
    for (const auto& entry : std::filesystem::directory_iterator(reference_folder() / family)) {
      if (entry.is_regular_file() && entry.file_size() <= kLargest) paths.push_back(entry.path());
    }
  }
  std::sort(paths.begin(), paths.end());
  auto safetensors = std::make_shared<FaultFileSystem>();
  save_safetensors_file("x", {{"w", at::arange(6, c10::kFloat).view({2, 3})}, {"n", at::arange(3)}},
                        {.file_system = safetensors});
  std::vector<std::string> files(20, safetensors->content("x"));  // as much weight as a tenth of the others
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    files.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return files;
}

/// The options of an input: every combination comes up.
LoadOptions options_of(std::uint64_t number) {
  return {.unknown = number & 1 ? UnknownGlobals::keep_opaque : UnknownGlobals::reject,
          .verify = (number & 6) == 0,
          .allow_expanded = (number & 8) != 0,
          .read_tensors = (number & 48) != 0};
}

/// What went wrong, or nothing.
std::string check_copy(const Value& value) {
  auto files = std::make_shared<FaultFileSystem>();
  save_checkpoint_file("copy", value, {.durable = false, .file_system = files});
  const Value back = load_checkpoint_file("copy", {.allow_expanded = true, .file_system = files});
  return identical(value, back) ? "" : "what was read and what was saved of it differ";
}

struct Outcome {
  std::string kind;
  std::string problem;
};

/// What a file holds when it is opened and every tensor is asked for.
Value opened(const std::filesystem::path& path, const LoadOptions& options) {
  const CheckpointFile file(path, options);
  return file.read(file.content());
}

Outcome load_one(const std::string& content, LoadOptions options, bool lazily = false) {
  auto files = std::make_shared<FaultFileSystem>();
  files->add("x", content);
  options.file_system = files;
  const std::uint64_t heap_limit = (1 << 20) + 64 * pickle_size(content);
  Outcome outcome{"accepted", ""};
  HeapMeter::start();
  std::uint64_t heap = 0, tensors = 0;
  try {
    const Value value = lazily ? opened("x", options) : load_checkpoint_file("x", options);
    heap = HeapMeter::heap_peak(), tensors = HeapMeter::tensor_peak();
    // An expanded tensor may stand for more bytes than there is memory.
    if (options.read_tensors && !options.allow_expanded) outcome.problem = check_copy(value);
  } catch (const FormatError& error) {
    heap = HeapMeter::heap_peak(), tensors = HeapMeter::tensor_peak();
    outcome.kind = "rejected";
    if (error.file().empty()) outcome.problem = std::string("an error without a file: ") + error.what();
  } catch (const std::exception& error) {
    outcome.problem = std::string("another kind of error: ") + error.what();
  }
  if (heap > heap_limit) outcome.problem = "heap of " + std::to_string(heap) + " bytes, not " + std::to_string(heap_limit);
  if (tensors > content.size()) outcome.problem = "tensors of " + std::to_string(tensors) + " bytes";
  return outcome;
}

TEST(Fuzz, EveryInputIsRefusedOrReadWithinTheMemoryPromised) {
  for (int number : {SIGSEGV, SIGBUS, SIGFPE, SIGABRT}) std::signal(number, report_crash);
  const std::uint64_t seed = setting("TREADLE_FUZZ_SEED", 1), first = setting("TREADLE_FUZZ_FIRST", 0);
  const std::uint64_t count = setting("TREADLE_FUZZ_INPUTS", 60'000);
  const std::vector<std::string> files = reference_files();
  ASSERT_GT(files.size(), 50u);
  Mutator mutator(files);
  std::map<std::string, std::uint64_t> outcomes;
  for (std::uint64_t number = first; number < first + count; ++number) {
    current_input = static_cast<std::sig_atomic_t>(number);
    const std::string content = mutator.make(seed, number);
    const Outcome outcome = load_one(content, options_of(number), number % 5 == 0);
    ++outcomes[outcome.kind];
    if (outcome.problem.empty()) continue;
    const auto kept = std::filesystem::temp_directory_path() / ("treadle-fuzz-" + std::to_string(number));
    std::ofstream(kept, std::ios::binary) << content;
    ADD_FAILURE() << "input " << number << " of seed " << seed << ", kept as " << kept << ": " << outcome.problem;
    if (testing::Test::HasFailure() && ++outcomes["wrong"] == 10) break;
  }
  for (const auto& [kind, times] : outcomes) std::cout << "  " << kind << ": " << times << "\n";
  // A target that refuses or accepts everything tests nothing.
  if (count >= 1000) {
    EXPECT_GT(outcomes["accepted"], count / 100);
    EXPECT_GT(outcomes["rejected"], count / 10);
  }
  EXPECT_FALSE(std::filesystem::exists("/tmp/d2_hostile_pwned")) << "code of a file was run";
}

/// The most that one kind of pickle can make of its bytes: each is repeated until 256 KiB are full.
TEST(Fuzz, NoPickleTakesMoreHeapThanItsSizeAllows) {
  const std::string zeros(3, '\0');
  const std::string storage = "(X\x07" + zeros + "storagectorch\nFloatStorage\nX\x01" + zeros + "0X\x03" + zeros + "cpuK\x10tQ";
  // Remembered: 1 the function, 2 the storage, 3 sizes that are strides too, of 64 dimensions or of one.
  const auto tensors = [&](const std::string& sizes) {
    return "ctorch._utils\n_rebuild_tensor_v2\nq\x01"
           "0" +
           storage +
           "q\x02"
           "0(" +
           sizes +
           "tq\x03"
           "0](";
  };
  std::string ones;
  for (int i = 0; i < 64; ++i) ones += "K\x01";
  const std::string tensor = "h\x01(h\x02K" + zeros.substr(0, 1) + "h\x03h\x03\x89}tR";
  const std::map<std::string, std::pair<std::string, std::string>> pickles = {
      {"tensors of one dimension", {tensors("K\x01"), tensor}},
      {"tensors of 64 dimensions", {tensors(ones), tensor}},
      {"tensors of no dimension", {tensors(""), tensor}},
      {"references to storages", {"](", storage}},
      {"parameters", {tensors("K\x01") + tensor + "q\x04", "ctorch._utils\n_rebuild_parameter\n(h\x04\x89}tR"}},
      {"ordered dicts of pairs", {"ccollections\nOrderedDict\n](", "K\x05K\x05\x86"}},
      {"empty lists in a list", {"](", "]"}},
      {"nested lists", {"]", "]"}},
      {"nested tuples", {")", "\x85"}},
      {"empty dicts in a list", {"](", "}"}},
      {"nothing in a list", {"](", "N"}},
      {"small numbers in a list", {"](", "K\x05"}},
      {"marks", {"]", "("}},
      {"one list again and again",
       {"]q\x01"
        "0](",
        "h\x01"}},
      {"copies of the top", {"](N", "2"}},
      {"memo", {"]", "\x94"}},
      {"sets", {"](", "\x8f"}},
      {"empty text", {"](", std::string("\x8c\x00", 2)}},
      {"text in latin-1", {"](", "U\xff" + std::string(255, '\xe9')}},
      {"a dict of numbers", {"}(", "K\x05K\x05"}},
      {"a dict of text", {"}(", std::string("U\x02zzK\x05")}},
      {"ordered dicts",
       {"ccollections\nOrderedDict\nq\x01"
        "0](",
        "h\x01)R"}},
      {"long numbers", {"](", "\x8a\xff" + std::string(255, '\x7f')}},
      {"unknown classes", {"](", "ca\nb\n"}},
  };
  for (const auto& [name, parts] : pickles) {
    std::string pickle = std::string("\x80\x02", 2) + parts.first;
    while (pickle.size() < (256 << 10)) pickle += parts.second;
    for (const char* end : {"e.", "u.", "t.", ".", "e\x85R."}) {
      for (const std::string& content : {archive_of(pickle + end), pickle + end}) {
        const Outcome outcome = load_one(content, {.unknown = UnknownGlobals::keep_opaque, .allow_expanded = true});
        EXPECT_EQ(outcome.problem, "") << name;
      }
    }
  }
}

TEST(Fuzz, AnArchiveOfCountlessEntriesIsRefusedBeforeItsDirectoryIsRead) {
  const std::string pickle = std::string("\x80\x02N.", 4);
  EXPECT_EQ(load_one(archive_of(pickle, 500), {}).kind, "accepted");
  const Outcome outcome = load_one(archive_of(pickle, 30'000), {});
  EXPECT_EQ(outcome.kind, "rejected");
  EXPECT_EQ(outcome.problem, "");
}

}  // namespace
}  // namespace treadle
