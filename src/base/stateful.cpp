#include <treadle/base/errors.hpp>
#include <treadle/base/stateful.hpp>

namespace treadle {

StatefulFunctions::StatefulFunctions(Functions functions) : functions_(std::move(functions)) {
  if (!functions_.state_dict || !functions_.load_state_dict) {
    throw Error("StatefulFunctions needs the functions state_dict and load_state_dict");
  }
}
Dict StatefulFunctions::state_dict() const { return functions_.state_dict(); }
void StatefulFunctions::check_state_dict(const Dict& state) const {
  if (functions_.check_state_dict) functions_.check_state_dict(state);
}
void StatefulFunctions::load_state_dict(const Dict& state) { functions_.load_state_dict(state); }

Dict collect_state(const std::vector<NamedStateful>& parts) {
  Dict state;
  for (const NamedStateful& part : parts) state.set(part.name, part.object->state_dict());
  return state;
}

namespace {

const Dict& part_state(const NamedStateful& part, const Value& value) {
  if (!value.is(Value::Type::dict)) {
    throw FormatError(part.name + ": the state is no Dict but " + std::string(to_string(value.type())));
  }
  return value.as_dict();
}

}  // namespace

std::vector<std::string> load_state(const std::vector<NamedStateful>& parts, const Dict& state) {
  std::vector<std::string> absent;
  for (const NamedStateful& part : parts) {
    const Value* value = state.find(part.name);
    if (value == nullptr) {
      absent.push_back(part.name);
      continue;
    }
    const Dict& own = part_state(part, *value);
    try {
      part.object->check_state_dict(own);
    } catch (const Error& error) {
      throw FormatError(part.name + ": " + error.what());
    }
  }
  for (const NamedStateful& part : parts) {
    if (const Value* value = state.find(part.name)) part.object->load_state_dict(value->as_dict());
  }
  return absent;
}

}  // namespace treadle
