// What processes that train together pay, 2 and 4 of them over Gloo, one thread each:
//   a step of DistributedModel against Python's DistributedDataParallel (a tiny model, and one of 25 million parameters),
//   reduce_dict of 10 losses against the bare reduction of 10 numbers,
//   all_gather of a text of 1 kB against the bare collective and Python's all_gather_object,
//   the exchange of a step: a large step with it against one without.
// All sides wait in processes of their own and take turns; medians over the turns are compared. Python runs from TREADLE_PYTHON,
// or .venv; without it those comparisons are left out.

#include <benches/python_side.hpp>
#include <benches/report.hpp>
#include <benches/timing.hpp>
#include <comm/c10d.hpp>
#include <treadle/comm/comm.hpp>
#include <treadle/comm/process_group.hpp>
#include <treadle/engine/distributed_model.hpp>
#include <treadle/models/make_model.hpp>
#include <treadle/solver/optimizer_state.hpp>
#include <treadle/solver/sgd.hpp>

#include <ATen/Parallel.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>
#include <torch/utils.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace treadle;

constexpr int kTurns = 9;

/// One task, done once.
using Task = std::function<void()>;

struct Training {
  torch::nn::Sequential net;
  std::shared_ptr<Model> model;
  std::unique_ptr<Sgd> optimizer;
  at::Tensor x;
};

Task training(Group& group, int layers, std::int64_t features, std::int64_t batch, bool exchange) {
  auto parts = std::make_shared<Training>();
  torch::manual_seed(0);
  for (int i = 0; i < layers; ++i) {
    parts->net->push_back(torch::nn::Linear(features, features));
    parts->net->push_back(torch::nn::ReLU());
  }
  parts->model = create_ddp_model(make_model(parts->net,
                                             [](auto& net, const Batch& data) -> LossDict {
                                               return {{"loss", net->forward(data.tensor("x")).square().mean()}};
                                             }),
                                  std::shared_ptr<Group>(std::shared_ptr<Group>(), &group),
                                  {.gradients = {.gradient_as_bucket_view = true}});  // as DefaultTrainer has it
  parts->optimizer = std::make_unique<Sgd>(parts->model->parameters(), SgdOptions{.lr = 1e-3, .momentum = 0.9});
  parts->x = at::rand({batch, features});
  return [parts, &group, exchange] {
    const Batch data(Dict{{"x", parts->x}});
    const LossDict losses = parts->model->losses(data);
    const std::vector<double> row(6, 1.0);
    if (exchange) group.start_step_exchange(row);
    zero_grad(*parts->optimizer);
    losses.front().second.backward();
    if (exchange) group.wait_step_exchange();
    parts->optimizer->step();
  };
}

std::map<std::string, Task> tasks_of(Group& group, const ConnectOptions& options) {
  auto store = std::make_shared<Store>(options);
  auto link = std::make_shared<Link>(*store, LinkOptions{.name = "bare",
                                                         .rank = options.rank,
                                                         .world_size = options.world_size,
                                                         .timeout = options.timeout,
                                                         .address = "127.0.0.1"});
  Dict losses;
  for (int i = 0; i < 10; ++i) losses.set(fmt::format("loss_{}", i), 0.5 * i);
  const at::Tensor kilobyte = at::zeros({1000}, at::kByte), all = at::zeros({std::int64_t{1000} * options.world_size}, at::kByte);
  return {{"small", training(group, 2, 16, 8, false)},
          {"large", training(group, 6, 2048, 8, false)},
          {"large with exchange", training(group, 6, 2048, 8, true)},
          {"reduce_dict", [&group, losses] { group.reduce_dict(losses); }},
          {"bare reduce",
           [store, link] {
             std::vector<at::Tensor> tensors{at::zeros({10})};
             link->impl()->gloo->reduce(tensors)->wait();
           }},
          {"all_gather", [&group, text = Value(std::string(1000, 'x'))] { group.all_gather(text); }},
          {"bare all_gather", [store, link, kilobyte, all] {
             at::Tensor in = kilobyte, out = all;
             link->impl()->gloo->_allgather_base(out, in)->wait();
           }}};
}

std::string read_line(int file) {
  std::string line;
  for (char c = 0; read(file, &c, 1) == 1 && c != '\n';) line += c;
  return line;
}
void write_line(int file, const std::string& line) {
  const std::string text = line + "\n";
  if (write(file, text.data(), text.size()) < 0) std::exit(1);
}

/// Does what the lines ask for: a number of times and a task.
[[noreturn]] void serve(const ConnectOptions& options, int in, int out) {
  at::set_num_threads(1);
  const auto group = connect_group(options);
  const std::map<std::string, Task> tasks = tasks_of(*group, options);
  write_line(out, "ready");
  for (std::string line; !(line = read_line(in)).empty();) {
    const std::size_t space = line.rfind(' ');
    const int count = std::stoi(line.substr(space + 1));
    const Task& task = tasks.at(line.substr(0, space));
    group->synchronize();
    const double all = seconds([&] {
      for (int i = 0; i < count; ++i) task();
    });
    write_line(out, fmt::format("{}", all / count));
  }
  std::fflush(nullptr);
  _exit(0);
}

