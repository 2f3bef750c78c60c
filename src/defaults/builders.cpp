#include <base/file_errors.hpp>
#include <defaults/validate_as.hpp>
#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/defaults/default_trainer.hpp>
#include <treadle/defaults/options.hpp>
#include <treadle/evaluation/evaluator_registry.hpp>
#include <treadle/events/common_metric_printer.hpp>
#include <treadle/events/json_writer.hpp>
#include <treadle/events/live_line.hpp>
#include <treadle/events/tensorboard_writer.hpp>
#include <treadle/hooks.hpp>
#include <treadle/models/model_registry.hpp>

#include <fmt/format.h>
#include <torch/optim/optimizer.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

namespace treadle {
namespace {

constexpr std::int64_t kWriterPeriod = 20;

std::shared_ptr<Model> build_model(const Config& config) {
  require_registered(config, "MODEL.META_ARCHITECTURE", model_registry());
  const ModelOptions options{.classifier = model_options(config),
                             .scripted = scripted_model_options(config),
                             .settings = {{"MODEL", config.to_dict("MODEL")}, {"TREADLE", config.to_dict("TREADLE")}}};
  return with_keys(config,
                   {{options.classifier.backbone.name, "MODEL.BACKBONE.NAME"},
                    {"BackboneOptions.in_channels", "TREADLE.CLASSIFIER.IN_CHANNELS"},
                    {"BackboneOptions.image_size", "TREADLE.CLASSIFIER.IMAGE_SIZE"},
                    {"BackboneOptions.num_classes", "TREADLE.CLASSIFIER.NUM_CLASSES"},
                    {"BackboneOptions.dropout", "TREADLE.CLASSIFIER.DROPOUT"},
                    {"BackboneOptions.hidden", "TREADLE.CLASSIFIER.HIDDEN"},
                    {"ResNetOptions.depth", "MODEL.RESNETS.DEPTH"},
                    {config.get_string("MODEL.RESNETS.NORM"), "MODEL.RESNETS.NORM"},
                    {"ResNetOptions.freeze_at", "MODEL.BACKBONE.FREEZE_AT"},
                    {"ResNetOptions.stem_out_channels", "MODEL.RESNETS.STEM_OUT_CHANNELS"},
                    {"ResNetOptions.res2_out_channels", "MODEL.RESNETS.RES2_OUT_CHANNELS"},
                    {"ResNetOptions.num_groups", "MODEL.RESNETS.NUM_GROUPS"},
                    {"ResNetOptions.width_per_group", "MODEL.RESNETS.WIDTH_PER_GROUP"},
                    {"ResNetOptions.res5_dilation", "MODEL.RESNETS.RES5_DILATION"},
                    {"ScriptedModelOptions.file", "TREADLE.SCRIPTED.FILE"},
                    {"ScriptedModelOptions.inputs", "TREADLE.SCRIPTED.INPUTS"},
                    {"ScriptedModelOptions.loss_method", "TREADLE.SCRIPTED.LOSS_METHOD"},
                    {"ScriptedModelOptions.prediction", "TREADLE.SCRIPTED.PREDICTION"},
                    {"ImageClassifierOptions.pixel_mean", "MODEL.PIXEL_MEAN"},
                    {"ImageClassifierOptions.pixel_std", "MODEL.PIXEL_STD"}},
                   [&] { return model_registry().get(config.get_string("MODEL.META_ARCHITECTURE"))(options); });
}

/// The data set `name`, which stands under `key` of the config: an unknown one is said with file and line.
std::shared_ptr<const Dataset> open_dataset(const Config& config, const std::string& key, const std::string& name) {
  try {
    find_dataset(name);
  } catch (const ConfigError& error) {
    config.fail(key, error.what());
  }
  std::shared_ptr<const Dataset> dataset;
  try {
    dataset = make_dataset(name, dataset_options(config));
  } catch (const IoError& error) {
    if (config.get_string("TREADLE.DATA_DIR").empty()) throw;
    config.fail("TREADLE.DATA_DIR", error.what());
  }
  const auto classes = static_cast<std::int64_t>(class_names_of(name, *dataset).size());
  if (config.get_string("MODEL.META_ARCHITECTURE") == "ImageClassifier" &&
      classes > config.get_int("TREADLE.CLASSIFIER.NUM_CLASSES"))
    config.fail("TREADLE.CLASSIFIER.NUM_CLASSES", fmt::format("the data set \"{}\" has {} classes", name, classes));
  return dataset;
}

std::unique_ptr<BatchSource> build_train_source(const Config& config, std::shared_ptr<Group> group) {
  const auto names = config.get_strings("DATASETS.TRAIN");
  if (names.empty()) config.fail("DATASETS.TRAIN", "there is nothing to train on");
  TrainLoaderOptions options = train_loader_options(config);
  options.name = names.size() == 1 ? names.front() : fmt::format("{} and {} more", names.front(), names.size() - 1);
  if (const c10::Device device = device_option(config, group->get_local_rank()); !device.is_cpu()) options.device = device;
  std::vector<std::shared_ptr<const Dataset>> parts;
  for (const std::string& name : names) parts.push_back(open_dataset(config, "DATASETS.TRAIN", name));
  std::shared_ptr<const Dataset> dataset = parts.size() == 1 ? parts.front() : std::make_shared<ConcatDataset>(std::move(parts));
  options.transform = train_transform(config, *dataset);
  return with_keys(config, {{"TrainLoaderOptions.total_batch_size", "SOLVER.IMS_PER_BATCH"}},
                   [&] { return build_train_loader(std::move(dataset), options, std::move(group)); });
}

std::unique_ptr<BatchSource> build_test_source(const Config& config, const std::string& name, std::shared_ptr<Group> group) {
  TestLoaderOptions options = test_loader_options(config);
  // Divided among the ranks as a batch of training is.
  options.batch_size = std::max<std::int64_t>(1, options.batch_size / (group ? group->get_world_size() : 1));
  options.name = name;
  std::shared_ptr<const Dataset> dataset = open_dataset(config, "DATASETS.TEST", name);
  options.transform = test_transform(config, *dataset);
  return build_test_loader(std::move(dataset), options, std::move(group));
}

std::unique_ptr<HookBase> build_live_line(const Config& config, bool main) {
  std::vector<hooks::PeriodicWriter::NamedWriter> writers;
  if (main) {
    const LiveLineOptions options{.max_iter = config.get_int("SOLVER.MAX_ITER"),
                                  .images_per_batch = config.get_int("SOLVER.IMS_PER_BATCH")};
    writers.emplace_back("live line", std::make_unique<LiveLine>(options));
  }
  return std::make_unique<hooks::PeriodicWriter>(std::move(writers), 1);
}

/// What changes the model before it is saved and evaluated. Returns the scope of an evaluation: the averaged weights, if any.
hooks::Scope add_statistics_hooks(DefaultTrainer& trainer, std::vector<std::unique_ptr<HookBase>>& list) {
  if (const auto options = precise_bn_options(trainer.config()); options && hooks::count_bn_layers(trainer.model()) > 0) {
    list.push_back(std::make_unique<hooks::PreciseBN>(trainer.model(), trainer.build_train_source(), *options));
  }
  const auto options = ema_options(trainer.config());
  if (!options) return nullptr;
  auto ema = std::make_unique<hooks::EmaHook>(trainer.model(), *options, &trainer.checkpointer());
  hooks::Scope scope = ema->scope();
  list.push_back(std::move(ema));
  return scope;
}

/// What looks at how the run uses the machine.
void add_measuring_hooks(const Config& config, std::vector<std::unique_ptr<HookBase>>& list) {
  if (auto options = torch_profiler_options(config)) list.push_back(std::make_unique<hooks::TorchProfiler>(*std::move(options)));
  if (const auto options = torch_memory_stats_options(config))
    list.push_back(std::make_unique<hooks::TorchMemoryStats>(*options));
}

/// What evaluates, and what decides by the results.
void add_evaluation_hooks(DefaultTrainer& trainer, const hooks::Scope& scope, std::vector<std::unique_ptr<HookBase>>& list) {
  if (!trainer.tester().empty()) {
    hooks::EvalHookOptions options = eval_hook_options(trainer.config());
    options.scope = scope;
    options.model = &trainer.model();
    list.push_back(std::make_unique<hooks::EvalHook>([&trainer] { return trainer.test(); }, std::move(options)));
  }
  if (auto options = best_checkpointer_options(trainer.config())) {
    options->scope = scope;
    list.push_back(std::make_unique<hooks::BestCheckpointer>(trainer.checkpointer(), *std::move(options)));
  }
  if (auto options = early_stopping_options(trainer.config())) {
    list.push_back(std::make_unique<hooks::EarlyStopping>(*std::move(options)));
  }
}

std::vector<std::unique_ptr<HookBase>> build_hooks(DefaultTrainer& trainer) {
  const Config& config = trainer.config();
  std::vector<std::unique_ptr<HookBase>> list;
  list.push_back(std::make_unique<hooks::IterationTimer>());
  if (config.get_bool("TREADLE.DATALOADER.TIMES")) list.push_back(std::make_unique<hooks::LoaderTimer>(trainer.train_source()));
  list.push_back(std::make_unique<hooks::LRScheduler>(trainer.optimizer(), trainer.lr_scheduler()));
  add_measuring_hooks(config, list);
  const hooks::Scope scope = add_statistics_hooks(trainer, list);
  list.push_back(std::make_unique<hooks::PeriodicCheckpointer>(trainer.checkpointer(), periodic_checkpointer_options(config)));
  add_evaluation_hooks(trainer, scope, list);
  list.push_back(std::make_unique<hooks::PeriodicWriter>(trainer.build_writers(), kWriterPeriod));
  list.push_back(build_live_line(config, trainer.group().is_main_process()));
  return list;
}

std::unique_ptr<DatasetEvaluator> build_evaluator(const Config& config, const std::string& dataset,
                                                  std::shared_ptr<Group> group) {
  const char* const key = "TREADLE.EVALUATORS";
  EvaluatorOptions options{.dataset = dataset,
                           .class_names = class_names_of(dataset, dataset_options(config)),
                           .output_dir = std::filesystem::path(config.get_string("OUTPUT_DIR")) / "inference" / dataset,
                           .group = std::move(group),
                           .settings = {{"TEST", config.to_dict("TEST")}, {"TREADLE", config.to_dict("TREADLE")}}};
  std::vector<std::unique_ptr<DatasetEvaluator>> evaluators;
  for (const std::string& name : config.get_strings(key)) {
    const EvaluatorFactory* factory = nullptr;
    try {
      factory = &evaluator_registry().get(name);
    } catch (const ConfigError& error) {
      config.fail(key, error.what());
    }
    evaluators.push_back((*factory)(options));
  }
  if (evaluators.empty()) config.fail(key, "at least one evaluator is needed for DATASETS.TEST");
  if (evaluators.size() == 1) return std::move(evaluators.front());
  return std::make_unique<DatasetEvaluators>(std::move(evaluators));
}

// Nobody who looks at a file sees so short a delay.
constexpr std::chrono::milliseconds kMaxDelay{100};

}  // namespace

std::vector<hooks::PeriodicWriter::NamedWriter> default_writers(const std::string& output_dir, std::int64_t max_iter) {
  with_io_errors("create the folder", output_dir, [&] { return std::filesystem::create_directories(output_dir); });
  std::vector<hooks::PeriodicWriter::NamedWriter> writers;
  writers.emplace_back("log", std::make_unique<CommonMetricPrinter>(CommonMetricPrinterOptions{
                                  .max_iter = max_iter, .level = log_is_terminal() ? LogLevel::debug : LogLevel::info}));
  writers.emplace_back("metrics.json",
                       std::make_unique<JSONWriter>(JSONWriterOptions{
                           .file = output_dir + "/metrics.json", .latest_only = {"lr", "eta_seconds"}, .max_delay = kMaxDelay}));
  writers.emplace_back(
      "TensorBoard", std::make_unique<TensorBoardWriter>(TensorBoardWriterOptions{.folder = output_dir, .max_delay = kMaxDelay}));
  return writers;
}

Builders default_builders() {
  Builders builders;
  builders.model = build_model;
  builders.optimizer = [](const Config& config, Model& model) { return build_optimizer(optimizer_options(config), model); };
  builders.lr_scheduler = [](const Config& config, torch::optim::Optimizer& optimizer) {
    return build_lr_scheduler(lr_scheduler_options(config), optimizer);
  };
  builders.train_loader = build_train_source;
  builders.test_loader = build_test_source;
  builders.evaluator = build_evaluator;
  builders.writers = [](DefaultTrainer& trainer) {
    return default_writers(trainer.config().get_string("OUTPUT_DIR"), trainer.config().get_int("SOLVER.MAX_ITER"));
  };
  builders.hooks = build_hooks;
  return builders;
}

}  // namespace treadle
