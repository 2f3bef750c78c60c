#include "tests/fuzz/mutator.hpp"

#include <treadle/base/errors.hpp>
#include <treadle/checkpoint/file_system.hpp>

#include <algorithm>
#include <array>
#include <cstring>

#include "checkpoint/zip_reader.hpp"
#include "checkpoint/zip_writer.hpp"

namespace treadle {

namespace {

struct MemoryWritable final : WritableFile {
  std::string content;
  void write(std::span<const std::byte> bytes) override {
    content.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  void sync() override {}
  void close() override {}
};

struct MemoryReadable final : ReadableFile {
  explicit MemoryReadable(const std::string& bytes) : content(bytes) {}
  const std::string& content;
  std::uint64_t size() const override { return content.size(); }
  void read(std::uint64_t offset, std::span<std::byte> bytes) const override {
    if (!bytes.empty()) std::memcpy(bytes.data(), content.data() + offset, bytes.size());
  }
};

template <class T>
std::string little(T number) {
  return {reinterpret_cast<const char*>(&number), sizeof number};
}

std::string global(const std::string& module, const std::string& name) { return "c" + module + "\n" + name + "\n"; }

/// What a writer of PyTorch says again and again, so that random pickles get as far as to tensors.
const std::array<std::string, 22> kPhrases = {
    global("collections", "OrderedDict") + ")R",
    global("torch._utils", "_rebuild_tensor_v2"),
    global("torch._utils", "_rebuild_tensor_v3"),
    global("torch._utils", "_rebuild_parameter"),
    global("torch._utils", "_rebuild_sparse_tensor"),
    global("torch", "FloatStorage"),
    global("torch", "Size"),
    global("torch", "float64"),
    global("torch.storage", "UntypedStorage"),
    global("_codecs", "encode"),
    global("builtins", "set"),
    global("builtins", "bytearray"),
    global("numpy", "ndarray"),
    global("numpy._core.multiarray", "_reconstruct"),
    global("my.module", "Thing"),
    // A whole tensor of 16 floats in storage 0; then the parts of one.
    "ctorch._utils\n_rebuild_tensor_v2\n((X\x07" + std::string(3, '\0') + "storagectorch\nFloatStorage\nX\x01" +
        std::string(3, '\0') + "0X\x03" + std::string(3, '\0') + "cpuK\x10tQK" + std::string(1, '\0') +
        "K\x10\x85K\x01\x85\x89"
        "ccollections\nOrderedDict\n)RtR",
    "(X\x07" + std::string(3, '\0') + "storagectorch\nFloatStorage\nX\x01" + std::string(3, '\0') + "1X\x03" +
        std::string(3, '\0') + "cpuK\x10tQ",
    "X\x07" + std::string(3, '\0') + "storage",
    "X\x06" + std::string(3, '\0') + "latin1",
    "K\x02K\x04\x86",
    "}(",
    "](",
};

}  // namespace

std::string archive_of(const std::string& pickle, int further) {
  MemoryWritable file;
  ZipWriter zip(file);
  zip.add("archive/data.pkl", pickle);
  for (const char* storage : {"archive/data/0", "archive/data/1"}) zip.add(storage, std::string(64, '\x3f'));
  for (int i = 0; i < further; ++i) zip.add("archive/data/x" + std::to_string(i), std::string_view());
  zip.add("archive/version", "3\n");
  zip.finish();
  return std::move(file.content);
}

std::uint64_t pickle_size(const std::string& content) {
  if (!content.starts_with("PK")) return content.size();
  try {
    const MemoryReadable file(content);
    const ZipReader zip(file, "x");
    if (zip.records().empty()) return 0;
    const std::string& first = zip.records().front().name;
    const ZipRecord* record = zip.find(first.substr(0, first.find('/') + 1) + "data.pkl");
    return record ? record->size : 0;
  } catch (const Error&) {
    return 0;
  }
}

std::string Mutator::make(std::uint64_t seed, std::uint64_t number) {
  rng_ = Rng(seed, number);
  if (rng_.chance(0.3)) return rng_.chance(0.7) ? archive_of(random_pickle()) : random_pickle();
  std::string content = pick();
  for (std::uint64_t count = 1 + rng_.below(4); count > 0; --count) mutate(content);
  return content;
}

void Mutator::mutate(std::string& content) {
  if (content.empty()) return;
  const std::size_t at = rng_.below(content.size());
  const std::size_t length = std::min<std::size_t>(content.size() - at, 1 + rng_.below(rng_.chance(0.8) ? 16 : 4096));
  switch (rng_.below(9)) {
    case 0:
      content[at] = static_cast<char>(content[at] ^ (1 << rng_.below(8)));
      return;
    case 1:
      content[at] = static_cast<char>(rng_.next());
      return;
    case 2:
      content.resize(at);
      return;
    case 3:
      content.erase(at, length);
      return;
    case 4:
      content.insert(at, content.substr(rng_.below(content.size()), length));
      return;
    case 5: {
      const std::string& other = pick();
      if (!other.empty()) content = content.substr(0, at) + other.substr(rng_.below(other.size()));
      return;
    }
    case 6:
      return edit_pickle(content);
    default:
      return edit_number(content);
  }
}

// Lengths, offsets and counts: of the archive near its end, of the pickle anywhere.
void Mutator::edit_number(std::string& content) {
  constexpr std::array<std::size_t, 4> kWidths = {1, 2, 4, 8};
  const std::size_t width = kWidths[rng_.below(4)];
  if (content.size() < width) return;
  const std::size_t range = content.size() - width + 1;
  const std::size_t at = rng_.chance(0.3) ? range - 1 - rng_.below(std::min<std::size_t>(range, 200)) : rng_.below(range);
  std::uint64_t number = 0;
  std::memcpy(&number, content.data() + at, width);
  const std::array<std::uint64_t, 12> numbers = {
      0,          1,          number + 1, number - 1, number * 2, content.size(),
      0x7fffffff, 0xffffffff, 0xffff,     ~0ull,      ~0ull >> 1, rng_.next() >> rng_.below(64)};
  number = numbers[rng_.below(numbers.size())];
  std::memcpy(content.data() + at, &number, width);
}

void Mutator::edit_pickle(std::string& content) {
  const std::size_t start = content.find(std::string("\x80", 1));
  if (start == std::string::npos) return;
  const std::size_t at = start + rng_.below(content.size() - start);
  const std::string phrase = random_operation();
  if (rng_.chance(0.5)) {
    content.replace(at, phrase.size(), phrase);  // what follows keeps its place, so that an archive stays whole
  } else {
    content.insert(at, phrase);
  }
}

std::string Mutator::random_argument() {
  switch (rng_.below(5)) {
    case 0:
      return "K" + little(static_cast<std::uint8_t>(rng_.next() >> rng_.below(64)));
    case 1:
      return "J" + little(static_cast<std::int32_t>(rng_.next()));
    case 2:
      return "\x8a\x08" + little(rng_.next());
    case 3:
      return "X" + little(static_cast<std::uint32_t>(1)) + static_cast<char>('a' + rng_.below(4));
    default:
      return "h" + little(static_cast<std::uint8_t>(rng_.below(12)));
  }
}

std::string Mutator::random_operation() {
  constexpr std::string_view kPlain =
      "NN\x88\x89]})(((tttt\x85\x86\x87\x85\x86\x87"
      "aeessuuRRRRbQQ0122\x81\x8f\x90\x91\x93\x94\x94.";
  switch (rng_.below(8)) {
    case 0:
    case 1:
      return random_argument();
    case 2:
      return kPhrases[rng_.below(kPhrases.size())];
    case 3:
      return "q" + little(static_cast<std::uint8_t>(rng_.below(12)));
    case 4:
      return "U" + little(static_cast<std::uint8_t>(3)) +
             "a\xe9"
             "b";
    default:
      return std::string(1, kPlain[rng_.below(kPlain.size())]);
  }
}

std::string Mutator::random_pickle() {
  std::string pickle("\x80\x02", 2);
  const bool monotone = rng_.chance(0.2);
  const std::string again = random_operation();
  for (std::uint64_t count = rng_.below(monotone ? 3000 : 60); count > 0; --count) {
    pickle += monotone && rng_.chance(0.95) ? again : random_operation();
  }
  // Many programs end with more on the stack than one object, which is an error: gather it.
  if (rng_.chance(0.5)) pickle = pickle.substr(0, 2) + "(" + pickle.substr(2) + "t";
  return pickle + ".";
}

}  // namespace treadle
