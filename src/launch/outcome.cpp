#include <launch/outcome.hpp>

#include <fmt/format.h>

#include <sstream>

namespace treadle {

std::string to_text(const Outcome& outcome) {
  if (!outcome.failure) return "well";
  const Failure& failure = *outcome.failure;
  return fmt::format("failed {} {} {} {} {} {}", static_cast<int>(failure.kind), failure.rank, failure.status,
                     failure.exception ? 1 : 0, failure.may_restart ? 1 : 0, failure.text);
}

Outcome outcome_from_text(const std::string& text) {
  std::istringstream stream(text);
  std::string word;
  stream >> word;
  if (word == "well") return {};
  Failure failure;
  int kind = 0;
  stream >> kind >> failure.rank >> failure.status >> failure.exception >> failure.may_restart;
  stream.ignore(1);
  std::getline(stream, failure.text);
  failure.kind = static_cast<Failure::Kind>(kind);
  return {.failure = failure};
}

Outcome merge(const Outcome& a, const Outcome& b) {
  if (!a.failure || !b.failure) return a.failure ? a : b;
  const bool b_explains =
      b.failure->kind != a.failure->kind ? b.failure->kind < a.failure->kind : b.failure->rank < a.failure->rank;
  Outcome merged = b_explains ? b : a;
  merged.failure->may_restart = a.failure->may_restart && b.failure->may_restart;
  return merged;
}

}  // namespace treadle
