#include <treadle/base/device.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/base/value_view.hpp>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <mutex>
#include <numbers>
#include <random>

namespace treadle {

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) noexcept {
  constexpr std::uint64_t multiplier0 = 0xD2511F53, multiplier1 = 0xCD9E8D57;
  constexpr std::uint32_t weyl0 = 0x9E3779B9, weyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = multiplier0 * counter[0];
    const std::uint64_t product1 = multiplier1 * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(product0)};
    key = {key[0] + weyl0, key[1] + weyl1};
  }
  return counter;
}

std::uint64_t Rng::next() noexcept {
  const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  const auto high = [](std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); };
  const auto words = philox4x32({low(position_), high(position_), low(stream_), high(stream_)}, {low(seed_), high(seed_)});
  ++position_;
  return static_cast<std::uint64_t>(words[1]) << 32 | words[0];
}

double Rng::uniform() noexcept { return static_cast<double>(next() >> 11) * 0x1p-53; }
double Rng::uniform(double low, double high) noexcept {
  const double drawn = low + (high - low) * uniform();
  // The sum may have been rounded up.
  return low < high && drawn >= high ? std::nextafter(high, low) : drawn;
}

std::uint64_t Rng::below(std::uint64_t bound) {
  if (bound == 0) throw Error("Rng::below needs a bound of at least 1");
  // The high half of a 128-bit product of 64-bit numbers, put together from halves of 32 bits.
  const std::uint64_t number = next();
  const std::uint64_t low = (number & 0xffffffff) * (bound & 0xffffffff);
  const std::uint64_t middle = (number >> 32) * (bound & 0xffffffff) + (low >> 32);
  const std::uint64_t other = (number & 0xffffffff) * (bound >> 32) + (middle & 0xffffffff);
  return (number >> 32) * (bound >> 32) + (middle >> 32) + (other >> 32);
}

bool Rng::chance(double probability) noexcept { return uniform() < probability; }

double Rng::normal() noexcept {
  const double radius = std::sqrt(-2.0 * std::log1p(-uniform()));
  return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

at::Generator Rng::generator() { return at::make_generator<at::CPUGeneratorImpl>(next()); }

Dict Rng::state_dict() const {
  return {{"seed", std::bit_cast<std::int64_t>(seed_)},
          {"stream", std::bit_cast<std::int64_t>(stream_)},
          {"position", std::bit_cast<std::int64_t>(position_)}};
}

Rng Rng::from_state_dict(const Dict& state) {
  const ValueView view(state);
  const auto number = [&](const char* key) { return std::bit_cast<std::uint64_t>(view[key].as_int()); };
  return Rng(number("seed"), number("stream"), number("position"));
}

namespace {

/// Beside ATen's generators, as numpy's is beside torch's: who draws a seed leaves the numbers of models and samplers alone.
struct SeedStream {
  std::mutex mutex;
  std::mt19937 engine{std::random_device()()};
};

SeedStream& seed_stream() {
  static SeedStream stream;
  return stream;
}

}  // namespace

void seed_everything(std::uint64_t seed) {
  at::manual_seed(seed);
  const std::lock_guard lock(seed_stream().mutex);
  seed_stream().engine.seed(static_cast<std::uint32_t>(seed));
}

std::uint32_t random_seed() {
  const std::lock_guard lock(seed_stream().mutex);
  return static_cast<std::uint32_t>(seed_stream().engine()) & 0x7fffffff;
}

namespace {

const at::Generator& cpu_generator() { return at::detail::getDefaultCPUGenerator(); }

c10::Device device_at(int index) {
  return c10::Device(at::getAccelerator(/*checked=*/true).value(), static_cast<c10::DeviceIndex>(index));
}

const at::Generator& device_generator(int index) { return at::globalContext().defaultGenerator(device_at(index)); }

at::Tensor state_of(const at::Generator& generator) {
  at::Generator handle = generator;
  const std::lock_guard<std::mutex> lock(handle.mutex());
  return handle.get_state();
}

at::Generator copy_of(const at::Generator& generator) {
  at::Generator handle = generator;
  const std::lock_guard<std::mutex> lock(handle.mutex());
  return handle.clone();
}

void set_state_of(const at::Generator& generator, const at::Tensor& state) {
  at::Generator handle = generator;
  const std::lock_guard<std::mutex> lock(handle.mutex());
  handle.set_state(state);
}

}  // namespace

Dict default_generator_state() {
  Dict state{{"cpu", state_of(cpu_generator())}};
  for (int i = 0; i < accelerator_count(); ++i) state.set(device_at(i).str(), state_of(device_generator(i)));
  return state;
}

namespace {

/// A trial on a generator that nobody uses shows whether ATen takes the bytes.
void try_state(at::Generator unused, const ValueView& state, std::string_view kind) {
  try {
    unused.set_state(state.as_tensor());
  } catch (const c10::Error&) {
    state.fail(fmt::format("expected the state of a {} generator", kind));
  }
}

}  // namespace

void check_default_generator_state(const Dict& state) {
  const ValueView view(state);
  view["cpu"].as_tensor();
  for (const auto& entry : state) {
    if (view[entry.key].as_tensor().scalar_type() != at::kByte) view[entry.key].fail("expected a tensor of bytes");
  }
  try_state(at::make_generator<at::CPUGeneratorImpl>(0), view["cpu"], "CPU");
  for (int i = 0; i < accelerator_count(); ++i) {
    if (const auto found = view.find(device_at(i).str())) try_state(copy_of(device_generator(i)), *found, device_at(i).str());
  }
}

void set_default_generator_state(const Dict& state) {
  check_default_generator_state(state);
  set_state_of(cpu_generator(), state.at("cpu").as_tensor());
  for (int i = 0; i < accelerator_count(); ++i) {
    if (const Value* value = state.find(device_at(i).str())) set_state_of(device_generator(i), value->as_tensor());
  }
}

}  // namespace treadle
