#include <base/exception_text.hpp>

#include <c10/util/Exception.h>

namespace treadle {
namespace {

std::string in_one_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  for (char& c : text) c = c == '\n' ? ' ' : c;
  return text;
}

}  // namespace

std::string exception_text(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const c10::Error& error) {
    return in_one_line(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return in_one_line(error.what());
  } catch (...) {
    return "an exception that is no std::exception";
  }
}

}  // namespace treadle
