#include <treadle/base/text.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>

namespace treadle {
namespace {

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

// Damerau-Levenshtein distance (optimal string alignment): three rows of the usual table.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before.swap(last);
    last.swap(row);
  }
  return last[b.size()];
}

/// "MAX_ITER" of "SOLVER.MAX_ITER", "accuracy" of "classification/accuracy".
std::string_view last_part(std::string_view name) {
  const std::size_t separator = name.find_last_of("./");
  return separator == std::string_view::npos ? name : name.substr(separator + 1);
}

}  // namespace

std::vector<std::string> nearest_names(std::string_view word, std::span<const std::string> candidates, std::size_t count) {
  const std::string wanted = lower(word);
  std::vector<std::pair<std::size_t, const std::string*>> near;
  for (const std::string& candidate : candidates) {
    const std::string name = lower(candidate);
    const std::size_t distance = wanted == last_part(name) ? 0 : edit_distance(wanted, name);
    if (distance <= std::max<std::size_t>(1, wanted.size() / 3)) near.emplace_back(distance, &candidate);
  }
  std::stable_sort(near.begin(), near.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> names;
  for (std::size_t i = 0; i < std::min(count, near.size()); ++i) names.push_back(*near[i].second);
  return names;
}

namespace {

std::string join_quoted(std::span<const std::string> names, std::string_view last_separator) {
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i) text += i + 1 == names.size() ? last_separator : ", ";
    text += "\"" + names[i] + "\"";
  }
  return text;
}

}  // namespace

std::string did_you_mean(std::string_view word, std::span<const std::string> candidates) {
  const auto near = nearest_names(word, candidates);
  return near.empty() ? "" : " (did you mean " + join_quoted(near, " or ") + "?)";
}

std::string quoted_list(std::span<const std::string> names) { return names.empty() ? "none" : join_quoted(names, " and "); }

std::string format_duration(double seconds) {
  // The range of timedelta; std::max gives 0 for what is no number.
  constexpr double most = 999'999'999 * 86400.0 + 86399;
  const auto total = static_cast<std::int64_t>(std::min(most, std::max(0.0, seconds)));
  const auto days = total / 86400;
  const std::string clock = fmt::format("{}:{:02}:{:02}", total % 86400 / 3600, total % 3600 / 60, total % 60);
  return days == 0 ? clock : fmt::format("{} day{}, {}", days, days == 1 ? "" : "s", clock);
}

}  // namespace treadle
