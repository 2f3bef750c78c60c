#pragma once

#include <treadle/checkpoint/detection_checkpointer.hpp>
#include <treadle/config/config.hpp>
#include <treadle/engine/run_record.hpp>
#include <treadle/engine/simple_trainer.hpp>
#include <treadle/evaluation/results.hpp>
#include <treadle/hooks/periodic_writer.hpp>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace treadle {

class DatasetEvaluator;
class DefaultTrainer;
class LRScheduler;

/// How a DefaultTrainer makes its parts. A program replaces the functions it wants:
///
///     Builders builders = default_builders();
///     builders.model = [](const Config&) { return std::make_shared<MyModel>(); };
///     DefaultTrainer trainer(config, group, builders);
///
/// `test_loader` and `evaluator` are called once for every name in DATASETS.TEST. `writers` is called on the main process alone.
struct Builders {
  std::function<std::shared_ptr<Model>(const Config&)> model;
  std::function<std::unique_ptr<torch::optim::Optimizer>(const Config&, Model&)> optimizer;
  std::function<std::unique_ptr<LRScheduler>(const Config&, torch::optim::Optimizer&)> lr_scheduler;
  std::function<std::unique_ptr<BatchSource>(const Config&, std::shared_ptr<Group>)> train_loader;
  std::function<std::unique_ptr<BatchSource>(const Config&, const std::string& dataset, std::shared_ptr<Group>)> test_loader;
  std::function<std::unique_ptr<DatasetEvaluator>(const Config&, const std::string& dataset, std::shared_ptr<Group>)> evaluator;
  std::function<std::vector<std::unique_ptr<HookBase>>(DefaultTrainer&)> hooks;
  std::function<std::vector<hooks::PeriodicWriter::NamedWriter>(DefaultTrainer&)> writers;
};

/// The parts that the config asks for: registered models and data sets, IterationTimer, LoaderTimer, LRScheduler, TorchProfiler,
/// TorchMemoryStats, PreciseBN, EmaHook, PeriodicCheckpointer, EvalHook, BestCheckpointer, EarlyStopping and PeriodicWriter with
/// `default_writers`, and on a terminal the live line. With an EmaHook the averages are saved at the end as `model_ema`.
Builders default_builders();

/// Evaluates models on the data sets of DATASETS.TEST. Loop thread only; all ranks. Data is opened by the constructor.
class Tester {
 public:
  Tester(const Config& config, std::shared_ptr<Group> group, const Builders& builders);
  ~Tester();
  /// {task: {metric: number}} for one data set, {data set: {task: …}} for several, on the main process; empty elsewhere. Logs the
  /// results.
  Dict test(Model& model);
  bool empty() const noexcept { return sets_.empty(); }

 private:
  struct TestSet {
    std::string name;
    std::unique_ptr<BatchSource> source;
    std::unique_ptr<DatasetEvaluator> evaluator;
  };
  std::shared_ptr<Group> group_;
  std::vector<TestSet> sets_;
};

/// Evaluates weights without a trainer, on DATASETS.TEST: those of MODEL.WEIGHTS, or with `resume` and a checkpoint in OUTPUT_DIR
/// the last one there, or the newest good one; the run of that folder, which may go on, is left as it is. After `default_setup`,
/// on all ranks, from one thread. Returns what `Tester::test` returns. Throws ConfigError when there are no data sets or no
/// weights.
Dict evaluate_weights(const Config& config, std::shared_ptr<Group> group, bool resume,
                      const Builders& builders = default_builders());

/// A whole training run made from a config: model, optimizer, schedule, data, checkpoints, evaluation and reports. Loop thread
/// only, but for `request_stop`. The constructor builds everything, so what is wrong with the config or the data is said before
/// the first step.
///
/// State: {"iteration", "hooks", "_trainer": {"iteration", "optimizer", with AMP "grad_scaler"}}, as Detectron2 writes it, and
/// "treadle_hooks", see TrainerBase.
class DefaultTrainer : public TrainerBase {
 public:
  explicit DefaultTrainer(const Config& config, std::shared_ptr<Group> group = nullptr, Builders builders = default_builders());
  ~DefaultTrainer() override;

