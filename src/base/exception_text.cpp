#include <base/exception_text.hpp>

#include <c10/util/Exception.h>

#include <string_view>

namespace treadle {
namespace {

std::string in_one_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  for (char& c : text) c = c == '\n' ? ' ' : c;
  return text;
}

/// "[enforce fail at FILE:LINE] CONDITION. TEXT" says to whoever wrote the condition where it stands.
std::string without_place_in_source(std::string text) {
  constexpr std::string_view head = "[enforce fail at ";
  if (!text.starts_with(head)) return text;
  const std::size_t begin = text.find(". ", text.find(']'));
  return begin == std::string::npos ? text : text.substr(begin + 2);
}

}  // namespace

std::string exception_text(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const c10::Error& error) {
    return without_place_in_source(in_one_line(error.what_without_backtrace()));
  } catch (const std::exception& error) {
    return in_one_line(error.what());
  } catch (...) {
    return "an exception that is no std::exception";
  }
}

}  // namespace treadle
