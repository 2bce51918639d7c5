#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace popart {

// The message is a format: each {} takes the next argument. A brace that is no such pair is an error, as in
// PopART.
class error : public std::runtime_error {
public:
  template <typename... Args>
  explicit error(const char *message, const Args &...args) : std::runtime_error(format(message, args...)) {}
  template <typename... Args>
  explicit error(const std::string &message, const Args &...args) : std::runtime_error(format(message, args...)) {}

private:
  static std::string format(const std::string &message) {
    if (message.find_first_of("{}") != std::string::npos)
      return "Popart exception format error: " + message;
    return message;
  }
  template <typename First, typename... Rest>
  static std::string format(const std::string &message, const First &first, const Rest &...rest) {
    const std::size_t at = message.find("{}");
    if (at == std::string::npos)
      return format(message);
    std::ostringstream out;
    out << message.substr(0, at) << first;
    return out.str() + format(message.substr(at + 2), rest...);
  }
};

} // namespace popart
