#include "benches/report.hpp"

#include <ATen/Version.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>

namespace treadle {

namespace {

struct Verdict {
  const char* of;
  double value;
  bool met;
};

std::optional<Verdict> judge(const Figure& figure) {
  const double limit = figure.asked.limit;
  switch (figure.asked.of) {
    case Asked::Of::nothing:
      return std::nullopt;
    case Asked::Of::ours:
      return Verdict{"ours", figure.ours, figure.ours <= limit};
    case Asked::Of::ours_over_peer: {
      const double ratio = figure.ours / figure.theirs;
      return Verdict{"ours/peer", ratio, ratio <= limit};
    }
    case Asked::Of::peer_over_ours: {
      const double ratio = figure.theirs / figure.ours;
      return Verdict{"peer/ours", ratio, ratio >= limit};
    }
    case Asked::Of::difference: {
      const double more = figure.ours - figure.theirs;
      return Verdict{"ours-peer", more, more <= limit};
    }
  }
  return std::nullopt;
}

const char* sign_of(const Asked& asked) { return asked.of == Asked::Of::peer_over_ours ? ">=" : "<="; }

/// Each file of results begins with what only a program that has loaded LibTorch knows.
void append(const nlohmann::ordered_json& line) {
  const char* path = std::getenv("TREADLE_BENCH_RESULTS");
  if (path == nullptr) return;
  std::FILE* file = std::fopen(path, "a");
  if (file == nullptr) {
    std::fprintf(stderr, "cannot write %s: %s\n", path, std::strerror(errno));
    std::exit(1);
  }
  std::fseek(file, 0, SEEK_END);
  if (std::ftell(file) == 0) {
    const nlohmann::ordered_json facts{{"cpu_capability", at::get_cpu_capability()}};
    std::fputs((facts.dump() + "\n").c_str(), file);
  }
  std::fputs((line.dump() + "\n").c_str(), file);
  std::fclose(file);
}

}  // namespace

void report(const Figure& figure) {
  const std::optional<Verdict> verdict = judge(figure);
  std::string text = fmt::format("{:<56} {:>12.2f} {}", figure.what, figure.ours, figure.unit);
  nlohmann::ordered_json line{{"what", figure.what}, {"unit", figure.unit}, {"ours", figure.ours}};
  if (!figure.peer.empty()) {
    text += fmt::format("   {} {:.2f} {}", figure.peer, figure.theirs, figure.unit);
    line["peer"] = figure.peer;
    line["theirs"] = figure.theirs;
  }
  if (verdict) {
    if (!figure.peer.empty()) text += fmt::format("   {} {:.3g}", verdict->of, verdict->value);
    text += fmt::format("   asked {} {:.3g}: {}", sign_of(figure.asked), figure.asked.limit, verdict->met ? "met" : "MISSED");
    line["judged"] = verdict->of;
    line["value"] = verdict->value;
    line["sign"] = sign_of(figure.asked);
    line["limit"] = figure.asked.limit;
    line["met"] = verdict->met;
  }
  std::fputs((text + "\n").c_str(), stdout);
  std::fflush(stdout);
  append(line);
}

void remark(const std::string& text) {
  std::fputs((text + "\n").c_str(), stdout);
  std::fflush(stdout);
  append({{"remark", text}});
}

bool quick() {
  const char* asked = std::getenv("TREADLE_BENCH_QUICK");
  return asked != nullptr && *asked != '\0' && std::strcmp(asked, "0") != 0;
}

int rounds(int full) { return quick() ? 3 : full; }

}  // namespace treadle
