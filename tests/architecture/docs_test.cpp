#include "source_text.hpp"
#include "violations.hpp"

#include "tests/support/source_folder.hpp"

#include <regex>
#include <string>

/// `make docs` runs these alone.
namespace treadle::architecture {
namespace {

const Root kRoot = treadle::source_folder();

TEST(Docs, EveryRoomHasItsParagraph) { expect_none(undescribed_rooms(kRoot)); }

TEST(Docs, TheTableOfIncludesIsTheOneThatIsEnforced) { expect_none(includes_that_differ(kRoot)); }

TEST(Docs, EveryPieceOfCodeIsThatOfAnExample) { expect_none(code_of_no_example(kRoot)); }

TEST(Docs, EveryConfigKeyExists) { expect_none(unknown_config_keys(kRoot)); }

/// The names of Detectron2's engine, solver, checkpoint, config, comm and events, and of fvcore's checkpointer.
TEST(Docs, WhoComesFromDetectron2FindsEveryName) {
  const std::string page = read_file(kRoot / "docs/coming_from_detectron2.md");
  for (const char* name : {"HookBase",
                           "TrainerBase",
                           "SimpleTrainer",
                           "AMPTrainer",
                           "DefaultTrainer",
                           "DefaultPredictor",
                           "default_setup",
                           "default_writers",
                           "default_argument_parser",
                           "create_ddp_model",
                           "auto_scale_workers",
                           "launch",
                           "_find_free_port",
                           "_distributed_worker",
                           "write_metrics",
                           "reset_data_loader",
                           "gather_metric_period",
                           "zero_grad_before_forward",
                           "async_write_metrics",
                           "log_grad_scaler",
                           "CallbackHook",
                           "IterationTimer",
                           "PeriodicWriter",
                           "PeriodicCheckpointer",
                           "BestCheckpointer",
                           "LRScheduler",
                           "AutogradProfiler",
                           "TorchProfiler",
                           "EvalHook",
                           "PreciseBN",
                           "TorchMemoryStats",
                           "get_best_param_group_id",
                           "build_optimizer",
                           "build_lr_scheduler",
                           "get_default_optimizer_params",
                           "reduce_param_groups",
                           "_expand_param_groups",
                           "maybe_add_gradient_clipping",
                           "_create_gradient_clipper",
                           "_generate_optimizer_class_with_gradient_clipping",
                           "GradientClipType",
                           "WarmupParamScheduler",
                           "LRMultiplier",
                           "WarmupMultiStepLR",
                           "WarmupCosineLR",
                           "_get_warmup_factor_at_iter",
                           "Checkpointer",
                           "DetectionCheckpointer",
                           "resume_or_load",
                           "has_checkpoint",
                           "get_checkpoint_file",
                           "get_all_checkpoint_files",
                           "tag_last_checkpoint",
                           "max_to_keep",
                           "align_and_update_state_dicts",
                           "ModelCatalog",
                           "get_cfg",
                           "CfgNode",
                           "merge_from_file",
                           "merge_from_list",
                           "merge_from_other_cfg",
                           "defrost",
                           "set_new_allowed",
                           "register_deprecated_key",
                           "register_renamed_key",
                           "upgrade_config",
                           "downgrade_config",
                           "guess_version",
                           "global_cfg",
                           "set_global_cfg",
                           "configurable",
                           "LazyConfig",
                           "LazyCall",
                           "instantiate",
                           "get_world_size",
                           "get_rank",
                           "get_local_rank",
                           "get_local_size",
                           "create_local_process_group",
                           "get_local_process_group",
                           "is_main_process",
                           "synchronize",
                           "_get_global_gloo_group",
                           "all_gather",
                           "gather",
                           "shared_random_seed",
                           "reduce_dict",
                           "get_event_storage",
                           "has_event_storage",
                           "EventStorage",
                           "EventWriter",
                           "JSONWriter",
                           "TensorboardXWriter",
                           "CommonMetricPrinter",
                           "HistoryBuffer",
                           "setup_logger",
                           "collect_env_info",
                           "seed_all_rng",
                           "DatasetEvaluator",
                           "DatasetEvaluators",
                           "inference_on_dataset",
                           "inference_context",
                           "print_csv_format",
                           "verify_results",
                           "flatten_results_dict"}) {
    EXPECT_TRUE(std::regex_search(page, std::regex("\\b" + std::string(name) + "\\b"))) << name;
  }
}

/// How often something is tried is said as it is: the count of each test of random moments or files stands in its row.
TEST(Docs, ReliabilityTellsTheCountOfEachTrial) {
  std::string page = read_file(kRoot / "docs/reliability.md");
  std::erase(page, ',');
  const std::regex count(R"((trials\(|"TREADLE_FUZZ_INPUTS", )([0-9']+)\))");
  std::size_t counts = 0;
  for (const std::filesystem::path& file : files_below(kRoot, "tests", {".cpp"})) {
    const std::string text = read_file(kRoot / file);
    std::smatch match;
    if (file.generic_string().starts_with("tests/architecture/") || !std::regex_search(text, match, count)) continue;
    std::string number = match[2];
    std::erase(number, '\'');
    const std::regex row("\n\\|[^\n]*\\| " + number + " [^\n]*`" + file.generic_string() + "`");
    EXPECT_TRUE(std::regex_search(page, row)) << file << " tries " << number << " times by itself";
    ++counts;
  }
  EXPECT_GE(counts, 7u);
}

TEST(Docs, LinksAndNamedFilesExist) { expect_none(broken_references(kRoot)); }

}  // namespace
}  // namespace treadle::architecture