  /// With `resume` and a checkpoint in OUTPUT_DIR: goes on from the last one. Otherwise loads the weights of MODEL.WEIGHTS, if
  /// any. A checkpoint that has come further than SOLVER.MAX_ITER, where the schedule has no rates, is a ConfigError, and nothing
  /// is loaded.
  void resume_or_load(bool resume = true);

  using TrainerBase::train;
  /// Trains from `start_iter()` to SOLVER.MAX_ITER. Returns the results of the last evaluation on the main process, else an empty
  /// Dict. A complete run whose results are not those of TEST.EXPECTED_RESULTS throws Error on the main process; everything is
  /// saved by then.
  Dict train();
  /// Evaluates the model on DATASETS.TEST and keeps the results.
  Dict test();
  const Dict& last_results() const noexcept { return last_results_; }

  void run_step() override { inner_->run_step_for(*this); }
  void before_step() override;
  void finish_steps() override { inner_->finish_for(*this); }
  /// The inner trainer's own end-of-training work, then that of the hooks.
  void after_train() override;

  /// The config as the run goes by it: frozen, and scaled to the number of ranks where SOLVER.REFERENCE_WORLD_SIZE asks for it.
  const Config& config() const noexcept { return config_; }
  Model& model() noexcept { return *model_; }
  torch::optim::Optimizer& optimizer() noexcept { return *optimizer_; }
  LRScheduler& lr_scheduler() noexcept { return *lr_scheduler_; }
  Checkpointer& checkpointer() noexcept { return *checkpointer_; }
  SimpleTrainer& inner_trainer() noexcept { return *inner_; }
  const BatchSource& train_source() const noexcept { return *train_source_; }
  Tester& tester() noexcept { return *tester_; }
  /// What the builder `writers` gives, on the main process; none elsewhere. For the builder `hooks`.
  std::vector<hooks::PeriodicWriter::NamedWriter> build_writers();
  /// Another source of training batches, from the first on, made without workers. For the builder `hooks`.
  std::unique_ptr<BatchSource> build_train_source();

  Dict state_dict() const override;
  /// Throws also ConfigError, for the state of a run that has come further than SOLVER.MAX_ITER and than the schedule.
  void check_state_dict(const Dict& state) const override;
  void load_state_dict(const Dict& state) override;
  /// Those of the inner trainer.
  Dict rank_state_dict() const override { return inner_->rank_state_dict(); }
  void check_rank_state_dict(const Dict& state) const override { inner_->check_rank_state_dict(state); }
  void load_rank_state_dict(const Dict& state) override { inner_->load_rank_state_dict(state); }

 private:
  /// Throws ConfigError when a run whose last complete iteration is `completed` would go on behind SOLVER.MAX_ITER.
  void require_within_run(std::int64_t completed) const;

  Config config_;
  Builders builders_;
  std::shared_ptr<Model> model_;
  std::unique_ptr<torch::optim::Optimizer> optimizer_;
  std::unique_ptr<LRScheduler> lr_scheduler_;
  std::unique_ptr<BatchSource> train_source_;
  std::unique_ptr<Tester> tester_;
  std::unique_ptr<SimpleTrainer> inner_;
  std::unique_ptr<RunRecord> record_;
  std::unique_ptr<DetectionCheckpointer> checkpointer_;
  Dict last_results_;
  std::vector<ExpectedResult> expected_;
};

/// Detectron2's three: the lines of the log, `metrics.json` and TensorBoard events, all in `output_dir`. On a terminal the first
/// goes to the log file alone, since the live line shows the same.
std::vector<hooks::PeriodicWriter::NamedWriter> default_writers(const std::string& output_dir, std::int64_t max_iter);

}  // namespace treadle
