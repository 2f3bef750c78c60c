#pragma once

/// Every hook that comes with Treadle.
#include <treadle/hooks/autograd_profiler.hpp>
#include <treadle/hooks/best_checkpointer.hpp>
#include <treadle/hooks/bn_stats.hpp>
#include <treadle/hooks/callback_hook.hpp>
#include <treadle/hooks/early_stopping.hpp>
#include <treadle/hooks/ema_hook.hpp>
#include <treadle/hooks/eval_hook.hpp>
#include <treadle/hooks/iteration_timer.hpp>
#include <treadle/hooks/loader_timer.hpp>
#include <treadle/hooks/lr_scheduler.hpp>
#include <treadle/hooks/periodic_checkpointer.hpp>
#include <treadle/hooks/periodic_writer.hpp>
#include <treadle/hooks/precise_bn.hpp>
#include <treadle/hooks/torch_memory_stats.hpp>
#include <treadle/hooks/torch_profiler.hpp>
