#include <treadle/base/errors.hpp>
#include <treadle/comm/group.hpp>
#include <treadle/defaults/default_trainer.hpp>
#include <treadle/defaults/options.hpp>
#include <treadle/models/model.hpp>
#include <treadle/models/sync_batch_norm.hpp>

namespace treadle {
namespace {

/// A folder that cannot be looked into may: the load says why, to all ranks.
bool may_have_checkpoint(const DetectionCheckpointer& checkpointer) {
  try {
    return checkpointer.has_checkpoint();
  } catch (const IoError&) {
    return true;
  }
}

}  // namespace

Dict evaluate_weights(const Config& config, std::shared_ptr<Group> group, bool resume, const Builders& builders) {
  if (!group) group = make_single_process_group();
  refuse_unsupported(config);
  Tester tester(config, group, builders);
  if (tester.empty()) config.fail("DATASETS.TEST", "there is nothing to evaluate on");
  const auto model = builders.model(config);
  set_sync_batch_norm_group(*model, group);
  model->to(device_option(config, group->get_local_rank()));
  CheckpointerOptions options = checkpointer_options(*model, group);
  options.save_to_disk = false;  // the run of the folder may go on meanwhile
  DetectionCheckpointer checkpointer(*model, config.get_string("OUTPUT_DIR"), std::move(options));
  // OUTPUT_DIR of the main process: each machine may have one of its own.
  const bool found = group->broadcast(resume && group->is_main_process() && may_have_checkpoint(checkpointer)).as_bool();
  if (config.get_string("MODEL.WEIGHTS").empty() && !found) {
    if (resume) config.fail("OUTPUT_DIR", "there is no checkpoint to evaluate in this folder");
    throw ConfigError(
        "there are no weights to evaluate: set MODEL.WEIGHTS to a checkpoint, or add --resume to take the last one of OUTPUT_DIR",
        "MODEL.WEIGHTS");
  }
  checkpointer.resume_or_load(config.get_string("MODEL.WEIGHTS"), resume);
  return tester.test(*model);
}

}  // namespace treadle
