#include <comm/meeting.hpp>
#include <comm/message.hpp>
#include <treadle/base/errors.hpp>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <sstream>
#include <vector>

namespace treadle {
namespace {

/// One who came: its rank, and the first rank on its machine.
struct Attendant {
  int rank, machine;
};

std::string write(const std::vector<Attendant>& attendants) {
  std::string text;
  for (const Attendant& attendant : attendants) text += fmt::format("{} {}\n", attendant.rank, attendant.machine);
  return text;
}

std::vector<Attendant> read(const std::string& text) {
  std::vector<Attendant> attendants;
  std::istringstream stream(text);
  for (Attendant attendant{}; stream >> attendant.rank >> attendant.machine;) attendants.push_back(attendant);
  return attendants;
}

Place place_of(const Meeting& meeting, const std::vector<Attendant>& attendants) {
  const char* operation = name_of(meeting.go_on_without ? Call::rebuild : Call::connect);
  const auto own = std::find_if(attendants.begin(), attendants.end(), [&](const Attendant& a) { return a.rank == meeting.rank; });
  if (own == attendants.end()) {
    throw CommError("the other ranks went on without this one, which came too late", meeting.rank, operation);
  }
  const auto here = [&](const Attendant& attendant) { return attendant.machine == meeting.machine; };
  return {static_cast<int>(own - attendants.begin()), static_cast<int>(attendants.size()),
          static_cast<int>(std::count_if(attendants.begin(), own, here)),
          static_cast<int>(std::count_if(attendants.begin(), attendants.end(), here))};
}

}  // namespace

Place meet(Store& store, const Meeting& meeting, std::chrono::milliseconds timeout) {
  std::vector<std::string> keys;
  for (int rank = 0; rank < meeting.world_size; ++rank) keys.push_back(fmt::format("{}/came/{}", meeting.name, rank));
  store.set(keys[static_cast<std::size_t>(meeting.rank)], fmt::format("{} {}", meeting.machine, meeting.world_size), timeout);
  const std::vector<std::size_t> absent = store.wait(keys, meeting.patience);
  if (!absent.empty() && !meeting.go_on_without) {
    throw CommError(fmt::format("{} of {} did not come to the store at {} (waited {:.1f} s)", rank_list(absent),
                                meeting.world_size, store.address(), static_cast<double>(meeting.patience.count()) / 1000),
                    meeting.rank, name_of(Call::connect));
  }
  std::vector<Attendant> came;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (std::find(absent.begin(), absent.end(), i) != absent.end()) continue;
    std::istringstream said(store.find(keys[i], timeout).value_or(""));
    int machine = 0, world_size = 0;
    said >> machine >> world_size;
    if (world_size != meeting.world_size) {
      throw CommError(
          fmt::format("rank {} was started as one of {} ranks, this one as one of {}", i, world_size, meeting.world_size),
          meeting.rank, name_of(Call::connect));
    }
    came.push_back({static_cast<int>(i), machine});
  }
  return place_of(meeting, read(store.decide(meeting.name + "/attendants", write(came), timeout)));
}

}  // namespace treadle
