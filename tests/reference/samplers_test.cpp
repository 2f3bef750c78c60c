#include <treadle/base/errors.hpp>
#include <treadle/data/batch_sampler.hpp>
#include <treadle/data/training_samplers.hpp>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randperm.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/sha256.hpp"
#include "tests/data/fixed_group.hpp"
#include "tests/support/source_folder.hpp"

namespace treadle {
namespace {

using Json = nlohmann::json;

const Json& cases() {
  static const Json all = [] {
    const char* folder = std::getenv("TREADLE_REFERENCE_DIR");
    std::filesystem::path path = folder && *folder ? folder : source_folder() + "/tests/reference";
    std::ifstream file(path / "samplers.json");
    if (!file) throw Error("cannot open " + (path / "samplers.json").string());
    return Json::parse(file)["cases"];
  }();
  return all;
}

float as_float(const Json& number) {
  const Json& text = number.is_object() ? number["h"] : number;
  return std::strtof(text.get<std::string>().c_str(), nullptr);
}

double as_double(const Json& number) {
  const Json& text = number.is_object() ? number["h"] : number;
  return std::strtod(text.get<std::string>().c_str(), nullptr);
}

std::vector<float> as_floats(const Json& numbers) {
  std::vector<float> floats;
  for (const Json& number : numbers.is_object() ? numbers["h"] : numbers) floats.push_back(as_float(number));
  return floats;
}

at::Generator seeded(std::uint64_t seed) { return at::make_generator<at::CPUGeneratorImpl>(seed); }

std::vector<float> rand_f32(at::Generator& generator, std::size_t count) {
  at::Tensor numbers = at::rand({static_cast<std::int64_t>(count)}, generator, at::TensorOptions(at::kFloat));
  return {numbers.const_data_ptr<float>(), numbers.const_data_ptr<float>() + count};
}

std::vector<std::int64_t> torch_randperm(std::int64_t n, at::Generator& generator, at::ScalarType type = at::kLong) {
  at::Tensor order = at::randperm(n, generator, at::TensorOptions(type)).to(at::kLong);
  return {order.const_data_ptr<std::int64_t>(), order.const_data_ptr<std::int64_t>() + n};
}

/// Compares with {"all"} or {"n", "head", "tail", "sha256_i64le"}.
void expect_indices(const std::vector<std::int64_t>& found, const Json& expected) {
  if (expected.contains("all")) {
    EXPECT_EQ(found, expected["all"].get<std::vector<std::int64_t>>());
    return;
  }
  ASSERT_EQ(found.size(), expected["n"].get<std::size_t>());
  const auto head = expected["head"].get<std::vector<std::int64_t>>(), tail = expected["tail"].get<std::vector<std::int64_t>>();
  EXPECT_TRUE(std::equal(head.begin(), head.end(), found.begin()));
  EXPECT_TRUE(std::equal(tail.rbegin(), tail.rend(), found.rbegin()));
  Sha256 hash;
  hash.update(found.data(), found.size() * sizeof(std::int64_t));
  EXPECT_EQ(hash.hex(), expected["sha256_i64le"].get<std::string>());
}

std::size_t length(const Json& expected) {
  return expected.contains("all") ? expected["all"].size() : expected["n"].get<std::size_t>();
}

std::vector<std::int64_t> draw(Sampler& sampler, std::size_t count) {
  std::vector<std::int64_t> indices;
  indices.reserve(count);
  while (indices.size() < count) indices.push_back(sampler.next().value());
  return indices;
}

/// Draws the stream of every rank of every world, once straight through and once handed to a fresh sampler in the middle.
template <class Make>
void expect_streams(const Json& streams, Make make) {
  for (const auto& [world, ranks] : streams.items()) {
    for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
      SCOPED_TRACE("rank " + std::to_string(rank) + " of " + world);
      auto group = fixed_group(static_cast<int>(rank), std::stoi(world));
      const std::size_t count = length(ranks[rank]);
      auto straight = make(group);
      expect_indices(draw(*straight, count), ranks[rank]);

      auto before = make(group);
      std::vector<std::int64_t> parts = draw(*before, count / 2);
      auto after = make(group);
      after->load_state_dict(before->state_dict());
      for (std::int64_t index : draw(*after, count - count / 2)) parts.push_back(index);
      expect_indices(parts, ranks[rank]);
    }
  }
}

TrainingSamplerOptions order(const Json& input) {
  return {.shuffle = input["shuffle"], .seed = input["seed"].get<std::int64_t>()};
}

void generator(const Json& input, const Json& expect) {
  const auto text = input["seed"].get<std::string>();
  errno = 0;
  const bool negative = text[0] == '-';
  const std::uint64_t seed =
      negative ? static_cast<std::uint64_t>(std::strtoll(text.c_str(), nullptr, 10)) : std::strtoull(text.c_str(), nullptr, 10);
  if (expect.contains("exc")) {
    EXPECT_EQ(errno, ERANGE) << "Python refuses the seed, which fits into 64 bits here";
    return;
  }
  auto integers = seeded(seed);  // "u32" holds the numbers of torch.randint(0, 2^32 - 1)
  at::Tensor drawn =
      at::randint(0, 0xffffffff, {static_cast<std::int64_t>(expect["u32"].size())}, integers, at::TensorOptions(at::kLong));
  for (std::size_t i = 0; i < expect["u32"].size(); ++i) {
    EXPECT_EQ(drawn.const_data_ptr<std::int64_t>()[i], expect["u32"][i].get<std::int64_t>());
  }
  auto f32 = seeded(seed);
  EXPECT_EQ(rand_f32(f32, expect["rand_f32"].size()), as_floats(expect["rand_f32"]));
  auto f64 = seeded(seed);
  at::Tensor doubles = at::rand({static_cast<std::int64_t>(expect["rand_f64"].size())}, f64, at::TensorOptions(at::kDouble));
  for (std::size_t i = 0; i < expect["rand_f64"].size(); ++i) {
    EXPECT_EQ(doubles.const_data_ptr<double>()[i], as_double(expect["rand_f64"][i]));
  }
  auto mixed = seeded(seed);
  for (const Json& permutation : expect["randperm_10_twice"]) {
    EXPECT_EQ(torch_randperm(10, mixed), permutation.get<std::vector<std::int64_t>>());
  }
  EXPECT_EQ(rand_f32(mixed, expect["then_rand_f32"].size()), as_floats(expect["then_rand_f32"]));
  EXPECT_EQ(torch_randperm(7, mixed), expect["then_randperm_7"].get<std::vector<std::int64_t>>());
}

void long_rand(const Json& input, const Json& expect) {
  auto generator = seeded(input["seed"].get<std::uint64_t>());
  const std::vector<float> found = rand_f32(generator, input["n"]);
  const auto head = as_floats(expect["head"]), tail = as_floats(expect["tail"]);
  EXPECT_TRUE(std::equal(head.begin(), head.end(), found.begin()));
  EXPECT_TRUE(std::equal(tail.rbegin(), tail.rend(), found.rbegin()));
  Sha256 hash;
  hash.update(found.data(), found.size() * sizeof(float));
  EXPECT_EQ(hash.hex(), expect["sha256_f32le"].get<std::string>());
}

/// The largest permutations fill gigabytes, and hashing them would take most of the time of this test: TREADLE_LARGE=1 asks for
/// it.
bool large(std::int64_t n) { return n > (1 << 25) && !std::getenv("TREADLE_LARGE"); }

void large_randperm(const Json& input, const Json& expect) {
  auto generator = seeded(static_cast<std::uint64_t>(input["seed"].get<std::int64_t>()));
  for (const Json& permutation : expect["perms"]) {
    const std::int64_t n = input["n"];
    at::Tensor order = at::randperm(n, generator, at::TensorOptions(at::kLong));
    const auto* begin = order.const_data_ptr<std::int64_t>();
    const auto head = permutation["head"].get<std::vector<std::int64_t>>(),
               tail = permutation["tail"].get<std::vector<std::int64_t>>();
    EXPECT_TRUE(std::equal(head.begin(), head.end(), begin));
    EXPECT_TRUE(std::equal(tail.begin(), tail.end(), begin + n - static_cast<std::int64_t>(tail.size())));
  }
  EXPECT_EQ(rand_f32(generator, expect["next_rand_f32"].size()), as_floats(expect["next_rand_f32"]));
  std::cout << "randperm of " << input["n"]
            << ": both ends and the numbers drawn after it; the hash of all of it only with TREADLE_LARGE=1\n";
}

void randperm(const Json& input, const Json& expect) {
  const std::int64_t n = input["n"];
  if (large(n)) return large_randperm(input, expect);
  const std::string type = input["dtype"];
  auto generator = seeded(static_cast<std::uint64_t>(input["seed"].get<std::int64_t>()));
  for (const Json& permutation : expect["perms"]) {
    const auto scalar = type == "int32" ? at::kInt : type == "float64" ? at::kDouble : at::kLong;
    const auto found = torch_randperm(n, generator, scalar);
    if (type == "float64") {
      EXPECT_EQ(std::vector<double>(found.begin(), found.end()), permutation["all"].get<std::vector<double>>());
    } else {
      expect_indices(found, permutation);
    }
  }
  EXPECT_EQ(rand_f32(generator, expect["next_rand_f32"].size()), as_floats(expect["next_rand_f32"]));
  constexpr std::int64_t walked = 1 << 20;
  if (n == 0 || n > walked || type != "int64") return;
  TrainingSampler sampler(n, {.seed = input["seed"].get<std::int64_t>()}, nullptr);
  for (const Json& permutation : expect["perms"]) expect_indices(draw(sampler, static_cast<std::size_t>(n)), permutation);
}

void training(const Json& input, const Json& expect) {
  expect_streams(expect["streams"], [&](auto group) {
    return std::make_unique<TrainingSampler>(input["size"].get<std::int64_t>(), order(input), group);
  });
}

void training_restart(const Json& input, const Json& expect) {
  TrainingSampler sampler(input["size"].get<std::int64_t>(), {.seed = input["seed"].get<std::int64_t>()},
                          fixed_group(input["rank"], input["world"]));
  const auto first = expect["first"].get<std::vector<std::int64_t>>();
  EXPECT_EQ(draw(sampler, first.size()), first);
  sampler.rewind();
  EXPECT_EQ(draw(sampler, first.size()), expect["second"].get<std::vector<std::int64_t>>());
}

void random_subset(const Json& input, const Json& expect) {
  auto make = [&](auto group) {
    return std::make_unique<RandomSubsetTrainingSampler>(
        input["size"].get<std::int64_t>(),
        RandomSubsetOptions{.ratio = as_double(input["subset_ratio"]),
                            .shuffle = input["shuffle"],
                            .seed = input["seed_shuffle"].get<std::int64_t>(),
                            .subset_seed = input["seed_subset"].get<std::int64_t>()},
        group);
  };
  if (expect.contains("exc")) {
    EXPECT_THROW(make(nullptr), ConfigError);
    return;
  }
  auto sampler = make(nullptr);
  EXPECT_EQ(sampler->subset().size(), expect["size_subset"].get<std::size_t>());
  expect_indices(sampler->subset(), expect["subset"]);
  expect_streams(expect["streams"], make);
}

void repeat_factor(const Json& input, const Json& expect) {
  const std::vector<float> factors = as_floats(input["factors_f32"]);
  if (expect.contains("exc")) {
    EXPECT_THROW(RepeatFactorTrainingSampler(factors, order(input), nullptr), ConfigError);
    return;
  }
  expect_streams(expect["streams"],
                 [&](auto group) { return std::make_unique<RepeatFactorTrainingSampler>(factors, order(input), group); });
  RepeatFactorTrainingSampler sampler(factors, order(input), nullptr);
  for (const Json& epoch : expect["epochs_before_shuffle"]) {
    std::vector<std::int64_t> found = draw(sampler, length(epoch));
    std::sort(found.begin(), found.end());  // undoes the shuffle
    expect_indices(found, epoch);
  }
}

void repeat_factors(const Json& input, const Json& expect) {
  const auto images = input["images"].get<std::vector<std::vector<std::int64_t>>>();
  auto compute = [&] { return repeat_factors_from_category_frequency(images, as_double(input["repeat_thresh"]), input["sqrt"]); };
  if (expect.contains("exc")) {
    EXPECT_THROW(compute(), ConfigError);
  } else {
    EXPECT_EQ(compute(), as_floats(expect["factors_f32"]));
  }
}

void inference(const Json& input, const Json& expect) {
  const int world = input["world"];
  for (int rank = 0; rank < world; ++rank) {
    const auto range =
        expect["ranges"][static_cast<std::size_t>(rank)].get<std::vector<std::int64_t>>();  // empty: no sample for this rank
    const std::int64_t begin = range.empty() ? 0 : range.at(0), end = range.empty() ? 0 : range.at(1);
    InferenceSampler sampler(input["size"].get<std::int64_t>(), fixed_group(rank, world));
    for (std::int64_t index = begin; index < end; ++index) ASSERT_EQ(sampler.next(), index);
    EXPECT_EQ(sampler.next(), std::nullopt);
    EXPECT_EQ(sampler.indices_per_pass(), end - begin);
  }
}

void inference_local(const Json& input, const Json& expect) {
  const IndexRange range = inference_range(input["total"], input["rank"], input["world"]);
  EXPECT_EQ(range, (IndexRange{expect["start"], expect["stop"]}));
  EXPECT_EQ(range.end - range.begin, expect["len"].get<std::int64_t>());
}

/// A pass over a list of indices.
class ListSampler final : public Sampler {
 public:
  explicit ListSampler(std::vector<std::int64_t> indices) : indices_(std::move(indices)) {}
  std::optional<std::int64_t> next() override {
    if (place_ == indices_.size()) return std::nullopt;
    return indices_[place_++];
  }
  std::int64_t position() const override { return static_cast<std::int64_t>(place_); }
  void rewind() override { place_ = 0; }
  std::optional<std::int64_t> indices_per_pass() const override { return std::nullopt; }
  Dict state_dict() const override { return {}; }
  void check_state_dict(const Dict&) const override {}
  void load_state_dict(const Dict&) override {}

