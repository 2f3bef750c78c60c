#pragma once

/// Everything of the room `events`.
#include <treadle/events/common_metric_printer.hpp>
#include <treadle/events/event_storage.hpp>
#include <treadle/events/history_buffer.hpp>
#include <treadle/events/json_writer.hpp>
#include <treadle/events/live_line.hpp>
#include <treadle/events/tensorboard_writer.hpp>
#include <treadle/events/writer.hpp>
