#pragma once

// How every benchmark says what it measured: a line for people, and, in the file that TREADLE_BENCH_RESULTS names, a line of JSON
// from which tools/bench.py makes the table. A program whose comparison fails ends with a status other than 0, so that no row is
// missing without a word.

#include <string>

namespace treadle {

/// What is asked of a figure.
struct Asked {
  enum class Of { nothing, ours, ours_over_peer, peer_over_ours, difference };
  Of of = Of::nothing;
  double limit = 0;  ///< at least for peer_over_ours, at most for the others

  static Asked nothing() { return {}; }
  static Asked at_most(double limit) { return {Of::ours, limit}; }
  static Asked ratio_at_most(double limit) { return {Of::ours_over_peer, limit}; }
  static Asked faster_at_least(double times) { return {Of::peer_over_ours, times}; }
  static Asked more_at_most(double difference) { return {Of::difference, difference}; }
};

/// One figure: medians of both sides, taken in turns in one run.
struct Figure {
  std::string what;
  std::string unit;  ///< of both sides
  double ours = 0;
  std::string peer{};  ///< empty: there is none
  double theirs = 0;
  Asked asked{};
};

/// Prints the figure, and appends it to the results. Call it from one process at a time.
void report(const Figure& figure);

/// A fact that no limit judges, such as a peer that is absent.
void remark(const std::string& text);

/// Whether TREADLE_BENCH_QUICK asks for a short run.
bool quick();

/// The rounds of a comparison: `full`, or 3 in a short run.
int rounds(int full);

}  // namespace treadle
