#pragma once

#include <string>
#include <string_view>

namespace treadle {

/// Thrown inside the parser of Python expressions: the text is outside the grammar.
struct NotPython {};

/// Whether a string or bytes literal stands at the front.
bool starts_python_string(std::string_view text);

/// Takes one literal off the front of `text` and appends what it means to `content`, text as UTF-8; true when it was bytes.
bool take_python_string(std::string_view& text, std::string& content);

}  // namespace treadle
