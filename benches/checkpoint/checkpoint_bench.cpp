// What a checkpoint of 256 MiB costs, each figure against the other side in the same run: a copy into a preallocated buffer, a
// plain write with fsync, and Python's torch.load. The two take turns, and the medians of their times are compared, so that a
// busy machine slows both. Files lie in the folder for temporary files (TMPDIR) and are read from the page cache. Prints one line
// for each figure.

#include <benches/python_side.hpp>
#include <benches/report.hpp>
#include <benches/timing.hpp>
#include <treadle/base/log.hpp>
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/checkpoint/open_file.hpp>

#include <ATen/Parallel.h>
#include <ATen/ops/randn.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <torch/nn/module.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace {

using treadle::median;
using treadle::seconds;

namespace fs = std::filesystem;

constexpr int kTensors = 256;
constexpr std::int64_t kFloats = 1 << 18;  // 1 MiB each

/// Runs both sides in turns; each gives the seconds it took.
void compare(const std::string& what, const std::string& other, double limit, int full, const std::function<double()>& mine,
             const std::function<double()>& theirs) {
  std::vector<double> my_times, their_times;
  mine(), theirs();
  for (int round = 0; round < treadle::rounds(full); ++round) {
    my_times.push_back(mine());
    their_times.push_back(theirs());
  }
  treadle::report({.what = what,
                   .unit = "ms",
                   .ours = 1e3 * median(my_times),
                   .peer = other,
                   .theirs = 1e3 * median(their_times),
                   .asked = treadle::Asked::ratio_at_most(limit)});
}

treadle::Dict tensors() {
  treadle::Dict state;
  for (int i = 0; i < kTensors; ++i) state.set("t" + std::to_string(i), at::randn({kFloats}));
  return state;
}

struct Weights : torch::nn::Module {
  explicit Weights(const treadle::Dict& state) {
    for (const auto& [key, value] : state) register_buffer(key.string(), value.as_tensor());
  }
};

/// What `save_async` takes of the loop's time, the writer being idle, against copying into buffers that are there already.
void compare_stall(const treadle::Dict& state, const fs::path& folder) {
  Weights model(state);
  treadle::Checkpointer checkpointer(model, folder / "async");
  std::vector<at::Tensor> buffers;
  for (const auto& entry : state) buffers.push_back(entry.value.as_tensor().clone());
  const auto mine = [&] {
    const double time = seconds([&] { checkpointer.save_async("m"); });
    checkpointer.wait();
    return time;
  };
  const auto theirs = [&] {
    return seconds([&] {
      std::size_t i = 0;
      for (const auto& entry : state) buffers[i++].copy_(entry.value.as_tensor());
    });
  };
  compare("stall of save_async", "copy into a preallocated buffer", 1.2, 9, mine, theirs);
}

void compare_save(const treadle::Dict& state, const fs::path& folder) {
  const fs::path plain = folder / "plain";
  const auto mine = [&] {
    fs::remove(folder / "saved.pth");
    return seconds([&] { treadle::save_checkpoint_file(folder / "saved.pth", state); });
  };
  const auto theirs = [&] {
    // A new file each time, as a checkpoint is.
    fs::remove(plain);
    return seconds([&] {
      const int file = open(plain.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
      bool done = file >= 0;
      for (const auto& entry : state) {
        const at::Tensor& tensor = entry.value.as_tensor();
        done = done && write(file, tensor.const_data_ptr(), tensor.nbytes()) == static_cast<ssize_t>(tensor.nbytes());
      }
      done = done && fsync(file) == 0;
      close(file);
      if (!done) throw std::runtime_error("cannot write " + plain.string());
    });
  };
  compare("save, durable", "write + fsync", 1.1, 9, mine, theirs);
}

void compare_load(treadle::PythonSide& python, const fs::path& file) {
  if (!python.seconds("load " + file.string())) {
    treadle::remark("load and open are not compared: " + treadle::python_program() + " is absent, or has no torch");
    return;
  }
  const auto load = [&](bool verify) {
    return [&file, verify] { return seconds([&] { treadle::load_checkpoint_file(file, {.verify = verify}); }); };
  };
  const auto theirs = [&] { return python.seconds("load " + file.string()).value(); };
  compare("load, checksums verified", "torch.load", 1.5, 15, load(true), theirs);
  compare("load, not verified", "torch.load", 1.0, 15, load(false), theirs);
  const auto one = [&] {
    return seconds([&] {
      const treadle::CheckpointFile opened(file);
      opened.read(opened.content().as_dict().at("t100").as_tensor()).sum();
    });
  };
  compare("open, one tensor, verified", "torch.load(mmap=True), one tensor", 1.0, 31, one,
          [&] { return python.seconds("one " + file.string()).value(); });
}

}  // namespace

int main() {
  const treadle::LogCapture quiet([](treadle::LogLevel, std::string_view) {});
  // Started first: a process that holds 256 MiB is slow to fork.
  treadle::PythonSide python("checkpoint/python_load.py");
  at::set_num_threads(1);
  const fs::path folder = fs::temp_directory_path() / fmt::format("treadle-bench-{}", getpid());
  fs::create_directories(folder);
  const treadle::Dict state = tensors();
  std::fputs(
      fmt::format("checkpoint of {} MiB in {} tensors, in {}\n", kTensors * kFloats * 4 >> 20, kTensors, folder.string()).c_str(),
      stdout);
  compare_stall(state, folder);
  compare_save(state, folder);
  compare_load(python, folder / "saved.pth");
  fs::remove_all(folder);
  return 0;
}
