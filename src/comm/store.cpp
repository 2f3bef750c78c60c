#include <comm/c10d.hpp>

#include <fmt/format.h>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <future>
#include <stdexcept>
#include <thread>

namespace treadle {
namespace {

using Milliseconds = std::chrono::milliseconds;

constexpr Milliseconds kSlack{500};  // for calls that keep a limit by themselves

/// Runs `call` on a thread of its own and gives it up after `limit`: a client of a stopped server waits for ever.
template <class Call>
auto within(Milliseconds limit, const std::string& address, Call call) -> decltype(call()) {
  std::packaged_task<decltype(call())()> task(std::move(call));
  auto result = task.get_future();
  std::thread(std::move(task)).detach();
  if (result.wait_for(limit) != std::future_status::ready) {
    throw std::runtime_error(
        fmt::format("the store at {} did not answer within {:.1f} s", address, static_cast<double>(limit.count()) / 1000));
  }
  return result.get();
}

c10::intrusive_ptr<c10d::Store> open_store(const ConnectOptions& options) {
  if (!options.file.empty()) {
    // No count of workers: the file belongs to whoever chose it, and outlives a group that is rebuilt.
    return c10::make_intrusive<c10d::FileStore>(options.file.string(), -1);
  }
  c10d::TCPStoreOptions tcp;
  tcp.port = options.port;
  tcp.isServer = false;
  tcp.waitWorkers = false;
  tcp.timeout = options.timeout;
  return c10::make_intrusive<c10d::TCPStore>(options.host, tcp);
}

std::vector<std::uint8_t> bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

}  // namespace

Store::Store(const ConnectOptions& options)
    : address_(options.file.empty() ? fmt::format("{}:{}", options.host, options.port) : options.file.string()) {
  const auto open = [options] {
    auto store = open_store(options);
    store->setTimeout(options.timeout);
    return std::make_shared<Impl>(Impl{c10::make_intrusive<c10d::PrefixStore>("treadle", std::move(store))});
  };
  try {
    impl_ = within(options.timeout + kSlack, address_, open);
  } catch (const c10::Error& error) {
    throw std::runtime_error(fmt::format("the store at {} cannot be reached: {}", address_, cause_of(error)));
  }
}

Store::~Store() = default;

void Store::set(const std::string& key, const std::string& value, Milliseconds limit) {
  within(limit, address_, [impl = impl_, key, bytes = bytes_of(value)] { impl->store->set(key, bytes); });
}

std::optional<std::string> Store::find(const std::string& key, Milliseconds limit) {
  return within(limit, address_, [impl = impl_, key]() -> std::optional<std::string> {
    if (!impl->store->check({key})) return std::nullopt;
    const std::vector<std::uint8_t> bytes = impl->store->get(key);
    return std::string(bytes.begin(), bytes.end());
  });
}

std::int64_t Store::add(const std::string& key, std::int64_t amount, Milliseconds limit) {
  return within(limit, address_, [impl = impl_, key, amount] { return impl->store->add(key, amount); });
}

std::vector<std::size_t> Store::wait(const std::vector<std::string>& keys, Milliseconds limit) {
  return within(limit + kSlack, address_, [impl = impl_, keys, limit] {
    std::vector<std::size_t> absent;
    try {
      impl->store->wait(keys, limit);
    } catch (const c10::Error&) {
      for (std::size_t i = 0; i < keys.size(); ++i) {
        if (!impl->store->check({keys[i]})) absent.push_back(i);
      }
    }
    return absent;
  });
}

}  // namespace treadle
