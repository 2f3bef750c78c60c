#include <treadle/base/errors.hpp>
#include <treadle/base/log.hpp>
#include <treadle/events/writer.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <ios>
#include <system_error>

namespace treadle {
namespace {
constexpr std::int64_t kMostSkipped = 64;
}

GuardedWriter::GuardedWriter(std::unique_ptr<EventWriter> writer, std::string name)
    : writer_(std::move(writer)), name_(std::move(name)) {
  if (writer_ == nullptr) throw Error(fmt::format("the writer \"{}\" is null", name_));
}

void GuardedWriter::failed(const char* what) {
  if (failures_ == 0) log_warning(fmt::format("{} pauses, the run goes on: {}", name_, what));
  skip_ = std::min(kMostSkipped, std::int64_t{1} << std::min<std::int64_t>(failures_, 32));
  ++failures_;
}

// std::ios_base::failure is a std::system_error.
template <class F>
void GuardedWriter::guard(F&& action) {
  try {
    action();
  } catch (const IoError& error) {
    return failed(error.what());
  } catch (const std::system_error& error) {
    return failed(error.what());
  }
  if (failures_ > 0) log_info(fmt::format("{} works again", name_));
  failures_ = 0;
}

void GuardedWriter::write(EventStorage& storage) {
  if (skip_ > 0) {
    --skip_;
    return;
  }
  guard([&] { writer_->write(storage); });
}

void GuardedWriter::close() {
  guard([&] { writer_->close(); });
}

Dict GuardedWriter::state_dict() const { return writer_->state_dict(); }
void GuardedWriter::check_state_dict(const Dict& state) const { writer_->check_state_dict(state); }
void GuardedWriter::load_state_dict(const Dict& state) {
  guard([&] { writer_->load_state_dict(state); });
}

}  // namespace treadle
