#include "tests/reference/events_model.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>

namespace treadle::reference {
namespace {

using nlohmann::json;

std::string printed(const char* format, double value) {
  if (std::isnan(value)) return "nan";
  char buffer[400];
  std::snprintf(buffer, sizeof buffer, format, value);
  return buffer;
}

std::string timedelta(double seconds) {
  const double whole = std::trunc(seconds), days = std::floor(whole / 86400);
  const int rest = static_cast<int>(whole - 86400 * days);
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, "%d:%02d:%02d", rest / 3600, rest % 3600 / 60, rest % 60);
  if (days == 0) return buffer;
  return printed("%.0f", days) + (std::abs(days) == 1 ? " day, " : " days, ") + buffer;
}

json json_number(double value) {
  return std::isfinite(value) ? json(value) : json(std::isnan(value) ? "NaN" : value < 0 ? "-Infinity" : "Infinity");
}

}  // namespace

std::string number_text(double value) {
  if (std::isnan(value)) return "nan";
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%016lx", static_cast<unsigned long>(std::bit_cast<std::uint64_t>(value)));
  return buffer;
}

EventsModel::Scalar* EventsModel::find(const std::string& name) {
  const auto found = std::find_if(scalars_.begin(), scalars_.end(), [&](const Scalar& s) { return s.name == name; });
  return found == scalars_.end() ? nullptr : &*found;
}

EventsModel::Scalar& EventsModel::get(const std::string& name) {
  if (Scalar* found = find(name)) return *found;
  scalars_.push_back({.name = name, .history = {}, .latest = {}, .hint = {}, .unwritten = {}});
  return scalars_.back();
}

std::vector<const EventsModel::Scalar*> EventsModel::by_first_put() const {
  std::vector<const Scalar*> result;
  for (const std::string& name : put_order_) result.push_back(find(name));
  return result;
}

void EventsModel::open_scope(const std::string& name) {
  std::string prefix = name;
  while (!prefix.empty() && prefix.back() == '/') prefix.pop_back();
  prefix += '/';
  if (!prefixes_.empty()) rules_.insert("nested-scopes-join");
  prefixes_.push_back(mended_ && !prefixes_.empty() ? prefixes_.back() + prefix : prefix);
}

void EventsModel::put(const std::string& name, std::optional<double> value, bool hint, std::optional<std::int64_t> iteration) {
  const std::string full = (prefixes_.empty() ? "" : prefixes_.back()) + name;
  if (!value) {
    rules_.insert("scalar-needs-a-value");
    if (!mended_) get(full);
    throw Failure();
  }
  if (const Scalar* known = find(full); known != nullptr && known->hint && *known->hint != hint) {
    rules_.insert("hint-mismatch-stores-nothing");
    if (mended_) throw Failure();
  }
  Scalar& scalar = get(full);
  const Sample sample{*value, iteration.value_or(iter_)};
  if (!scalar.latest) put_order_.push_back(full);
  scalar.history.push_back(sample);
  scalar.latest = sample;
  if (scalar.hint && *scalar.hint != hint) throw Failure();
  scalar.hint = hint;
  if (!hint) scalar.unwritten.push_back(sample);
}

