#include <treadle/engine/hook_base.hpp>

#include <c10/util/Type.h>

namespace treadle {

std::string HookBase::key() const {
  const std::string full = c10::demangle(typeid(*this).name());
  // The last component outside of template arguments: `treadle::hooks::Log<a::B>` is "Log<a::B>".
  std::size_t start = 0;
  int depth = 0;
  for (std::size_t i = 0; i < full.size(); ++i) {
    depth += (full[i] == '<' || full[i] == '(') - (full[i] == '>' || full[i] == ')');
    if (depth == 0 && full[i] == ':') start = i + 1;
  }
  return full.substr(start);
}

}  // namespace treadle
