#include <launch/reports.hpp>
#include <treadle/base/errors.hpp>

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <type_traits>

namespace treadle {
namespace {

constexpr std::size_t kMostText = 8192;

/// A report without its text, as it travels between processes of one program.
struct Head {
  RankReport::Kind kind;
  int local_rank;
  std::int64_t generation;
  int status;
  Clock::rep time;
};
static_assert(std::is_trivially_copyable_v<Head>);

}  // namespace

ReportChannel::ReportChannel() {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) throw IoError("make", "a socket", errno);
  reader_ = Descriptor(ends[0]);
  writer_ = Descriptor(ends[1]);
}

void ReportChannel::send(const RankReport& report) const noexcept {
  Head head{report.kind, report.local_rank, report.generation, report.status, report.time.time_since_epoch().count()};
  std::array<iovec, 2> parts{
      {{&head, sizeof head}, {const_cast<char*>(report.text.data()), std::min(report.text.size(), kMostText)}}};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  while (sendmsg(writer_.get(), &message, MSG_NOSIGNAL) < 0 && errno == EINTR) {
  }
}

std::optional<RankReport> ReportChannel::receive() const {
  std::array<char, sizeof(Head) + kMostText> buffer{};
  ssize_t size = 0;
  do {
    size = recv(reader_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  } while (size < 0 && errno == EINTR);
  if (size < static_cast<ssize_t>(sizeof(Head))) return std::nullopt;
  Head head{};
  std::memcpy(&head, buffer.data(), sizeof head);
  return RankReport{.kind = head.kind,
                    .local_rank = head.local_rank,
                    .generation = head.generation,
                    .status = head.status,
                    .time = Clock::time_point(Clock::duration(head.time)),
                    .text = std::string(buffer.data() + sizeof head, static_cast<std::size_t>(size) - sizeof head)};
}

}  // namespace treadle
