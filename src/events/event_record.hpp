#pragma once

#include <treadle/events/event_storage.hpp>
#include <treadle/events/tensorboard_writer.hpp>

#include <string>
#include <string_view>

namespace treadle {

/// CRC-32C (Castagnoli) of `data`.
std::uint32_t crc32c(std::string_view data) noexcept;

/// A TFRecord: length (uint64), masked crc of the length, data, masked crc of the data; little endian.
std::string tf_record(std::string_view data);

/// tensorflow.Event messages (tensorflow/core/util/event.proto, summary.proto) as TFRecords, each stamped with `wall_time`
/// seconds.
std::string version_record(double wall_time);
/// Tells readers to forget what earlier files say of `step` and later.
std::string restart_record(double wall_time, std::int64_t step);
std::string scalars_record(double wall_time, std::int64_t step, const std::vector<std::pair<std::string_view, double>>& scalars);
std::string histogram_record(double wall_time, const HistogramEvent& event);
std::string image_record(double wall_time, const ImageEvent& event, std::string_view png);
/// The HParams plugin's description of the experiment and start of a session (tensorboard/plugins/hparams/*.proto), and its end.
std::string hparams_records(double wall_time, const TensorBoardWriterOptions& options);
std::string hparams_end_record(double wall_time);

}  // namespace treadle
