#include <app/lr_schedule.hpp>
#include <app/schedule_command.hpp>
#include <app/terminal.hpp>
#include <app/text_curve.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/comm/group.hpp>
#include <treadle/defaults/default_trainer.hpp>
#include <treadle/defaults/options.hpp>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <string_view>

namespace treadle {
namespace {

constexpr int kLeastWidth = 20, kUsualWidth = 80, kGreatestWidth = 1000;
constexpr int kTableWidth = 46;  // with wide gaps, and without notes

/// COLUMNS counts wherever the output goes, as for other programs; the terminal is asked when it is one.
int output_width() {
  const std::string_view columns = std::getenv("COLUMNS") != nullptr ? std::getenv("COLUMNS") : "";
  int width = 0;
  const auto [end, error] = std::from_chars(columns.data(), columns.data() + columns.size(), width);
  if (error != std::errc() || end != columns.data() + columns.size() || width < 1) {
    winsize size{};
    const bool known = isatty(STDOUT_FILENO) == 1 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    width = known ? size.ws_col : kUsualWidth;
  }
  return std::clamp(width, kLeastWidth, kGreatestWidth);
}

/// Does the environment name a locale of UTF-8? The first of the three variables that is not empty counts. What they say is taken
/// as it is: a locale may be named without being installed here, as is usual in containers.
bool output_is_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') continue;
    std::string locale;
    for (const char* c = value; *c != '\0'; ++c) {
      if (*c != '-') locale += static_cast<char>(std::tolower(static_cast<unsigned char>(*c)));
    }
    return locale.find("utf8") != std::string::npos;
  }
  return false;
}

std::string table(const LRSchedule& schedule, std::int64_t count, int width) {
  const auto rows = schedule.rows(count);
  std::size_t notes = 0;
  for (const auto& [iteration, note] : rows) notes = std::max(notes, note.size());
  const bool wide = width >= kTableWidth, noted = width >= kTableWidth + 2 + static_cast<int>(notes);
  const std::string_view gap = wide ? "  " : " ", rate = wide ? "learning rate" : "lr";
  const int rate_width = wide ? 13 : 10;
  std::string text =
      fmt::format("{:>9}{}{:>8}{}{:>10}{}{:>{}}\n", "iteration", gap, "progress", gap, "factor", gap, rate, rate_width);
  for (const auto& [iteration, note] : rows) {
    text += fmt::format("{:>9}{}{:>8.6f}{}{:>10.5g}{}{:>{}.5g}", iteration, gap, schedule.progress(iteration), gap,
                        schedule.factor(iteration), gap, schedule.lr(iteration), rate_width);
    text += noted && !note.empty() ? "  " + note + "\n" : "\n";
  }
  return text;
}

std::string drawing(const LRSchedule& schedule, int width) {
  std::vector<double> rates;
  // More than the dots of the drawing, so that steep parts keep their place.
  for (std::int64_t iteration : schedule.evenly_spaced(std::int64_t{16} * width)) rates.push_back(schedule.lr(iteration));
  const CurveOptions options{.width = width,
                             .unicode = output_is_utf8(),
                             .last = schedule.max_iter() - 1,
                             .x_label = "iteration",
                             .y_label = "learning rate"};
  return fmt::format("{}\n", fmt::join(draw_curve(rates, options), "\n"));
}

/// With TREADLE.SOLVER.MAX_EPOCHS: as many iterations as a run would make of them, which needs the training data. Nothing is read
/// of it but how much there is.
void count_epochs(Config& config) {
  if (config.get_double("TREADLE.SOLVER.MAX_EPOCHS") == 0) return;
  Config plain = config.clone();
  plain.set("DATALOADER.NUM_WORKERS", 0);
  plain.set("MODEL.DEVICE", "cpu");
  apply_max_epochs(config, *default_builders().train_loader(plain, make_single_process_group()));
}

std::string epochs_of(const Config& config) {
  const double epochs = config.get_double("TREADLE.SOLVER.MAX_EPOCHS");
  return epochs > 0 ? fmt::format(" ({} epoch{})", epochs, epochs == 1 ? "" : "s") : "";
}

/// What the rates above do not show.
std::string remarks(const Config& config, double bias_lr_factor) {
  std::string text;
  if (bias_lr_factor != 1) text += fmt::format("\nBiases get {} times these rates (SOLVER.BIAS_LR_FACTOR).\n", bias_lr_factor);
  if (const std::int64_t workers = config.get_int("SOLVER.REFERENCE_WORLD_SIZE"); workers != 0)
    text += fmt::format("\nThis is the schedule for {} processes (SOLVER.REFERENCE_WORLD_SIZE).\n", workers);
  return text;
}

void print_csv(const LRSchedule& schedule) {
  constexpr std::size_t chunk = 1 << 16;
  std::string text;
  for (std::int64_t iteration = 0; iteration < schedule.max_iter(); ++iteration) {
    text += fmt::format("{},{}\n", iteration, schedule.lr(iteration));
    if (text.size() < chunk) continue;
    print(text);
    text.clear();
  }
  print(text);
}

}  // namespace

CLI::App* add_schedule_command(CLI::App& app, ScheduleArguments& arguments) {
  CLI::App* command = app.add_subcommand("schedule", "Show the learning rates of a config as a table and a curve.");
  add_config_arguments(*command, arguments);
  CLI::Option* rows = command->add_option("--rows", arguments.rows, "evenly spaced rows of the table, besides those that matter")
                          ->type_name("N")
                          ->capture_default_str();
  command->add_flag("--csv", arguments.csv, "print a line \"iteration,rate\" for every iteration, in full precision, and no more")
      ->excludes(rows);
  command->footer(
      "Example:\n"
      "  treadle schedule --config-file configs/fashion_mnist_cnn.yaml SOLVER.WARMUP_ITERS 200\n"
      "The curve is as wide as the terminal, or COLUMNS. Exit status: 0 done, 1 an error, 2 wrong usage.");
  return command;
}

int run_schedule(const ScheduleArguments& arguments) {
  if (arguments.rows < 1) throw ConfigError(fmt::format("--rows is {}: at least 1 is needed", arguments.rows), "--rows");
  std::optional<LogToStderr> log;
  if (arguments.csv) log.emplace();
  Config config = read_config(arguments);
  count_epochs(config);
  const OptimizerOptions optimizer = optimizer_options(config);
  const LRSchedulerOptions options = lr_scheduler_options(config);
  const LRSchedule schedule(options);
  if (arguments.csv) {
    print_csv(schedule);
    return 0;
  }
  const int width = output_width();
  print(fmt::format("{}, {} iteration{}{}\n\n{}\n{}{}", options.name, options.max_iter, options.max_iter == 1 ? "" : "s",
                    epochs_of(config), table(schedule, arguments.rows, width), drawing(schedule, width),
                    remarks(config, optimizer.bias_lr_factor)));
  return 0;
}

}  // namespace treadle
