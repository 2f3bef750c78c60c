#pragma once

#include <array>
#include <string_view>
#include <utility>

namespace treadle {

/// What a hook does, as far as its place among the others matters. The whole order is the table `kPhaseOrder`.
enum class Phase {
  timing,           ///< measures the step
  schedule,         ///< sets learning rates
  statistics,       ///< completes the model: precise batch norm, averages of weights
  checkpoint,       ///< saves the state
  evaluation,       ///< computes results of the model
  best_checkpoint,  ///< decides by results: keeps the best, stops early
  reporting,        ///< writes what the others recorded
  any               ///< may stand anywhere
};

/// Every pair (before, after): a hook of the second phase never stands in front of one of the first.
/// - What changes the step's facts or the model comes before what saves and what evaluates it.
/// - What judges results comes after what computes them, and its file after the regular one.
/// - Reports come last, or they would lack what is recorded behind them.
inline constexpr std::array kPhaseOrder = {
    std::pair{Phase::timing, Phase::checkpoint},          std::pair{Phase::timing, Phase::evaluation},
    std::pair{Phase::timing, Phase::best_checkpoint},     std::pair{Phase::timing, Phase::reporting},
    std::pair{Phase::schedule, Phase::checkpoint},        std::pair{Phase::schedule, Phase::evaluation},
    std::pair{Phase::schedule, Phase::best_checkpoint},   std::pair{Phase::schedule, Phase::reporting},
    std::pair{Phase::statistics, Phase::checkpoint},      std::pair{Phase::statistics, Phase::evaluation},
    std::pair{Phase::statistics, Phase::best_checkpoint}, std::pair{Phase::statistics, Phase::reporting},
    std::pair{Phase::checkpoint, Phase::best_checkpoint}, std::pair{Phase::checkpoint, Phase::reporting},
    std::pair{Phase::evaluation, Phase::best_checkpoint}, std::pair{Phase::evaluation, Phase::reporting},
    std::pair{Phase::best_checkpoint, Phase::reporting},
};

/// True when a hook of phase `first` must stand before a hook of phase `second`.
constexpr bool must_precede(Phase first, Phase second) noexcept {
  for (const auto& [before, after] : kPhaseOrder) {
    if (before == first && after == second) return true;
  }
  return false;
}

constexpr std::string_view to_string(Phase phase) noexcept {
  constexpr std::string_view names[] = {"timing",     "schedule",        "statistics", "checkpoint",
                                        "evaluation", "best checkpoint", "reporting",  "any"};
  return names[static_cast<std::size_t>(phase)];
}

}  // namespace treadle
