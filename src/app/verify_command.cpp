#include <app/checkpoint_leaves.hpp>
#include <app/terminal.hpp>
#include <app/verify_command.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/checkpoint/file_system.hpp>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>

namespace treadle {
namespace {

namespace fs = std::filesystem;

/// Throws Error when the file is damaged.
std::string verdict(const fs::path& file) {
  const Value root = read_checkpoint(file);
  const Totals sum = totals(leaves(root));
  std::string text = fmt::format("{} tensors, {}, {} other values", sum.tensors, size_text(sum.bytes), sum.others);
  const Value* iteration = root.is(Value::Type::dict) ? root.as_dict().find("iteration") : nullptr;
  if (iteration && iteration->is(Value::Type::integer)) text += fmt::format(", iteration {}", iteration->as_int());
  return has_checksums(file) ? text : text + ", in a format without checksums";
}

std::vector<fs::path> checkpoints_in(const fs::path& folder) {
  constexpr std::array kEndings = {".pth", ".pt", ".pkl", ".pyth", ".safetensors"};
  std::vector<fs::path> found;
  for (const FolderEntry& entry : local_file_system()->list(folder)) {
    const std::string ending = fs::path(entry.name).extension().string();
    if (entry.is_file && std::find(kEndings.begin(), kEndings.end(), ending) != kEndings.end())
      found.push_back(folder / entry.name);
  }
  std::sort(found.begin(), found.end());
  return found;
}

/// The file `last_checkpoint` must name one that is there.
bool last_is_there(const fs::path& folder) {
  const fs::path last = folder / "last_checkpoint";
  if (!local_file_system()->is_file(last)) return true;
  std::string name = read_small_file(*local_file_system(), last);
  name.erase(name.find_last_not_of(" \t\r\n") + 1);
  if (!name.empty() && local_file_system()->is_file(folder / name)) {
    print_line(fmt::format("last_checkpoint: {}", printable(name)));
    return true;
  }
  print_line(fmt::format("bad   last_checkpoint names \"{}\", which is not there", printable(name)));
  return false;
}

int verify_folder(const fs::path& folder) {
  const std::vector<fs::path> files = checkpoints_in(folder);
  if (files.empty()) throw Error(fmt::format("there is no checkpoint in \"{}\"", folder.string()));
  std::size_t bad = 0;
  for (const fs::path& file : files) {
    const std::string name = printable(file.filename().string());
    try {
      print_line(fmt::format("good  {}: {}", name, verdict(file)));
    } catch (const Error& error) {
      print_line(fmt::format("bad   {}", printable(error.what())));
      ++bad;
    }
  }
  const bool last = last_is_there(folder);
  print_line(fmt::format("{} of {} checkpoints are good", files.size() - bad, files.size()));
  return bad == 0 && last ? 0 : 1;
}

}  // namespace

CLI::App* add_verify_command(CLI::App& app, VerifyArguments& arguments) {
  CLI::App* verify =
      app.add_subcommand("verify", "Read a checkpoint, or all in a folder, and compare every checksum that the format has.");
  verify->add_option("PATH", arguments.path, "a checkpoint, or a folder of them")->required()->type_name("");
  verify->footer(
      "Exit status: 0 all are good, 1 one is damaged (or last_checkpoint names a file that is not there).\n"
      "Example:\n"
      "  treadle verify output/");
  return verify;
}

int run_verify(const VerifyArguments& arguments) {
  if (fs::is_directory(arguments.path)) return verify_folder(arguments.path);
  print_line(fmt::format("good  {}: {}", printable(arguments.path), verdict(arguments.path)));
  return 0;
}

}  // namespace treadle
