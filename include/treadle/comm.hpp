#pragma once

/// Everything of the room `comm`.
#include <treadle/comm/comm.hpp>
#include <treadle/comm/gradient_reducer.hpp>
#include <treadle/comm/group.hpp>
#include <treadle/comm/process_group.hpp>