 private:
  std::vector<std::int64_t> indices_;
  std::size_t place_ = 0;
};

void grouped(const Json& input, const Json& expect) {
  GroupedBatchSampler sampler(std::make_unique<ListSampler>(input["indices"].get<std::vector<std::int64_t>>()),
                              input["group_ids"].get<std::vector<std::int32_t>>(), input["batch_size"], nullptr);
  for (const Json& batch : expect["batches"]) {
    std::vector<std::int64_t> found;
    const auto places = sampler.next();
    ASSERT_TRUE(places);
    for (const SamplePlace& place : *places) found.push_back(place.index);
    EXPECT_EQ(found, batch.get<std::vector<std::int64_t>>());
  }
  EXPECT_EQ(sampler.next(), std::nullopt);
}

using Check = void (*)(const Json& input, const Json& expect);

const std::map<std::string, Check>& checks() {
  static const std::map<std::string, Check> all = {
      {"generator", generator},
      {"rand_f32", long_rand},
      {"randperm", randperm},
      {"randperm_error", [](const Json& input, const Json&) { EXPECT_ANY_THROW(at::randperm(input["n"].get<std::int64_t>())); }},
      {"TrainingSampler", training},
      {"TrainingSampler_restart", training_restart},
      {"RandomSubsetTrainingSampler", random_subset},
      {"RepeatFactorTrainingSampler", repeat_factor},
      {"repeat_factors", repeat_factors},
      {"InferenceSampler", inference},
      {"InferenceSampler_error",
       [](const Json& input, const Json&) { EXPECT_THROW(InferenceSampler(input["size"], nullptr), ConfigError); }},
      {"InferenceSampler_local", inference_local},
      {"GroupedBatchSampler", grouped},
  };
  return all;
}

/// Kinds that are not run, with the reason.
const std::map<std::string, std::string>& left_out() {
  static const std::map<std::string, std::string> all = {
      {"TrainingSampler_ctor",
       "tries Python's argument types (a float or text for an integer), which a C++ compiler refuses or converts"},
  };
  return all;
}

TEST(Samplers, EqualPython) {
  std::map<std::string, int> ran;
  for (const Json& item : cases()) {
    const std::string kind = item["kind"];
    SCOPED_TRACE(item["id"].get<std::string>());
    if (left_out().contains(kind)) continue;
    ASSERT_TRUE(checks().contains(kind)) << "a kind this test does not know: " << kind;
    checks().at(kind)(item["input"], item["expect"]);
    ++ran[kind];
  }
  for (const auto& [kind, count] : ran) std::cout << kind << ": " << count << " cases\n";
  for (const auto& [kind, reason] : left_out()) std::cout << kind << ": skipped, " << reason << "\n";
  EXPECT_FALSE(ran.empty());
}

TEST(Samplers, RefuseAnEmptyDataSet) { EXPECT_THROW(TrainingSampler(0, {.seed = 0}, nullptr), ConfigError); }

}  // namespace
}  // namespace treadle
