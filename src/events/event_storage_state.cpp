#include <treadle/base/value_view.hpp>
#include <treadle/events/event_storage.hpp>

#include <ATen/ops/empty.h>

#include <algorithm>

#include "events/event_storage_slot.hpp"

namespace treadle {
namespace {

at::Tensor to_tensor(const std::vector<double>& values) {
  at::Tensor tensor = at::empty({static_cast<std::int64_t>(values.size())}, at::kDouble);
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<double>());
  return tensor;
}

std::vector<double> to_vector(const at::Tensor& tensor) {
  const at::Tensor values = tensor.cpu().contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

Dict image_state(const ImageEvent& event) {
  return {{"name", event.name}, {"iteration", event.iteration}, {"pixels", event.pixels}};
}

void check_image(const ValueView& state) {
  state["name"].as_string();
  state["iteration"].as_int();
  const at::Tensor& pixels = state["pixels"].as_tensor();
  if (pixels.dim() != 3 || pixels.scalar_type() != at::kByte)
    state["pixels"].fail("expected a three-dimensional tensor of uint8");
}

ImageEvent load_image(const Dict& state) {
  return {state.at("name").as_string(), state.at("iteration").as_int(),
          state.at("pixels").as_tensor().cpu().clone(at::MemoryFormat::Contiguous)};
}

Dict histogram_state(const HistogramEvent& event) {
  return {{"name", event.name},
          {"iteration", event.iteration},
          {"min", event.min},
          {"max", event.max},
          {"sum", event.sum},
          {"sum_squares", event.sum_squares},
          {"number", event.number},
          {"limits", to_tensor(event.limits)},
          {"counts", to_tensor(event.counts)}};
}

void check_histogram(const ValueView& state) {
  state["name"].as_string();
  for (const char* key : {"iteration", "number"}) state[key].as_int();
  for (const char* key : {"min", "max", "sum", "sum_squares"}) state[key].as_double();
  for (const char* key : {"limits", "counts"}) {
    const at::Tensor& values = state[key].as_tensor();
    if (values.dim() != 1 || values.scalar_type() != at::kDouble) state[key].fail("expected a one-dimensional tensor of float64");
  }
  if (state["limits"].as_tensor().numel() != state["counts"].as_tensor().numel())
    state["counts"].fail("expected one count per limit");
}

HistogramEvent load_histogram(const Dict& state) {
  return {.name = state.at("name").as_string(),
          .iteration = state.at("iteration").as_int(),
          .min = state.at("min").as_double(),
          .max = state.at("max").as_double(),
          .sum = state.at("sum").as_double(),
          .sum_squares = state.at("sum_squares").as_double(),
          .number = state.at("number").as_int(),
          .limits = to_vector(state.at("limits").as_tensor()),
          .counts = to_vector(state.at("counts").as_tensor())};
}

}  // namespace

Dict EventStorage::state_dict() const {
  Dict scalars;
  for (const std::uint32_t i : order_) {
    scalars.set(slots_[i]->name,
                Dict{{"smoothing_hint", slots_[i]->smoothing_hint}, {"history", slots_[i]->history.state_dict()}});
  }
  List images, histograms;
  for (const ImageEvent& event : images_) images.push_back(image_state(event));
  for (const HistogramEvent& event : histograms_) histograms.push_back(histogram_state(event));
  return {{"iter", iter_}, {"scalars", std::move(scalars)}, {"images", std::move(images)}, {"histograms", std::move(histograms)}};
}

void EventStorage::check_state_dict(const Dict& state) const {
  const ValueView view(state, "EventStorage");
  view["iter"].as_int();
  const HistoryBuffer any;
  for (const Dict::Entry& entry : view["scalars"].as_dict()) {
    const ValueView scalar = view["scalars"][entry.key];
    entry.key.string();
    scalar["smoothing_hint"].as_bool();
    any.check_state_dict(scalar["history"].as_dict());
  }
  for (std::size_t i = 0; i < view["images"].as_list().size(); ++i) check_image(view["images"].item(i));
  for (std::size_t i = 0; i < view["histograms"].as_list().size(); ++i) check_histogram(view["histograms"].item(i));
}

void EventStorage::load_state_dict(const Dict& state) {
  for (const std::uint32_t i : order_) slots_[i]->history.clear();
  order_.clear();
  for (const Dict::Entry& entry : state.at("scalars").as_dict()) {
    const Dict& scalar = entry.value.as_dict();
    const bool hint = scalar.at("smoothing_hint").as_bool();
    const auto known = index_.find(entry.key.string());
    const std::uint32_t index = known != index_.end() ? known->second : add_slot(entry.key.string(), hint);
    slots_[index]->smoothing_hint = hint;
    slots_[index]->history.load_state_dict(scalar.at("history").as_dict());
    if (slots_[index]->history.count() > 0) order_.push_back(index);
  }
  images_.clear();
  histograms_.clear();
  for (const Value& image : state.at("images").as_list()) images_.push_back(load_image(image.as_dict()));
  for (const Value& histogram : state.at("histograms").as_list()) histograms_.push_back(load_histogram(histogram.as_dict()));
  iter_ = state.at("iter").as_int();
}

}  // namespace treadle