double EventsModel::median(const Scalar& scalar, std::int64_t last) {
  const std::size_t n =
      last == 0 ? scalar.history.size() : std::min<std::size_t>(static_cast<std::size_t>(last), scalar.history.size());
  std::vector<double> values;
  for (std::size_t i = scalar.history.size() - n; i < scalar.history.size(); ++i) values.push_back(scalar.history[i].first);
  if (n == 0 || std::any_of(values.begin(), values.end(), [](double v) { return std::isnan(v); })) return std::nan("");
  std::sort(values.begin(), values.end());
  return n % 2 ? 0.0 + values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

std::int64_t EventsModel::count(const Scalar& scalar, std::int64_t window) {
  std::int64_t samples = 0;
  for (auto it = scalar.history.rbegin(); it != scalar.history.rend() && it->second > scalar.history.back().second - window; ++it)
    ++samples;
  return samples;
}

json EventsModel::latest() const {
  json result = json::array();
  for (const Scalar* scalar : by_first_put())
    result.push_back({scalar->name, number_text(scalar->latest->first), scalar->latest->second});
  return result;
}

json EventsModel::latest_hint(std::int64_t window) const {
  json result = json::array();
  for (const Scalar* scalar : by_first_put()) {
    const double value = *scalar->hint ? median(*scalar, count(*scalar, window)) : scalar->latest->first;
    result.push_back({scalar->name, number_text(value), scalar->latest->second});
  }
  return result;
}

json EventsModel::hints() const {
  json result = json::array();
  for (const Scalar* scalar : by_first_put()) result.push_back({scalar->name, *scalar->hint});
  return result;
}

json EventsModel::histories() const {
  json result = json::array();
  for (const Scalar& scalar : scalars_) result.push_back({scalar.name, scalar.history.size()});
  return result;
}

json EventsModel::values(const std::string& name) const {
  const Scalar* scalar = find(name);
  if (scalar == nullptr) throw Failure();
  json result = json::array();
  for (const auto& [value, iteration] : scalar->history) result.push_back({number_text(value), iteration});
  return result;
}

json EventsModel::count(const std::string& name, std::int64_t window) {
  const Scalar* known = find(name);
  if (known == nullptr) rules_.insert("scalar-needs-a-value");
  if (known == nullptr && mended_) return 0;
  return count(get(name), window);
}

json EventsModel::json_write() {
  std::vector<std::pair<std::int64_t, std::vector<json>>> lines;  // per iteration, the last line first
  const auto add = [&](const std::string& name, Sample sample) {
    auto same = std::find_if(lines.begin(), lines.end(), [&](const auto& entry) { return entry.first == sample.second; });
    if (same == lines.end()) same = lines.insert(lines.end(), {sample.second, {}});
    auto line = std::find_if(same->second.begin(), same->second.end(), [&](const json& j) { return !j.contains(name); });
    if (line == same->second.end()) line = same->second.insert(same->second.end(), json::object());
    (*line)[name] = json_number(sample.first);
  };
  std::int64_t highest = last_json_;
  for (const std::string& name : put_order_) {
    Scalar& scalar = *find(name);
    const Sample newest{*scalar.hint ? median(scalar, count(scalar, json_window_)) : scalar.latest->first, scalar.latest->second};
    const bool fresh = newest.second > last_json_;
    if (fresh) highest = std::max(highest, newest.second);
    if (mended_ && !*scalar.hint) {
      for (auto it = scalar.unwritten.rbegin(); it != scalar.unwritten.rend(); ++it) add(name, *it);
    } else if (fresh) {
      add(name, newest);
    }
    if (scalar.unwritten.size() > (fresh ? 1U : 0U)) rules_.insert("no-unsmoothed-value-lost");
    scalar.unwritten.clear();
  }
  last_json_ = highest;
  const auto by_iteration = [](const auto& a, const auto& b) { return a.first < b.first; };
  if (!mended_ && !std::is_sorted(lines.begin(), lines.end(), by_iteration)) rules_.insert("lines-ascend");
  if (mended_) std::stable_sort(lines.begin(), lines.end(), by_iteration);
  json result = json::array();
  for (auto& [iteration, same] : lines) {
    for (auto line = same.rbegin(); line != same.rend(); ++line) {
      (*line)["iteration"] = iteration;
      result.push_back(*line);
    }
  }
  return result;
}

std::string EventsModel::eta() {
  if (!max_iter_) return "";
  const auto left = static_cast<double>(*max_iter_ - iter_ - 1);
  double seconds = 0;
  bool unknown = false;
  if (const Scalar* time = find("time"); time != nullptr && (!mended_ || time->latest)) {
    seconds = median(*time, 1000) * left;
    put("eta_seconds", seconds, false, {});
  } else {
    unknown = !last_print_;
    if (last_print_) seconds = (clock_ - last_print_->second) / static_cast<double>(iter_ - last_print_->first) * left;
    if (last_print_ && iter_ == last_print_->first) seconds = std::nan("");
    if (mended_ || std::isfinite(seconds)) last_print_ = {iter_, clock_};
  }
  if (unknown) return "";
  if (!std::isfinite(seconds)) {
    rules_.insert("uncomputable-eta-left-out");
    if (!mended_) throw Failure();
    return "";
  }
  return "eta: " + timedelta(seconds) + "  ";
}

json EventsModel::printer_write() {
  if (max_iter_ && iter_ == *max_iter_) return nullptr;
  const auto mean = [](const Scalar& scalar, std::size_t last) {
    double sum = 0;
    for (std::size_t i = scalar.history.size() - last; i < scalar.history.size(); ++i) sum += scalar.history[i].first;
    return sum / static_cast<double>(last);
  };
  std::string times;
  const auto add_times = [&](const std::string& name, bool windowed) {
    const Scalar* scalar = find(name);
    if (scalar == nullptr || (mended_ && !scalar->latest)) return;
    if (scalar->history.empty()) throw Failure();
    const auto last = windowed ? static_cast<std::size_t>(count(*scalar, printer_window_)) : scalar->history.size();
    times += name + ": " + printed("%.4f", mean(*scalar, last)) + "  last_" + name + ": " +
             printed("%.4f", scalar->history.back().first) + "  ";
  };
  add_times("time", false);
  add_times("data_time", true);
  const Scalar* lr = find("lr");
  const std::string eta_text = eta();
  std::string parts[2];
  for (const Scalar& scalar : scalars_) {
    for (const auto& [part, text] : {std::pair{"loss", &parts[0]}, std::pair{"[metric]", &parts[1]}}) {
      if (scalar.name.find(part) == std::string::npos) continue;
      *text += (text->empty() ? "" : "  ") + scalar.name + ": " + printed("%.4g", median(scalar, count(scalar, printer_window_)));
    }
  }
  return " " + eta_text + "iter: " + std::to_string(iter_) + "  " + parts[0] + "  " + parts[1] + "  " + times +
         " lr: " + (lr != nullptr ? printed("%.5g", lr->history.back().first) : "N/A") + "  ";
}

}  // namespace treadle::reference
