// Every row of the tables in docs/first_minutes.md is typed in a folder of its own, and what is said is compared with the page.
#include <tests/support/markdown.hpp>
#include <tests/support/process.hpp>
#include <tests/support/source_folder.hpp>
#include <tests/support/temporary_folder.hpp>
#include <tests/support/tiny_fashion.hpp>
#include <treadle/image/image.hpp>

#include <ATen/ops/randint.h>
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <regex>
#include <sstream>
#include <utility>

namespace treadle {
namespace {

namespace fs = std::filesystem;

const fs::path kRoot = source_folder();

std::string page() { return read_text(kRoot / "docs/first_minutes.md"); }

/// A port of this machine: listened at for as long as this object lives, or free a moment ago.
class Port {
 public:
  explicit Port(bool listening) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    const bool bound = ::bind(socket_, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                       (!listening || ::listen(socket_, 1) == 0) &&
                       ::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) == 0;
    if (!bound) throw std::runtime_error("no port to listen at");
    number_ = ntohs(address.sin_port);
    if (!listening) ::close(std::exchange(socket_, -1));
  }
  ~Port() {
    if (socket_ >= 0) ::close(socket_);
  }
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;
  std::string number() const { return std::to_string(number_); }

 private:
  int socket_;
  int number_ = 0;
};

fs::path command_path() {
  const char* path = std::getenv("TREADLE_COMMAND");
  return fs::absolute(path != nullptr ? path : "build/release/bin/treadle");
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// The folder that the page speaks of, which each row gets a copy of.
class Template {
 public:
  Template() {
    const auto blocks = code_blocks(page());
    write_text(folder_ / "my.yaml", blocks.at(0).code);
    write_text(folder_ / "pictures.yaml", blocks.at(1).code);
    fs::create_directory(folder_ / "data");
    write_tiny_fashion(folder_ / "data");
    for (const char* kind : {"cat", "dog"}) {
      const fs::path folder = fs::path(folder_ / "data/pictures") / kind;
      fs::create_directories(folder);
      for (int i = 1; i <= 8; ++i)
        save_png(Image(at::randint(256, {28, 28, 3}, at::kByte)), folder / (std::to_string(i) + ".png"));
    }
    const ProcessResult run = type("treadle train --config-file my.yaml OUTPUT_DIR trained", folder_.path());
    if (run.status != 0) throw std::runtime_error("the run of my.yaml failed: " + run.err);
  }

  void copy_to(const fs::path& folder) const { fs::copy(folder_.path(), folder, fs::copy_options::recursive); }

  /// Runs a line of shell in `folder`, as nobody when `harmless` and this is root, whom permissions do not stop.
  ProcessResult type(const std::string& line, const fs::path& folder, bool harmless = false) const {
    std::vector<std::string> words;
    if (harmless && geteuid() == 0) words = {"/usr/bin/setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"};
    words.insert(words.end(), {"/bin/bash", "-c", "cd '" + folder.string() + "' && exec < /dev/null\n" + line});
    const char* torch = std::getenv("TREADLE_TORCH");
    const bool own_torch = torch != nullptr && !fs::exists(kRoot / ".venv");
    return run_process(words, {{"PATH", command_path().parent_path().string() + ":" + (kRoot / ".venv/bin").string() + ":" +
                                            std::getenv("PATH")},
                               {"TORCH_PREFIX", own_torch ? torch : ""},
                               {"OMP_NUM_THREADS", "1"},
                               {"BUSY", busy_.number()},
                               {"FREE", free_.number()}});
  }

 private:
  TemporaryFolder folder_;
  const Port busy_{true}, free_{false};
};

/// Programs that play a machine on which set-up fails, each kind in a folder to be put in front of PATH.
void write_machines(const fs::path& folder) {
  const auto write = [&](const fs::path& file, const std::string& script) {
    fs::create_directories((folder / file).parent_path());
    write_text(folder / file, "#!/bin/sh\n" + script + "\n");
    fs::permissions(folder / file, fs::perms::owner_all);
  };
  const auto df = [](const std::string& free_kib) { return "echo; echo disk 0 0 " + free_kib; };
  for (const char* machine : {"not_root", "offline", "full", "filling"}) {
    write(fs::path(machine) / "dpkg-query", "exit 1");  // nothing is installed
    write(fs::path(machine) / "id", contains(machine, "not_root") ? "echo 1000" : "echo 0");
    write(fs::path(machine) / "df", df(contains(machine, "full") ? "102400" : "100000000"));
  }
  write("not_root/sudo", "exit 1");
  for (const std::string command : {"bash", "dirname", "head", "make", "paste", "sed", "sort"})
    write(fs::path("not_debian") / command, "exec /usr/bin/" + command + " \"$@\"");
  const std::string only_installing = "case \"$*\" in *install*) exit 100;; esac";  // without lists apt-get update only warns
  write("offline/apt-get",
        "echo \"W: Failed to fetch http://deb.debian.org  Could not resolve 'deb.debian.org'\"; " + only_installing);
  write("filling/apt-get", "echo 'cannot copy extracted data: No space left on device'; " + only_installing);
  // A Python whose virtual environments have a pip that answers thus.
  for (const char* machine : {"no_index", "cuda"}) {
    write(fs::path(machine) / "python3",
          "if [ \"$2\" = venv ]; then mkdir -p \"$3/bin\" && cp \"${0%/*}/pip\" \"$3/bin/python\"; fi");
    write(fs::path(machine) / "uname", "echo x86_64");
  }
  write("no_index/df", df("100000000"));
  write("no_index/pip", "echo 'Retrying after NewConnectionError: Network is unreachable: /simple/torch/'; exit 1");
  write("cuda/df", df("9999999"));
  write("cuda/pip", "echo 'Available versions: 2.14.0, 2.13.0, 2.12.0'");
}

/// What the build reads, in `folder`; what it only compiles is linked.
void copy_repository(const fs::path& folder) {
  for (const char* file : {"Makefile", "CMakeLists.txt", "CMakePresets.json"}) fs::copy(kRoot / file, folder / file);
  for (const char* part : {"cmake", "tools"}) fs::copy(kRoot / part, folder / part, fs::copy_options::recursive);
  for (const char* part : {"src", "include", "tests", "examples", "configs", ".venv"}) {
    if (fs::exists(kRoot / part)) fs::create_symlink(kRoot / part, folder / part);
  }
  fs::create_directory(folder / "old");
  write_text(folder / "old/cmake", "#!/bin/sh\necho 'cmake version 3.18.4'\n");
  write_text(folder / "old/g++-9",
             "#!/bin/sh\nif [ \"$1\" = -dumpfullversion ]; then echo 9.3.0; else exec g++ -U__GNUC__ -D__GNUC__=9 \"$@\"; fi\n");
  for (const char* file : {"cmake", "g++-9"}) fs::permissions(folder / "old" / file, fs::perms::owner_all);
  write_machines(folder);
}

/// Whether `text` is `pattern`, in which `…` stands for anything.
bool matches(const std::string& text, const std::string& pattern) {
  static const std::regex special(R"([.^$|()\[\]{}*+?\\])");
  const std::string escaped = std::regex_replace(pattern, special, R"(\$&)");
  return std::regex_match(text, std::regex(std::regex_replace(escaped, std::regex("…"), ".*")));
}

/// What the page shows of the answer: the error; what a run that goes on warns of; without what `make` says itself, and with the
/// lines of CMake joined.
std::vector<std::string> answers(const std::string& line, const ProcessResult& result) {
  std::vector<std::string> lines;
  for (std::string& text : lines_of(result.err)) {
    if (!text.starts_with("make: ") && !text.starts_with("make[")) lines.push_back(std::move(text));
  }
  if (contains(line, "cmake ")) {
    std::istringstream words(result.err);
    std::string joined;
    for (std::string word; words >> word;) joined += (joined.empty() ? "" : " ") + word;
    return {joined};
  }
  if (result.status != 0) return lines;
  EXPECT_TRUE(lines.empty()) << result.err;
  std::vector<std::string> warnings;
  for (const std::string& text : lines_of(result.out)) {
    const std::size_t at = text.find("WARNING: ");
    if (at != std::string::npos) warnings.push_back(text.substr(at));
  }
  return warnings;
}

struct FirstMinutes : testing::TestWithParam<TableRow> {
  static inline std::optional<Template> start;
  static void SetUpTestSuite() { start.emplace(); }
  static void TearDownTestSuite() { start.reset(); }

  static std::string obstacle(const std::string& line) {
    const auto works = [](const std::string& probe, bool harmless = false) {
      return start->type(probe, fs::temp_directory_path(), harmless).status == 0;
    };
    if (contains(line, "mount ") && !works("d=$(mktemp -d) && mount -t tmpfs none $d && umount $d && rmdir $d"))
      return "only root may mount a file system";
    if (contains(line, "chmod ") && !works("treadle --version", true)) return "nobody but root can run the command from here";
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    if (contains(line, "1000000000000")) return "a sanitizer says a line of its own about so much memory";
#endif
    if (contains(line, "ulimit ") && !works("ulimit -f 64; treadle --version"))
      return "a sanitizer maps a larger file before main";
    if (contains(line, "python ") && !works("python -c 'import torch'")) return "there is no Python with torch in .venv";
    if (contains(line, "rm .venv") && !fs::exists(kRoot / ".venv")) return "there is no .venv";
    if (contains(line, "make build") && !works("command -v dpkg-query")) return "make build wants Debian's packages";
    return "";
  }
};

TEST_P(FirstMinutes, SaysWhatThePageShows) {
  const TableRow& row = GetParam();
  ASSERT_EQ(row.cells.size(), 3u) << "docs/first_minutes.md:" << row.line;
  const std::string &line = row.cells[0], &message = row.cells[1], &status = row.cells[2];
  if (const std::string reason = obstacle(line); !reason.empty()) GTEST_SKIP() << reason;
  const TemporaryFolder place;
  const fs::path folder = place / "row";
  start->copy_to(folder);
  if (contains(line, "make build") || (contains(line, "cmake ") && !contains(line, "find_package"))) copy_repository(folder);
  const bool harmless = contains(line, "chmod ");
  if (harmless && geteuid() == 0) start->type("chown -R 65534:65534 . ..", folder);

  const ProcessResult result = start->type(line, folder, harmless);
  EXPECT_EQ(std::to_string(result.status), status) << "docs/first_minutes.md:" << row.line << "\n" << result.err;
  const std::vector<std::string> said = answers(line, result);
  if (result.status != 0) {
    EXPECT_EQ(said.size(), 1u) << result.err;
  }
  EXPECT_TRUE(std::any_of(said.begin(), said.end(), [&](const std::string& text) { return matches(text, message); }))
      << "docs/first_minutes.md:" << row.line << " shows\n  " << message << "\nand this is said:\n  "
      << (said.empty() ? "" : said.front());
  for (const char* noise : {"Exception raised from", "frame #", "terminate called", "c10::", "std::"})
    EXPECT_FALSE(contains(result.err, noise)) << result.err;
  for (const auto& entry : fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied)) {
    const std::string name = entry.path().filename().string();
    EXPECT_FALSE(name.ends_with(".tmp") || name.ends_with(".treadle-tmp") || contains(name, "probe")) << entry.path();
  }
}

INSTANTIATE_TEST_SUITE_P(Page, FirstMinutes, testing::ValuesIn(table_rows(page())),
                         [](const auto& row) { return "line" + std::to_string(row.param.line); });

TEST(FirstMinutesPage, HoldsMistakesOfEveryKind) {
  const std::vector<TableRow> rows = table_rows(page());
  EXPECT_GE(rows.size(), 30u);
  for (const char* kind :
       {"--resum",  "SOLVER.MAX_ITR", "git-lfs", "gzip",    "TORCH_PREFIX",  "CXX",           "old:",          "mount",
        "chmod",    "--resume",       "$BUSY",   "_BASE_",  "ScriptedModel", "MODEL.WEIGHTS", "data/pictures", "ulimit",
        "not_root", "offline",        "full:",   "filling", "no_index",      "cuda:",         "not_debian"}) {
    EXPECT_TRUE(std::any_of(rows.begin(), rows.end(), [&](const TableRow& row) { return contains(row.cells[0], kind); })) << kind;
  }
}

/// Mistakes that one word of the line does not tell, by what is said to them.
TEST(FirstMinutesPage, HoldsTheMistakesOfGoingOn) {
  const std::vector<TableRow> rows = table_rows(page());
  const auto answer = [&](const std::string& line, const std::string& said) {
    return std::any_of(rows.begin(), rows.end(),
                       [&](const TableRow& row) { return contains(row.cells[0], line) && contains(row.cells[1], said); });
  };
  EXPECT_TRUE(answer("my.yaml OUTPUT_DIR trained", "holds an earlier run")) << "a forgotten --resume";
  EXPECT_TRUE(answer("& until", "another run is training in")) << "two runs in one folder";
  EXPECT_TRUE(answer("--resume OUTPUT_DIR trained", "the checkpoint is of another model")) << "a changed model";
  EXPECT_TRUE(answer("_use_new_zipfile_serialization=False", "WARNING: ")) << "a file of PyTorch before 1.6";
  EXPECT_TRUE(answer("VERSION: 1", "an old config of version 1")) << "an old config";
  EXPECT_TRUE(answer("['version'] = 2", "of the record")) << "a checkpoint of another version";
}

}  // namespace
}  // namespace treadle
