#pragma once

#include <treadle/base/rng.hpp>
#include <treadle/base/value.hpp>

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <limits>
#include <string>
#include <vector>

namespace treadle {

/// Values of every type, nested, with tensors of every dtype, some of which share their storage: a function of the Rng alone.
class RandomValue {
 public:
  explicit RandomValue(Rng rng) : rng_(rng) {}

  Value make(int depth = 4) {
    switch (rng_.below(depth > 0 ? 10 : 7)) {
      case 0:
        return nullptr;
      case 1:
        return rng_.chance(0.5);
      case 2:
        return integer();
      case 3:
        return real();
      case 4:
        return text();
      case 5:
        return Bytes{bytes(rng_.below(300))};
      case 6:
        return tensor();
      case 7:
        return sequence<List>(depth);
      case 8:
        return sequence<Tuple>(depth);
      default:
        return dict(depth);
    }
  }

 private:
  std::int64_t integer() {
    auto bits = static_cast<std::int64_t>(rng_.next());
    return bits >> rng_.below(64);
  }
  double real() {
    constexpr double kSpecial[] = {0.0, -0.0, 0.1, 1e308, 5e-324, std::numeric_limits<double>::infinity()};
    return rng_.chance(0.5) ? kSpecial[rng_.below(6)] : rng_.normal();
  }
  std::string text() {
    const char* kTexts[] = {"", "a", "momentum_buffer", "é", "日本", "😀", "line\nbreak", "exp_avg"};
    return rng_.chance(0.1) ? std::string(rng_.below(70000), 'x') : kTexts[rng_.below(8)];
  }
  std::string bytes(std::uint64_t count) {
    std::string data;
    for (std::uint64_t i = 0; i < count; ++i) data.push_back(static_cast<char>(rng_.next()));
    return data;
  }
  template <class Sequence>
  Sequence sequence(int depth) {
    Sequence items;
    for (std::uint64_t i = rng_.below(6); i > 0; --i) items.push_back(make(depth - 1));
    return items;
  }
  Dict dict(int depth) {
    Dict entries;
    for (std::uint64_t i = rng_.below(20); i > 0; --i) {
      Key key = rng_.chance(0.3) ? Key(integer()) : Key(text() + std::to_string(rng_.below(30)));
      entries.set(key, make(depth - 1));
    }
    return entries;
  }
  at::Tensor tensor() {
    constexpr c10::ScalarType kTypes[] = {c10::kFloat,       c10::kDouble, c10::kHalf,   c10::kBFloat16,      c10::kLong,
                                          c10::kInt,         c10::kShort,  c10::kChar,   c10::kByte,          c10::kComplexFloat,
                                          c10::kUInt16,      c10::kUInt32, c10::kUInt64, c10::kComplexDouble, c10::kFloat8_e4m3fn,
                                          c10::kFloat8_e5m2, c10::kBool};
    if (!made_.empty() && rng_.chance(0.3)) return view(made_[rng_.below(made_.size())]);
    std::vector<std::int64_t> sizes;
    for (std::uint64_t i = rng_.below(4); i > 0; --i) sizes.push_back(static_cast<std::int64_t>(rng_.below(5)));
    auto result = at::empty(sizes, at::TensorOptions().dtype(kTypes[rng_.below(17)]));
    std::string content = bytes(result.nbytes());
    if (result.scalar_type() == c10::kBool) {
      for (char& c : content) c &= 1;
    }
    if (!content.empty()) std::memcpy(result.mutable_data_ptr(), content.data(), content.size());
    made_.push_back(result);
    return result;
  }
  at::Tensor view(const at::Tensor& tensor) {
    if (tensor.dim() == 0) return tensor;
    switch (rng_.below(4)) {
      case 0:
        return tensor.transpose(0, -1);
      case 1:
        return tensor.slice(0, tensor.size(0) / 2);
      case 2:
        return tensor.unsqueeze(0);
      default:
        return tensor;
    }
  }

  Rng rng_;
  std::vector<at::Tensor> made_;
};

}  // namespace treadle
