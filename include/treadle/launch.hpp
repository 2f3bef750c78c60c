#pragma once

/// Everything of the room `launch`.
#include <treadle/launch/launch.hpp>
