#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/events.hpp>

#include <ATen/ops/scalar_tensor.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

#include "tests/reference/events_model.hpp"
#include "tests/reference/reference_cases.hpp"
#include "tests/support/source_folder.hpp"

namespace treadle {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;
using reference::EventsModel;
using reference::number_text;
namespace fs = std::filesystem;

const char* const kFamily = "events";

std::set<std::string> listed_rules() {
  std::set<std::string> rules;
  std::ifstream file(fs::path(source_folder()) / "tests/reference/differences.json");
  for (const json& difference : json::parse(file)) {
    if (difference.at("family") == kFamily) rules.insert(difference.at("rule").get<std::string>());
  }
  return rules;
}

/// The number in `value`: an integer, text that Python's float() takes, or a recorded float; nothing when float() refuses it.
std::optional<double> number(const json& value) {
  if (value.is_boolean()) return value.get<bool>() ? 1.0 : 0.0;
  if (value.is_number()) return value.get<double>();
  if (value.is_object()) return number(value.contains("h") ? value.at("h") : value.at("bigint"));
  if (!value.is_string() || value.get<std::string>().empty()) return std::nullopt;
  const auto text = value.get<std::string>();
  char* end = nullptr;
  const double result = std::strtod(text.c_str(), &end);
  return *end == '\0' ? std::optional(result) : std::nullopt;
}

bool is_exception(const json& expected) { return expected.is_object() && expected.contains("exc"); }

template <class T>
std::optional<T> optional(const json& array, std::size_t index) {
  if (array.size() <= index || array[index].is_null()) return std::nullopt;
  return array[index].get<T>();
}

/// Expected rows [name, number, …] or [number, …] with their numbers in the compared form.
json normalized(json rows, std::size_t number_at) {
  for (json& row : rows) {
    if (row.size() > number_at && row[number_at].is_string()) row[number_at] = number_text(*number(row[number_at]));
  }
  return rows;
}

/// Lines of metrics.json as objects, the numbers that JSON does not have as text.
json parsed(const json& lines) {
  json result = json::array();
  for (const json& line : lines) {
    const std::string text = std::regex_replace(line.get<std::string>(), std::regex(R"((": )(NaN|-?Infinity))"), "$1\"$2\"");
    result.push_back(json::parse(text));
  }
  return result;
}

// ---- kind "history"

std::string query(const HistoryBuffer& history, const std::string& what, std::int64_t window) {
  try {
    if (what == "latest") return number_text(history.latest());
    if (what == "global_avg") return number_text(history.global_avg());
    if (what == "median") return number_text(history.median(window));
    if (what == "avg") return number_text(history.avg(window));
  } catch (const Error&) {
    return "error";
  }
  throw std::runtime_error("unknown query " + what);
}

std::string expected_text(const json& value) { return is_exception(value) ? "error" : number_text(*number(value)); }

void run_history(const json& test) {
  const json& input = test.at("input");
  HistoryBufferOptions options;
  if (!input.at("max_length").is_null()) options.max_length = input.at("max_length");
  HistoryBuffer history(options);
  std::size_t done = 0;
  const auto advance_to = [&](std::size_t n) {
    for (; done < n; ++done) {
      const json& update = input.at("updates")[done];
      if (update[1].is_null())
        history.update(*number(update[0]));
      else
        history.update(*number(update[0]), update[1].get<std::int64_t>());
    }
  };
  for (const json& entry : test.at("expect").at("queries")) {
    advance_to(entry.at("after"));
    for (const auto& [what, expected] : entry.at("q").items()) {
      if (what == "median" || what == "avg") {
        for (const auto& [window, value] : expected.items()) {
          EXPECT_EQ(query(history, what, std::stoll(window)), expected_text(value)) << what << " " << window << " after " << done;
        }
      } else {
        EXPECT_EQ(query(history, what, 0), expected_text(expected)) << what << " after " << done;
      }
    }
  }
  advance_to(input.at("updates").size());
  const auto values = history.values();
  EXPECT_EQ(values.size(), test.at("expect").at("n_values").get<std::size_t>());
  const json tail = normalized(test.at("expect").at("values_tail"), 0);
  ASSERT_LE(tail.size(), values.size());
  for (std::size_t i = 0; i < tail.size(); ++i) {
    const HistoryBuffer::Sample& sample = values[values.size() - tail.size() + i];
    EXPECT_EQ(json({number_text(sample.value), sample.iteration}), tail[i]);
  }
}

// ---- kind "storage"

/// Treadle's side of a case.
class Replay {
 public:
  Replay(const json& input, const fs::path& folder)
      : storage_(input.at("start_iter").get<std::int64_t>()),
        file_(folder / "metrics.json"),
        writer_({.file = file_, .window = input.at("json_window").get<std::int64_t>()}),
        printer_({.max_iter = input.at("printer_max_iter").is_null()
                                  ? std::nullopt
                                  : std::optional(input.at("printer_max_iter").get<std::int64_t>()),
                  .window = input.at("printer_window").get<std::int64_t>(),
                  .clock = [this] { return clock_; }}) {}