/// The ranks of one side, each in a process that waits for lines.
class Side {
 public:
  Side(int size, const std::function<void(int rank, int in, int out)>& run) {
    for (int rank = 0; rank < size; ++rank) {
      int to[2], from[2];
      if (pipe(to) != 0 || pipe(from) != 0) std::exit(1);
      const pid_t pid = fork();
      if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(to[1]);
        close(from[0]);
        // Nothing of a rank may get into the code of the process that asks.
        try {
          run(rank, to[0], from[1]);
        } catch (const std::exception& error) {
          std::fprintf(stderr, "rank %d: %s\n", rank, error.what());
        }
        _exit(1);
      }
      close(to[0]);
      close(from[1]);
      ranks_.push_back({pid, to[1], from[0]});
    }
  }
  ~Side() {
    for (const Rank& rank : ranks_) {
      close(rank.to);
      kill(rank.pid, SIGKILL);
      waitpid(rank.pid, nullptr, 0);
      close(rank.from);
    }
  }
  bool ready() {
    bool all = true;
    for (const Rank& rank : ranks_) all = read_line(rank.from) == "ready" && all;
    return all;
  }
  /// Seconds of one task, on rank 0.
  double ask(const std::string& task, int count) {
    for (const Rank& rank : ranks_) write_line(rank.to, fmt::format("{} {}", task, count));
    std::vector<double> answers;
    for (const Rank& rank : ranks_) {
      const std::string line = read_line(rank.from);
      if (line.empty()) throw std::runtime_error("a rank ended in the middle of " + task);
      answers.push_back(std::strtod(line.c_str(), nullptr));
    }
    return answers.front();
  }

 private:
  struct Rank {
    pid_t pid;
    int to, from;
  };
  std::vector<Rank> ranks_;
};

struct Subject {
  Side& side;
  std::string task;
  std::string label;
};

/// Both take turns. Gives their medians in seconds.
std::pair<double, double> alternate(const Subject& ours, const Subject& peer, int count) {
  std::vector<double> our_times, their_times;
  for (int turn = -1; turn < rounds(kTurns); ++turn) {
    const double mine = ours.side.ask(ours.task, count), theirs = peer.side.ask(peer.task, count);
    if (turn < 0) continue;  // the first is for warming up
    our_times.push_back(mine);
    their_times.push_back(theirs);
  }
  return {median(our_times), median(their_times)};
}

void compare(int size, const Subject& ours, const Subject& peer, int count, double limit) {
  const auto [mine, theirs] = alternate(ours, peer, count);
  report({.what = fmt::format("{} ranks: {}", size, ours.label),
          .unit = "us",
          .ours = mine * 1e6,
          .peer = peer.label,
          .theirs = theirs * 1e6,
          .asked = Asked::ratio_at_most(limit)});
}

/// Throws when our ranks do not start, or a rank of either side ends early.
void compare_all(int size, const std::filesystem::path& folder) {
  const auto file = [&](const char* side) { return (folder / fmt::format("{}-{}", side, size)).string(); };
  Side ours(size, [&](int rank, int in, int out) {
    serve({.rank = rank,
           .world_size = size,
           .local_rank = rank,
           .local_size = size,
           .file = file("ours"),
           .timeout = std::chrono::minutes(2)},
          in, out);
  });
  const std::string program = python_program();
  const std::string script = source_folder() + "/benches/distributed/ranks.py";
  Side python(size, [&](int rank, int in, int out) {
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    execl(program.c_str(), program.c_str(), script.c_str(), std::to_string(rank).c_str(), std::to_string(size).c_str(),
          file("python").c_str(), nullptr);
  });
  if (!ours.ready()) throw std::runtime_error(fmt::format("{} ranks did not start", size));
  const bool has_python = python.ready();
  if (!has_python) remark(fmt::format("{} ranks: no comparison with Python: {} does not run {}", size, program, script));
  if (has_python) {
    compare(size, {ours, "small", "tiny DDP step"}, {python, "small", "Python DDP"}, 100, 1);
    compare(size, {ours, "large", "25 M DDP step"}, {python, "large", "Python DDP"}, 3, 1);
  }
  compare(size, {ours, "large with exchange", "25 M step with the exchange"}, {ours, "large", "without"}, 3, 1.02);
  compare(size, {ours, "reduce_dict", "reduce_dict of 10"}, {ours, "bare reduce", "bare reduce"}, 300, 1.3);
  const Subject gather{ours, "all_gather", "all_gather of 1 kB"};
  compare(size, gather, {ours, "bare all_gather", "bare all_gather"}, 300, 3);
  if (has_python) compare(size, gather, {python, "all_gather", "Python all_gather_object"}, 300, 1.0 / 3);
}

}  // namespace

int main() {
  std::signal(SIGPIPE, SIG_IGN);
  std::string pattern = (std::filesystem::temp_directory_path() / "treadle_bench_XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) return 1;
  bool all = true;
  for (int size : {2, 4}) {
    if (quick() && size > 2) continue;  // a minute on two cores
    try {
      compare_all(size, pattern);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      all = false;
    }
  }
  std::filesystem::remove_all(pattern);
  return all ? 0 : 1;
}
