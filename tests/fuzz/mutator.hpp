#pragma once

#include <treadle/base/rng.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace treadle {

/// Makes damaged and malicious files out of good ones: input number n is a function of (seed, n) and the files alone.
class Mutator {
 public:
  /// Borrows `files`, of which there must be one.
  explicit Mutator(const std::vector<std::string>& files) : files_(files) {}

  std::string make(std::uint64_t seed, std::uint64_t number);

 private:
  const std::string& pick() { return files_[rng_.below(files_.size())]; }
  void mutate(std::string& content);
  void edit_number(std::string& content);
  void edit_pickle(std::string& content);
  std::string random_pickle();
  std::string random_operation();
  std::string random_argument();

  const std::vector<std::string>& files_;
  Rng rng_;
};

/// An archive as torch.save writes it around `pickle`, with two storages of 64 bytes and `further` empty ones.
std::string archive_of(const std::string& pickle, int further = 0);

/// The size of the pickle of a file: of an archive its record "data.pkl" (0 when there is none to be found), else all of it.
std::uint64_t pickle_size(const std::string& content);

}  // namespace treadle