  EventStorage& storage() { return storage_; }
  void open_scope(const std::string& name) { scopes_.push_back(std::unique_ptr<Scope>(new Scope{storage_.name_scope(name)})); }
  void close_scope() { scopes_.pop_back(); }
  void set_clock(double seconds) { clock_ = seconds; }

  json latest(const EventStorage::Named<EventStorage::Latest>& scalars) const {
    json result = json::array();
    for (const auto& [name, newest] : scalars) result.push_back({name, number_text(newest.value), newest.iteration});
    return result;
  }
  json hints() const {
    json result = json::array();
    for (const auto& [name, hint] : storage_.smoothing_hints()) result.push_back({name, hint});
    return result;
  }
  json histories() const {
    json result = json::array();
    for (const auto& [name, history] : storage_.histories()) result.push_back({name, history->size()});
    return result;
  }
  json values(const std::string& name) const {
    json result = json::array();
    for (const auto& sample : storage_.history(name).values()) result.push_back({number_text(sample.value), sample.iteration});
    return result;
  }
  /// The lines that this write adds, as text.
  json json_write() {
    const auto before = static_cast<std::streamoff>(fs::file_size(file_));
    writer_.write(storage_);
    std::ifstream file(file_);
    file.seekg(before);
    json lines = json::array();
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
  }
  json printer_write() {
    json line;
    const LogCapture capture([&](LogLevel, std::string_view text) { line = text; });
    printer_.write(storage_);
    return line;
  }

 private:
  struct Scope {
    EventStorage::NameScope scope;
  };
  EventStorage storage_;
  fs::path file_;
  double clock_ = 0;
  JSONWriter writer_;
  CommonMetricPrinter printer_;
  std::vector<std::unique_ptr<Scope>> scopes_;
};

/// Runs an operation that returns a result or fails; a failure is the text "error".
template <class Failure, class F>
json outcome(F&& operation) {
  try {
    return operation();
  } catch (const Failure&) {
    return "error";
  }
}

class StorageCase {
 public:
  StorageCase(const ordered_json& test, const fs::path& folder)
      : input_(test.at("input")),
        ordered_ops_(test.at("input").at("ops")),
        results_(test.at("expect").at("results")),
        replay_(input_, folder),
        python_(model(false)),
        mended_(model(true)) {}

  void run() {
    for (at_ = 0; at_ < input_.at("ops").size(); ++at_) {
      const json& op = input_.at("ops")[at_];
      SCOPED_TRACE("operation " + std::to_string(at_) + " " + op.dump());
      run(op, op[0].get<std::string>());
    }
    const std::set<std::string> listed = listed_rules();
    for (const std::string& rule : used_)
      EXPECT_TRUE(listed.contains(rule)) << "differences.json lacks the rule \"" << rule << "\"";
  }

 private:
  EventsModel model(bool mended) const {
    return EventsModel(mended, input_.at("start_iter"), input_.at("json_window"),
                       optional<std::int64_t>(json::array({input_.at("printer_max_iter")}), 0), input_.at("printer_window"));
  }

  json expected() const {
    const auto found = results_.find(std::to_string(at_));
    return found == results_.end() ? json() : *found;
  }

  /// The recorded result where the models agree, the mended model's where they do not.
  void compare(const json& recorded, const json& python, const json& mended, const json& ours) {
    EXPECT_EQ(python, recorded) << "the model of Detectron2 is wrong";
    if (python == mended) {
      EXPECT_EQ(ours, recorded);
      return;
    }
    EXPECT_EQ(ours, mended);
    EXPECT_FALSE(mended_.rules().empty() && python_.rules().empty());
    used_.insert(python_.rules().begin(), python_.rules().end());
    used_.insert(mended_.rules().begin(), mended_.rules().end());
  }

  /// An operation on the models and on the storage that returns JSON in the compared form.
  template <class OnModel, class OnStorage>
  void step(json recorded, OnModel&& on_model, OnStorage&& on_storage) {
    if (is_exception(recorded)) recorded = "error";
    compare(recorded, outcome<EventsModel::Failure>([&] { return on_model(python_); }),
            outcome<EventsModel::Failure>([&] { return on_model(mended_); }), outcome<Error>(on_storage));
  }

  void put(const std::string& name, const json& value, bool hint, std::optional<std::int64_t> iteration) {
    const auto scalar = number(value);
    step(
        expected(), [&](EventsModel& m) { return m.put(name, scalar, hint, iteration), json(); },
        [&] {
          // What is no number cannot be passed to put_scalar.
          if (!scalar) throw Error("no number");
          if (value.is_object() && value.value("value_type", "") == "tensor") {
            replay_.storage().put_scalar(name, at::Tensor(at::scalar_tensor(*scalar, at::kDouble)), hint, iteration);
          } else {
            replay_.storage().put_scalar(name, *scalar, hint, iteration);
          }
          return json();
        });
  }

