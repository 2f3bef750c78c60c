#include "checkpoint/unpickler.hpp"

#include "checkpoint/text_encoding.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

namespace treadle {

namespace {

// A number of more bytes than this is no number that a checkpoint needs, and turning it into digits takes quadratic time.
constexpr std::uint64_t kMaxLongBytes = 1024;
// An opcode with all that it has but the content of a string.
constexpr std::uint64_t kMaxOpcodeBytes = 64;

}  // namespace

NodeId Unpickler::load() {
  NodeId result = kNoNode;
  std::uint64_t start = position_, counted = 0;
  try {
    for (;;) {
      opcode_at_ = position_;
      if (position_ == start) {
        expect(static_cast<unsigned char>(source_.bytes(position_, 1)[0]) == 0x80,
               "a pickle of protocol 2 to 5 should start here");
      }
      if (step(result)) break;
      const std::uint64_t length = position_ - opcode_at_;
      graph_.allow(options_.budget_per_byte * length);
      counted += std::min(length, kMaxOpcodeBytes);
      if (counted > options_.max_bytes)
        fail(fmt::format("a pickle of more bytes, without the content of its strings, than max_pickle_bytes, which is {}",
                         options_.max_bytes));
    }
  } catch (const FormatError& error) {
    if (!error.file().empty()) throw;
    fail(error.what());
  }
  return result;
}

bool Unpickler::step(NodeId& result) {
  auto opcode = number<unsigned char>();
  switch (opcode) {
    case 0x80: {  // PROTO
      int protocol = number<unsigned char>();
      if (protocol < 2 || protocol > 5) fail(fmt::format("pickle protocol {}; 2 to 5 are known", protocol));
      return false;
    }
    case 0x95: {  // FRAME: a hint for readers of streams
      auto length = number<std::uint64_t>();
      expect(length <= source_.limit() - position_, "a frame is announced that is longer than the data");
      return false;
    }
    case '.':  // STOP
      result = pop();
      expect(stack_.empty() && marks_.empty(), "the pickle ends with objects left over");
      return true;
    default:
      break;
  }
  if (!step_scalar(opcode) && !step_text(opcode) && !step_container(opcode) && !step_memo(opcode) && !step_object(opcode)) {
    fail(fmt::format("opcode 0x{:02x} is not one that data needs", opcode));
  }
  return false;
}

bool Unpickler::step_scalar(unsigned char opcode) {
  switch (opcode) {
    case 'N':
      push(graph_.add_none());
      return true;
    case 0x88:
      push(graph_.add_boolean(true));
      return true;
    case 0x89:
      push(graph_.add_boolean(false));
      return true;
    case 'K':
      push(graph_.add_integer(number<std::uint8_t>()));
      return true;
    case 'M':
      push(graph_.add_integer(number<std::uint16_t>()));
      return true;
    case 'J':
      push(graph_.add_integer(number<std::int32_t>()));
      return true;
    case 0x8a:
      push_long(number<std::uint8_t>());
      return true;
    case 0x8b: {
      auto length = number<std::int32_t>();
      expect(length >= 0, "an integer of negative length");
      push_long(static_cast<std::uint64_t>(length));
      return true;
    }
    case 'G':
      push_new({.kind = NodeKind::real, .wide = __builtin_bswap64(number<std::uint64_t>())});
      return true;
    default:
      return false;
  }
}

bool Unpickler::step_text(unsigned char opcode) {
  switch (opcode) {
    case 'X':
      push_text(number<std::uint32_t>(), TextForm::raw);
      return true;
    case 0x8c:
      push_text(number<std::uint8_t>(), TextForm::raw);
      return true;
    case 0x8d:
      push_text(number<std::uint64_t>(), TextForm::raw);
      return true;
    case 'U':
      push_text(number<std::uint8_t>(), TextForm::latin1);
      return true;
    case 'T': {
      auto length = number<std::int32_t>();
      expect(length >= 0, "text of negative length");
      push_text(static_cast<std::uint64_t>(length), TextForm::latin1);
      return true;
    }
    case 'C':
      push_bytes(number<std::uint8_t>());
      return true;
    case 'B':
      push_bytes(number<std::uint32_t>());
      return true;
    case 0x8e:
    case 0x96:
      push_bytes(number<std::uint64_t>());
      return true;
    default:
      return false;
  }
}

bool Unpickler::step_container(unsigned char opcode) {
  switch (opcode) {
    case ']':
      push_new({.kind = NodeKind::list});
      return true;
    case '}':
      push_new({.kind = NodeKind::dict});
      return true;
    case ')':
      push_new({.kind = NodeKind::tuple});
      return true;
    case 0x8f:
      push_new({.kind = NodeKind::set});
      return true;
    case '(':
      graph_.charge(3 * sizeof(std::size_t));
      marks_.push_back(stack_.size());
      return true;
    case 't':
      make_tuple(pop_mark());
      return true;
    case 0x85:
    case 0x86:
    case 0x87: {
      std::size_t count = opcode - 0x84u;
      expect(stack_.size() - floor() >= count, "a tuple needs more objects than there are");
      make_tuple(stack_.size() - count);
      return true;
    }
    case 'a':
      expect(stack_.size() - floor() >= 2, "an append without a list");
      append_from(stack_.size() - 1);
      return true;
    case 'e':
    case 0x90:
      append_from(pop_mark());
      return true;
    case 0x91: {  // FROZENSET
      std::size_t from = pop_mark();
      NodeId set = graph_.add({.kind = NodeKind::set});
      stack_.insert(stack_.begin() + static_cast<std::ptrdiff_t>(from), set);
      append_from(from + 1);
      return true;
    }
    case 's':
      expect(stack_.size() - floor() >= 3, "an item without a dict");
      set_items_from(stack_.size() - 2);
      return true;
    case 'u':
      set_items_from(pop_mark());
      return true;
    default:
      return false;
  }
}

bool Unpickler::step_memo(unsigned char opcode) {
  switch (opcode) {
    case 'q':
      remember(number<std::uint8_t>());
      return true;
    case 'r':
      remember(number<std::uint32_t>());
      return true;
    case 0x94:
      remember(memo_.size());
      return true;
    case 'h':
      recall(number<std::uint8_t>());
      return true;
    case 'j':
      recall(number<std::uint32_t>());
      return true;
    case '0':
      if (!marks_.empty() && stack_.size() == marks_.back()) {
        marks_.pop_back();
      } else {
        pop();
      }
      return true;
    case '1':
      pop_to(pop_mark());
      return true;
    case '2':
      push(top());
      return true;
    default:
      return false;
  }
}

bool Unpickler::step_object(unsigned char opcode) {
  switch (opcode) {
    case 'c': {
      std::string module = line();
      std::string name = line();
      push_global(module, name);
      return true;
    }
    case 0x93: {
      std::string name = text(pop(), "the name of a class");
      std::string module = text(pop(), "the module of a class");
      push_global(module, name);
      return true;
    }
    case 'R':
    case 0x81: {  // REDUCE and NEWOBJ differ in Python only in how the class makes its object
      NodeId arguments = pop();
      NodeId callable = pop();
      push(make(callable, arguments));
      return true;
    }
    case 0x92: {
      NodeId named = pop();
      expect(is(named, NodeKind::dict) && graph_.count(named) == 0, "an object made with named arguments");
      NodeId arguments = pop();
      NodeId callable = pop();
      push(make(callable, arguments));
      return true;
    }
    case 'b': {
      NodeId state = pop();
      build(top(), state);
      return true;
    }
    case 'Q':
      push_storage(pop());
      return true;
    default:
      return false;
  }
}

template <class T>
T Unpickler::number() {
  T value = read_little<T>(source_.bytes(position_, sizeof(T)));
  position_ += sizeof(T);
  return value;
}

void Unpickler::push(NodeId id) {
  if (stack_.size() == stack_.capacity()) graph_.charge(2 * (stack_.capacity() + 1) * sizeof(NodeId));
  stack_.push_back(id);
}

void Unpickler::push_new(Node node) { push(graph_.add(node)); }

NodeId Unpickler::pop() {
  NodeId id = top();
  stack_.pop_back();
  return id;
}

NodeId& Unpickler::top() {
  expect(stack_.size() > floor(), "an object is needed, but the stack is empty");
  return stack_.back();
}

std::size_t Unpickler::pop_mark() {
  expect(!marks_.empty(), "a mark is needed, but there is none");
  std::size_t height = marks_.back();
  marks_.pop_back();
  return height;
}

void Unpickler::push_text(std::uint64_t length, TextForm form) {
  std::string_view content = source_.bytes(position_, length);
  if (form == TextForm::raw && !is_utf8(content)) fail("text that is not UTF-8");
  expect(length <= 0xffffffff, "text of 4 GiB or more");
  push_new({.kind = NodeKind::text, .form = form, .small = static_cast<std::uint32_t>(length), .wide = position_});
  position_ += length;
}

void Unpickler::push_bytes(std::uint64_t length) {
  source_.bytes(position_, length);
  expect(length <= 0xffffffff, "a byte string of 4 GiB or more");
  push_new({.kind = NodeKind::bytes, .small = static_cast<std::uint32_t>(length), .wide = position_});
  position_ += length;
}

void Unpickler::push_long(std::uint64_t length) {
  std::string_view digits = source_.bytes(position_, length);
  if (length > kMaxLongBytes) fail(fmt::format("an integer of {} bytes; {} are the most", length, kMaxLongBytes));
  position_ += length;
  if (length > 8) {
    push(graph_.add_owned(NodeKind::text, decimal_digits(digits)));
    return;
  }
  std::uint64_t value = length > 0 && (digits[length - 1] & 0x80) ? ~std::uint64_t{0} : 0;
  for (std::size_t i = length; i-- > 0;) value = (value << 8) | static_cast<unsigned char>(digits[i]);
  push(graph_.add_integer(static_cast<std::int64_t>(value)));
}

std::string Unpickler::line() {
  // Longer than any name of a class, short enough that a missing end is noticed soon.
  constexpr std::uint64_t kMaxLine = 4096;
  std::string text;
  while (text.size() < kMaxLine) {
    char c = source_.bytes(position_, 1)[0];
    ++position_;
    if (c == '\n') return text;
    text.push_back(c);
  }
  fail("the name of a class does not end");
}

}  // namespace treadle
