#pragma once

#include <treadle/base/value.hpp>

#include <ATen/core/Generator.h>

#include <array>
#include <cstdint>

namespace treadle {

/// Random numbers as a function of (seed, stream, position): Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as
/// 1, 2, 3", SC 2011) with the seed as key and (position, stream) as counter. A value type of its own thread: copy it freely;
/// two with equal triples give equal numbers on every machine, but for the last bits of `normal`, which are those of the C
/// library's `log1p` and `cos`.
class Rng {
 public:
  explicit Rng(std::uint64_t seed = 0, std::uint64_t stream = 0, std::uint64_t position = 0) noexcept
      : seed_(seed), stream_(stream), position_(position) {}

  std::uint64_t seed() const noexcept { return seed_; }
  std::uint64_t stream() const noexcept { return stream_; }
  /// How many 64-bit numbers have been drawn.
  std::uint64_t position() const noexcept { return position_; }

  /// The next 64 bits. Every function below draws exactly one such number, `normal` two.
  std::uint64_t next() noexcept;
  /// Uniform in [0, 1), with 53 random bits.
  double uniform() noexcept;
  /// Uniform in [low, high); `low` when they are equal.
  double uniform(double low, double high) noexcept;
  /// Uniform in {0, …, bound - 1}; the bias is below bound / 2^64. Throws Error when bound is 0.
  std::uint64_t below(std::uint64_t bound);
  /// True with the given probability; 0 never, 1 always.
  bool chance(double probability) noexcept;
  /// Normally distributed with mean 0 and deviation 1 (Box-Muller, cosine branch).
  double normal() noexcept;

  /// An independent generator for `stream` under the same seed, at position 0.
  Rng split(std::uint64_t stream) const noexcept { return Rng(seed_, stream); }
  /// A new CPU generator for ATen's random functions, seeded by the next number of this one.
  at::Generator generator();

  /// {"seed", "stream", "position"}, each as the int64 of the same bits.
  Dict state_dict() const;
  /// Throws FormatError when `state` is not what `state_dict` returns.
  static Rng from_state_dict(const Dict& state);

  bool operator==(const Rng&) const = default;

 private:
  std::uint64_t seed_;
  std::uint64_t stream_;
  std::uint64_t position_;
};

/// The Philox 4x32-10 function itself.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) noexcept;

/// Seeds ATen's default generators (CPU and every device) as `torch.manual_seed` does, and the stream of `random_seed`.
void seed_everything(std::uint64_t seed);
/// The next seed of this process, in [0, 2^31): the numbers of numpy's `random.randint(2**31)` behind `random.seed(seed)`, of
/// which only the low 32 bits of `seed` count; unforeseeable in a process that was never seeded. Any thread.
std::uint32_t random_seed();
/// The state of ATen's default generators: {"cpu": tensor, and one entry per device of the accelerator}.
Dict default_generator_state();
/// Throws FormatError, changing nothing, unless `state` has "cpu", its entries are tensors of bytes, and those of the CPU and of
/// every device that this machine has are states of such a generator.
void check_default_generator_state(const Dict& state);
/// After that check. Devices that `state` does not name keep their state; those that this machine lacks are passed over, so that
/// a run goes on on another machine.
void set_default_generator_state(const Dict& state);

}  // namespace treadle