  void put_all(const json& op) {
    const bool hint = optional<bool>(op, 2).value_or(true);
    const auto iteration = optional<std::int64_t>(op, 3);
    EventStorage::Named<double> scalars;
    for (const auto& [name, value] : ordered_ops_[at_][1].items()) scalars.emplace_back(name, number(value).value());
    step(
        expected(),
        [&](EventsModel& m) {
          for (const auto& [name, value] : scalars) m.put(name, value, hint, iteration);
          return json();
        },
        [&] { return replay_.storage().put_scalars(scalars, hint, iteration), json(); });
  }

  void history(const json& op) {
    const auto name = op[1].get<std::string>(), what = op[2].get<std::string>();
    const std::int64_t window = optional<std::int64_t>(op, 3).value_or(0);
    const auto ours = outcome<Error>([&] { return json(query(replay_.storage().history(name), what, window)); });
    EXPECT_EQ(ours, expected_text(expected()));
  }

  void write_json() {
    const json lines = replay_.json_write();
    const json python = python_.json_write(), mended = mended_.json_write();
    compare(parsed(expected()), python, mended, parsed(lines));
    if (python == mended) {
      EXPECT_EQ(lines, expected());
    }
  }

  void run(const json& op, const std::string& name) {
    EventStorage& storage = replay_.storage();
    const std::int64_t window = op.size() > 1 && op[1].is_number() ? op[1].get<std::int64_t>() : 20;
    if (name == "put") return put(op[1], op[2], optional<bool>(op, 3).value_or(true), optional<std::int64_t>(op, 4));
    if (name == "puts") return put_all(op);
    if (name == "iter") return python_.set_iter(op[1]), mended_.set_iter(op[1]), storage.set_iter(op[1]);
    if (name == "step") return python_.step(), mended_.step(), storage.step();
    if (name == "scope") return python_.open_scope(op[1]), mended_.open_scope(op[1]), replay_.open_scope(op[1]);
    if (name == "endscope") return python_.close_scope(), mended_.close_scope(), replay_.close_scope();
    if (name == "clock")
      return python_.set_clock(*number(op[1])), mended_.set_clock(*number(op[1])), replay_.set_clock(*number(op[1]));
    if (name == "latest") {
      return step(
          normalized(expected(), 1), [](EventsModel& m) { return m.latest(); }, [&] { return replay_.latest(storage.latest()); });
    }
    if (name == "latest_hint") {
      return step(
          normalized(expected(), 1), [&](EventsModel& m) { return m.latest_hint(window); },
          [&] { return replay_.latest(storage.latest_with_smoothing_hint(window)); });
    }
    if (name == "hints") return step(expected(), [](EventsModel& m) { return m.hints(); }, [&] { return replay_.hints(); });
    if (name == "histories")
      return step(expected(), [](EventsModel& m) { return m.histories(); }, [&] { return replay_.histories(); });
    if (name == "values") {
      return step(
          is_exception(expected()) ? expected() : normalized(expected(), 0), [&](EventsModel& m) { return m.values(op[1]); },
          [&] { return replay_.values(op[1]); });
    }
    if (name == "count") {
      const std::int64_t last = optional<std::int64_t>(op, 2).value_or(20);
      return step(
          expected(), [&](EventsModel& m) { return m.count(op[1], last); },
          [&] { return json(storage.count_samples(op[1].get<std::string>(), last)); });
    }
    if (name == "history") return history(op);
    if (name == "json_write") return write_json();
    if (name == "printer_write") {
      return step(expected(), [](EventsModel& m) { return m.printer_write(); }, [&] { return replay_.printer_write(); });
    }
    FAIL() << "unknown operation";
  }

  const json input_;
  const ordered_json ordered_ops_;  // where the order of a dict counts
  const json results_;
  Replay replay_;
  EventsModel python_;
  EventsModel mended_;
  std::set<std::string> used_;
  std::size_t at_ = 0;
};

// ---- kind "storage_context"

void run_context(const json& test) {
  EXPECT_EQ(has_event_storage(), test.at("expect").at("has").get<bool>());
  ASSERT_TRUE(is_exception(test.at("expect").at("get")));
  EXPECT_THROW(get_event_storage(), Error);
}

TEST(ReferenceEvents, EveryCase) {
  const fs::path folder = fs::temp_directory_path() / ("treadle_reference_events_" + std::to_string(getpid()));
  std::size_t cases = 0;
  for (const ordered_json& test : reference_cases(kFamily)) {
    SCOPED_TRACE(test.at("id").get<std::string>());
    const std::string kind = test.at("kind");
    fs::create_directories(folder);
    if (kind == "history")
      run_history(test);
    else if (kind == "storage")
      StorageCase(test, folder).run();
    else if (kind == "storage_context")
      run_context(test);
    else
      ADD_FAILURE() << "unknown kind " << kind;
    fs::remove_all(folder);
    ++cases;
  }
  EXPECT_GT(cases, 0U);
}

}  // namespace
}  // namespace treadle
