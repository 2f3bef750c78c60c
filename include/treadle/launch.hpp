#pragma once

/// Everything of the room `launch`.
#include <treadle/launch/agreement.hpp>
#include <treadle/launch/held_port.hpp>
#include <treadle/launch/launch.hpp>
#include <treadle/launch/started_rank.hpp>
