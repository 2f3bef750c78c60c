#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace treadle::reference {

/// What Detectron2's EventStorage, JSONWriter and CommonMetricPrinter do, written down plainly: once as they are (`mended` false;
/// the recorded results must follow, which shows that the model is right), once with the differences Treadle makes on purpose.
class EventsModel {
 public:
  struct Failure {};  // Python raises here

  EventsModel(bool mended, std::int64_t start_iter, std::int64_t json_window, std::optional<std::int64_t> max_iter,
              std::int64_t window)
      : mended_(mended), iter_(start_iter), json_window_(json_window), max_iter_(max_iter), printer_window_(window) {}

  void put(const std::string& name, std::optional<double> value, bool hint, std::optional<std::int64_t> iteration);
  void set_iter(std::int64_t iteration) { iter_ = iteration; }
  void step() { ++iter_; }
  void open_scope(const std::string& name);
  void close_scope() { prefixes_.pop_back(); }
  void set_clock(double seconds) { clock_ = seconds; }

  nlohmann::json latest() const;
  nlohmann::json latest_hint(std::int64_t window) const;
  nlohmann::json hints() const;
  nlohmann::json histories() const;
  nlohmann::json values(const std::string& name) const;
  nlohmann::json count(const std::string& name, std::int64_t window);
  /// Lines as objects; numbers that JSON does not have stand as text.
  nlohmann::json json_write();
  /// The line, or null.
  nlohmann::json printer_write();

  /// The rules that have changed something so far.
  const std::set<std::string>& rules() const { return rules_; }

 private:
  using Sample = std::pair<double, std::int64_t>;
  struct Scalar {
    std::string name;
    std::vector<Sample> history;
    std::optional<Sample> latest;
    std::optional<bool> hint;
    std::vector<Sample> unwritten;
  };

  Scalar* find(const std::string& name);
  const Scalar* find(const std::string& name) const { return const_cast<EventsModel*>(this)->find(name); }
  Scalar& get(const std::string& name);
  std::vector<const Scalar*> by_first_put() const;
  static double median(const Scalar& scalar, std::int64_t last);
  static std::int64_t count(const Scalar& scalar, std::int64_t window);
  std::string eta();

  bool mended_;
  std::int64_t iter_;
  std::int64_t json_window_;
  std::optional<std::int64_t> max_iter_;
  std::int64_t printer_window_;
  double clock_ = 0;
  std::vector<std::string> prefixes_;
  std::vector<Scalar> scalars_;
  std::vector<std::string> put_order_;
  std::int64_t last_json_ = -1;
  std::optional<std::pair<std::int64_t, double>> last_print_;
  std::set<std::string> rules_;
};

/// A number as results are compared: its bits as text, one for all NaN.
std::string number_text(double value);

}  // namespace treadle::reference
