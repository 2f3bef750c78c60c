#pragma once

/// Everything of the room `comm`.
#include <treadle/comm/group.hpp>
