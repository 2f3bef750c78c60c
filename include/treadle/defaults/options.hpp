#pragma once

#include <treadle/checkpoint/checkpointer.hpp>
#include <treadle/config/config.hpp>
#include <treadle/data/build.hpp>
#include <treadle/data/dataset_catalog.hpp>
#include <treadle/engine/amp_trainer.hpp>
#include <treadle/evaluation/results.hpp>
#include <treadle/hooks/best_checkpointer.hpp>
#include <treadle/hooks/early_stopping.hpp>
#include <treadle/hooks/eval_hook.hpp>
#include <treadle/hooks/periodic_checkpointer.hpp>
#include <treadle/hooks/precise_bn.hpp>
#include <treadle/hooks/torch_memory_stats.hpp>
#include <treadle/hooks/torch_profiler.hpp>
#include <treadle/solver/build.hpp>
#include <treadle/solver/ema.hpp>
#include <treadle/solver/lr_scheduler.hpp>

#include <c10/core/Device.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace treadle {

class Group;
class Model;
struct DistributedOptions;
struct ImageClassifierOptions;
struct ScriptedModelOptions;

/// What the keys of a config say to each room. Pure functions, but for one that says otherwise; any thread. They throw
/// ConfigError that names the key when a value has another type or makes no sense; ranges of a model's options are checked where
/// it is built.

/// MODEL.BACKBONE.*, MODEL.RESNETS.*, MODEL.PIXEL_MEAN, MODEL.PIXEL_STD, TREADLE.CLASSIFIER.*,
/// TREADLE.DISTRIBUTED.SYNC_BATCH_NORM
ImageClassifierOptions model_options(const Config& config);
/// TREADLE.SCRIPTED.*
ScriptedModelOptions scripted_model_options(const Config& config);
/// TREADLE.DISTRIBUTED.*: how gradients and buffers travel
DistributedOptions distributed_options(const Config& config);
/// SOLVER.*: optimizer, weight decay, gradient clipping
OptimizerOptions optimizer_options(const Config& config);
/// SOLVER.*: name, steps, warm-up
LRSchedulerOptions lr_scheduler_options(const Config& config);
/// TREADLE.SOLVER.RESUME
ResumeSettings resume_settings(const Config& config);
/// TREADLE.SOLVER.*: batches per step, what becomes of steps that are not finite
SimpleTrainerOptions simple_trainer_options(const Config& config);
/// TREADLE.SOLVER.AMP_PRECISION; nothing unless SOLVER.AMP.ENABLED
std::optional<AmpOptions> amp_options(const Config& config);
/// Where TREADLE.SOLVER.RESUME is "saved" and OUTPUT_DIR holds a run: sets SOLVER.MAX_ITER to the one of its last checkpoint, and
/// says so when it differs; warns when that checkpoint cannot be read. The number is one of a scaled run: to be called on what
/// `auto_scale_workers` returns, before a resumed run is built.
void take_saved_max_iter(Config& config);
/// SOLVER.IMS_PER_BATCH, DATALOADER.*, TREADLE.DATALOADER.*, SEED; the transform is `train_transform`
TrainLoaderOptions train_loader_options(const Config& config);
/// What Detectron2's build_augmentation makes of INPUT.*, for the samples of `dataset`: of pictures (Dataset::has_pictures)
/// INPUT.CROP.*, INPUT.MIN_SIZE_TRAIN, MIN_SIZE_TRAIN_SAMPLING and MAX_SIZE_TRAIN, of all INPUT.RANDOM_FLIP; or empty
Transform train_transform(const Config& config, const Dataset& dataset);
/// INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST, for pictures; or empty
Transform test_transform(const Config& config, const Dataset& dataset);
/// The same for a single picture
Transform test_resize(const Config& config);
/// SOLVER.IMS_PER_BATCH as the batch of evaluation, of which each rank takes its share, DATALOADER.NUM_WORKERS; the transform is
/// `test_transform`
TestLoaderOptions test_loader_options(const Config& config);
/// TREADLE.DATA_DIR, INPUT.FORMAT
DatasetOptions dataset_options(const Config& config);
/// TREADLE.SOLVER.MAX_EPOCHS: when it is above 0, sets SOLVER.MAX_ITER to as many iterations as make so many passes over the
/// samples of `train_source`. Needs a source that knows how many those are.
void apply_max_epochs(Config& config, const BatchSource& train_source);
/// SOLVER.CHECKPOINT_PERIOD, TREADLE.CHECKPOINT.MAX_TO_KEEP, TREADLE.CHECKPOINT.ASYNC
hooks::PeriodicCheckpointerOptions periodic_checkpointer_options(const Config& config);
/// TEST.EVAL_PERIOD
hooks::EvalHookOptions eval_hook_options(const Config& config);
/// TEST.EXPECTED_RESULTS
std::vector<ExpectedResult> expected_results(const Config& config);
/// TEST.PRECISE_BN.NUM_ITER and TEST.EVAL_PERIOD; nothing unless TEST.PRECISE_BN.ENABLED
std::optional<hooks::PreciseBNOptions> precise_bn_options(const Config& config);
/// TREADLE.EMA.*; nothing unless TREADLE.EMA.ENABLED
std::optional<EmaOptions> ema_options(const Config& config);
/// TREADLE.BEST_CHECKPOINT.* and TEST.EVAL_PERIOD; nothing without a metric
std::optional<hooks::BestCheckpointerOptions> best_checkpointer_options(const Config& config);
/// TREADLE.EARLY_STOPPING.*; nothing without a metric
std::optional<hooks::EarlyStoppingOptions> early_stopping_options(const Config& config);
/// TREADLE.PROFILER.*, with traces in OUTPUT_DIR; nothing where START is negative
std::optional<hooks::TorchProfilerOptions> torch_profiler_options(const Config& config);
/// TREADLE.MEMORY_STATS.PERIOD; nothing where it is 0
std::optional<hooks::TorchMemoryStatsOptions> torch_memory_stats_options(const Config& config);
/// What a checkpointer of `model` needs to know: the group, and what the model says about its state.
CheckpointerOptions checkpointer_options(const Model& model, std::shared_ptr<Group> group);
/// MODEL.DEVICE: a device, or "auto" for the accelerator of this process when there is one, and the CPU otherwise
c10::Device device_option(const Config& config, int local_rank);

/// Throws ConfigError for a key that asks for what this version does not do, rather than pass over it.
void refuse_unsupported(const Config& config);

}  // namespace treadle
