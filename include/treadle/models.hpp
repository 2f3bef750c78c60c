#pragma once

/// Everything of the room `models`.
#include <treadle/models/frozen_batch_norm.hpp>
#include <treadle/models/image_classifier.hpp>
#include <treadle/models/loss_dict.hpp>
#include <treadle/models/make_model.hpp>
#include <treadle/models/model.hpp>
#include <treadle/models/model_registry.hpp>
#include <treadle/models/resnet.hpp>
#include <treadle/models/scripted_model.hpp>
#include <treadle/models/sync_batch_norm.hpp>
