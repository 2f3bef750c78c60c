#include <protozero/pbf_writer.hpp>

#include <array>

#include "events/event_record.hpp"

namespace treadle {
namespace {

using protozero::pbf_writer;

enum EventField : std::uint32_t { kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7 };
enum ValueField : std::uint32_t { kTag = 1, kSimpleValue = 2, kImage = 4, kHistogram = 5, kMetadata = 9 };

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? 0x82F63B78U ^ (crc >> 1) : crc >> 1;
    table[i] = crc;
  }
  return table;
}

std::uint32_t masked_crc(std::string_view data) noexcept {
  const std::uint32_t crc = crc32c(data);
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8U;
}

template <class Number>
void put_little_endian(std::string& out, Number number) {
  for (std::size_t i = 0; i < sizeof number; ++i) out += static_cast<char>(number >> (8 * i) & 0xFF);
}

/// A record of one event; `fill` adds what it says.
template <class F>
std::string event_record(double wall_time, std::int64_t step, F&& fill) {
  std::string data;
  pbf_writer event(data);
  event.add_double(kWallTime, wall_time);
  event.add_int64(kStep, step);
  fill(event);
  return tf_record(data);
}

/// A record of one summary value under `tag`.
template <class F>
std::string value_record(double wall_time, std::int64_t step, std::string_view tag, F&& fill) {
  return event_record(wall_time, step, [&](pbf_writer& event) {
    pbf_writer summary(event, kSummary);
    pbf_writer value(summary, 1);
    value.add_string(kTag, tag.data(), tag.size());
    fill(value);
  });
}

std::string hparams_record(double wall_time, std::string_view tag, const std::string& content) {
  return value_record(wall_time, 0, tag, [&](pbf_writer& value) {
    pbf_writer metadata(value, kMetadata);
    pbf_writer plugin(metadata, 1);
    plugin.add_string(1, "hparams");
    plugin.add_bytes(2, content);
  });
}

/// HParamInfo.type: the DataType of hparams/api.proto.
int hparam_type(const Value& value) {
  switch (value.type()) {
    case Value::Type::string:
      return 1;
    case Value::Type::boolean:
      return 2;
    default:
      return 3;
  }
}

void add_hparam_value(pbf_writer& entry, const Value& value) {
  pbf_writer any(entry, 2);  // google.protobuf.Value
  switch (value.type()) {
    case Value::Type::string:
      any.add_string(3, value.as_string());
      break;
    case Value::Type::boolean:
      any.add_bool(4, value.as_bool());
      break;
    default:
      any.add_double(2, value.as_double());
  }
}

/// The plugin's data: one message in `field`, which `fill` writes.
template <class F>
std::string plugin_data(std::uint32_t field, F&& fill) {
  std::string content;
  pbf_writer data(content);
  {
    pbf_writer message(data, field);  // its length is known, and written, at its end
    fill(message);
  }
  return content;
}

void fill_experiment(pbf_writer& experiment, double wall_time, const TensorBoardWriterOptions& options) {
  experiment.add_double(3, wall_time);
  for (const auto& [name, value] : options.hparams) {
    pbf_writer info(experiment, 4);
    info.add_string(1, name);
    info.add_enum(4, hparam_type(value));
  }
  for (const std::string& metric : options.hparam_metrics) {
    pbf_writer info(experiment, 5);
    pbf_writer name(info, 1);
    name.add_string(2, metric);
  }
}

void fill_session_start(pbf_writer& start, double wall_time, const TensorBoardWriterOptions& options) {
  for (const auto& [name, value] : options.hparams) {
    pbf_writer entry(start, 1);
    entry.add_string(1, name);
    add_hparam_value(entry, value);
  }
  start.add_double(5, wall_time);
}

}  // namespace

std::uint32_t crc32c(std::string_view data) noexcept {
  static constexpr auto table = make_crc_table();
  std::uint32_t crc = 0xFFFFFFFFU;
  for (const char c : data) crc = table[(crc ^ static_cast<unsigned char>(c)) & 0xFF] ^ (crc >> 8);
  return ~crc;
}

std::string tf_record(std::string_view data) {
  std::string record;
  record.reserve(data.size() + 16);
  put_little_endian(record, static_cast<std::uint64_t>(data.size()));
  put_little_endian(record, masked_crc(record));
  record += data;
  put_little_endian(record, masked_crc(data));
  return record;
}

std::string version_record(double wall_time) {
  return event_record(wall_time, 0, [](pbf_writer& event) { event.add_string(kFileVersion, "brain.Event:2"); });
}

std::string restart_record(double wall_time, std::int64_t step) {
  constexpr int kStart = 1;
  return event_record(wall_time, step, [](pbf_writer& event) {
    pbf_writer session(event, kSessionLog);
    session.add_enum(1, kStart);
  });
}

std::string scalars_record(double wall_time, std::int64_t step, const std::vector<std::pair<std::string_view, double>>& scalars) {
  return event_record(wall_time, step, [&](pbf_writer& event) {
    pbf_writer summary(event, kSummary);
    for (const auto& [tag, number] : scalars) {
      pbf_writer value(summary, 1);
      value.add_string(kTag, tag.data(), tag.size());
      value.add_float(kSimpleValue, static_cast<float>(number));
    }
  });
}

std::string histogram_record(double wall_time, const HistogramEvent& event) {
  return value_record(wall_time, event.iteration, event.name, [&](pbf_writer& value) {
    pbf_writer histogram(value, kHistogram);
    histogram.add_double(1, event.min);
    histogram.add_double(2, event.max);
    histogram.add_double(3, static_cast<double>(event.number));
    histogram.add_double(4, event.sum);
    histogram.add_double(5, event.sum_squares);
    histogram.add_packed_double(6, event.limits.begin(), event.limits.end());
    histogram.add_packed_double(7, event.counts.begin(), event.counts.end());
  });
}

std::string image_record(double wall_time, const ImageEvent& event, std::string_view png) {
  return value_record(wall_time, event.iteration, event.name, [&](pbf_writer& value) {
    pbf_writer image(value, kImage);
    image.add_int32(1, static_cast<std::int32_t>(event.pixels.size(0)));
    image.add_int32(2, static_cast<std::int32_t>(event.pixels.size(1)));
    image.add_int32(3, static_cast<std::int32_t>(event.pixels.size(2)));
    image.add_bytes(4, png.data(), png.size());
  });
}

std::string hparams_records(double wall_time, const TensorBoardWriterOptions& options) {
  const std::string experiment = plugin_data(2, [&](pbf_writer& message) { fill_experiment(message, wall_time, options); });
  const std::string start = plugin_data(3, [&](pbf_writer& message) { fill_session_start(message, wall_time, options); });
  return hparams_record(wall_time, "_hparams_/experiment", experiment) +
         hparams_record(wall_time, "_hparams_/session_start_info", start);
}

std::string hparams_end_record(double wall_time) {
  constexpr int kSuccess = 1;
  const std::string end = plugin_data(4, [&](pbf_writer& message) {
    message.add_enum(1, kSuccess);
    message.add_double(2, wall_time);
  });
  return hparams_record(wall_time, "_hparams_/session_end_info", end);
}

}  // namespace treadle
