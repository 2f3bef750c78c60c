#include <treadle/base/log.hpp>
#include <treadle/comm/group.hpp>
#include <treadle/data/batch_source.hpp>
#include <treadle/defaults/default_trainer.hpp>
#include <treadle/evaluation.hpp>
#include <treadle/models/model.hpp>

#include <fmt/format.h>

namespace treadle {

Tester::Tester(const Config& config, std::shared_ptr<Group> group, const Builders& builders)
    : group_(group ? std::move(group) : make_single_process_group()) {
  for (const std::string& name : config.get_strings("DATASETS.TEST")) {
    sets_.push_back({name, builders.test_loader(config, name, group_), builders.evaluator(config, name, group_)});
  }
}

Tester::~Tester() = default;

Dict Tester::test(Model& model) {
  Dict results;
  for (TestSet& set : sets_) {
    Dict own = inference_on_dataset(model, *set.source, *set.evaluator, *group_);
    if (group_->is_main_process()) {
      log_info(fmt::format("Evaluation results for {} in csv format:", set.name));
      print_csv_format(own);
    }
    results.set(set.name, std::move(own));
  }
  if (!group_->is_main_process()) return {};
  if (results.size() == 1) {
    Dict only = results.begin()->value.as_dict();
    return only;
  }
  return results;
}

}  // namespace treadle
