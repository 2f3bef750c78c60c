// What a checkpoint of 256 MiB costs, each figure against the other side in the same run: a copy into a preallocated buffer, a
// plain write with fsync, and Python's torch.load. The two take turns, and the medians of their times are compared, so that a
// busy machine slows both. Files lie in the folder for temporary files (TMPDIR) and are read from the page cache. Prints one line
// for each figure.
//
// Python runs beside in a process of its own, which answers each request with the seconds it took: TREADLE_PYTHON, or .venv's.

#include <benches/timing.hpp>
#include <treadle/base/log.hpp>
#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/checkpoint/file.hpp>
#include <treadle/checkpoint/open_file.hpp>

#include <ATen/Parallel.h>
#include <ATen/ops/randn.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <torch/nn/module.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
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
void compare(const std::string& what, const std::string& other, double limit, int rounds, const std::function<double()>& mine,
             const std::function<double()>& theirs) {
  std::vector<double> my_times, their_times;
  mine(), theirs();
  for (int round = 0; round < rounds; ++round) {
    my_times.push_back(mine());
    their_times.push_back(theirs());
  }
  const double my_time = median(my_times), their_time = median(their_times);
  std::fputs(fmt::format("{:<36} {:>8.2f} ms   {:<36} {:>8.2f} ms   ratio {:>5.2f}  (at most {:.1f}: {})\n", what, my_time * 1e3,
                         other, their_time * 1e3, my_time / their_time, limit, my_time <= limit * their_time ? "holds" : "missed")
                 .c_str(),
             stdout);
  std::fflush(stdout);
}

/// A Python process with torch that does one thing at a time.
class Python {
 public:
  Python() {
    const char* chosen = std::getenv("TREADLE_PYTHON");
    const std::string program = chosen ? chosen : ".venv/bin/python";
    if (!fs::exists(program)) {
      reason_ = program + " is not there; run it in the project's folder, or set TREADLE_PYTHON";
      return;
    }
    int to[2], from[2];
    if (pipe(to) != 0 || pipe(from) != 0) throw std::runtime_error("pipe failed");
    pid_ = fork();
    if (pid_ == 0) {
      dup2(to[0], STDIN_FILENO);
      dup2(from[1], STDOUT_FILENO);
      for (int end : {to[0], to[1], from[0], from[1]}) close(end);
      execl(program.c_str(), program.c_str(), "-c", kProgram, nullptr);
      _exit(127);
    }
    close(to[0]);
    close(from[1]);
    requests_ = fdopen(to[1], "w");
    answers_ = fdopen(from[0], "r");
    if (ask("hello", "") < 0) reason_ = program + " has no torch";
  }
  ~Python() {
    if (pid_ < 0) return;
    std::fclose(requests_);
    std::fclose(answers_);
    waitpid(pid_, nullptr, 0);
  }
  Python(const Python&) = delete;
  Python& operator=(const Python&) = delete;

  /// Why there is none; empty when there is one.
  const std::string& reason() const { return reason_; }

  double ask(const std::string& what, const fs::path& path) {
    std::fputs((what + " " + path.string() + "\n").c_str(), requests_);
    std::fflush(requests_);
    char line[256] = "";
    return std::fgets(line, sizeof line, answers_) ? std::strtod(line, nullptr) : -1;
  }

 private:
  static constexpr const char* kProgram = R"(
import sys, time, torch
torch.set_num_threads(1)
def load(path): torch.load(path, weights_only=True)
def one(path): torch.load(path, weights_only=True, mmap=True)["t100"].sum()
for line in sys.stdin:
    what, _, path = line.rstrip("\n").partition(" ")
    run = {"hello": lambda path: None, "load": load, "one": one}[what]
    start = time.perf_counter()
    run(path)
    print(time.perf_counter() - start, flush=True)
)";
  std::string reason_;
  pid_t pid_ = -1;
  FILE* requests_ = nullptr;
  FILE* answers_ = nullptr;
};

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

void compare_load(Python& python, const fs::path& file) {
  const auto load = [&](bool verify) {
    return [&file, verify] { return seconds([&] { treadle::load_checkpoint_file(file, {.verify = verify}); }); };
  };
  const auto theirs = [&] { return python.ask("load", file); };
  compare("load, checksums verified", "torch.load", 1.5, 15, load(true), theirs);
  compare("load, not verified", "torch.load", 1.0, 15, load(false), theirs);
  const auto one = [&] {
    return seconds([&] {
      const treadle::CheckpointFile opened(file);
      opened.read(opened.content().as_dict().at("t100").as_tensor()).sum();
    });
  };
  compare("open, one tensor, verified", "torch.load(mmap=True), one tensor", 1.0, 31, one,
          [&] { return python.ask("one", file); });
}

}  // namespace

int main() {
  const treadle::LogCapture quiet([](treadle::LogLevel, std::string_view) {});
  // Started first: a process that holds 256 MiB is slow to fork.
  Python python;
  at::set_num_threads(1);
  const fs::path folder = fs::temp_directory_path() / fmt::format("treadle-bench-{}", getpid());
  fs::create_directories(folder);
  const treadle::Dict state = tensors();
  std::fputs(
      fmt::format("checkpoint of {} MiB in {} tensors, in {}\n", kTensors * kFloats * 4 >> 20, kTensors, folder.string()).c_str(),
      stdout);
  compare_stall(state, folder);
  compare_save(state, folder);
  if (python.reason().empty()) {
    compare_load(python, folder / "saved.pth");
  } else {
    std::fputs(("load and open are not compared: " + python.reason() + "\n").c_str(), stdout);
  }
  fs::remove_all(folder);
  return 0;
}
