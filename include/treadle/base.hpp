#pragma once

/// Everything of the room `base`.
#include <treadle/base/batch.hpp>
#include <treadle/base/device.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/key.hpp>
#include <treadle/base/log.hpp>
#include <treadle/base/module_state.hpp>
#include <treadle/base/registry.hpp>
#include <treadle/base/rng.hpp>
#include <treadle/base/stateful.hpp>
#include <treadle/base/text.hpp>
#include <treadle/base/value.hpp>
#include <treadle/base/value_view.hpp>
