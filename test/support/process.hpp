//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_SUPPORT_PROCESS_HPP
#define BULKHEAD_TEST_SUPPORT_PROCESS_HPP

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace test {

using arguments = std::vector<std::string>;

/// The example that the test is about; BULKHEAD_TEST_EXAMPLE in the environment names another build.
inline std::string example() {
  const char* const given = std::getenv("BULKHEAD_TEST_EXAMPLE");
  return given ? given : BULKHEAD_TEST_EXAMPLE;
}

/// A program, by default the example, with what it writes to stdout and stderr. It does not outlive
/// this object.
class process {
public:
  process(const std::string& program, const arguments& options) {
    arguments words{program};
    words.insert(words.end(), options.begin(), options.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);

    std::array<int, 2> ends;
    check(pipe2(ends.data(), O_CLOEXEC) == 0 ? 0 : errno);
    output_ = ends[0];
    pid_ = fork();
    check(pid_ >= 0 ? 0 : errno);
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL); // the watchdog may end us without destructors
      dup2(ends[1], STDOUT_FILENO);
      dup2(ends[1], STDERR_FILENO);
      execv(argv[0], argv.data());
      _exit(127);
    }
    close(ends[1]);
  }

  explicit process(const arguments& options) : process(example(), options) {}

  process(const process&) = delete;
  process& operator=(const process&) = delete;

  ~process() {
    close(output_);
    if (pid_ == 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

  void send(int signal) { kill(pid_, signal); }

  /// The next line of output, without its end; empty at the end.
  std::string line() {
    std::string result;
    for (char c; read(output_, &c, 1) == 1 && c != '\n';) result += c;
    return result;
  }

  /// The output that is left, to its end.
  std::string rest() {
    std::string result;
    std::array<char, 4096> some;
    for (ssize_t n; (n = read(output_, some.data(), some.size())) > 0;)
      result.append(some.data(), static_cast<std::size_t>(n));
    return result;
  }

  /// Waits for the end; the exit code, or the negative signal that ended it.
  int wait() {
    int status = 0;
    waitpid(std::exchange(pid_, 0), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

private:
  static void check(int error) {
    if (error != 0) throw std::system_error(error, std::generic_category());
  }

  pid_t pid_ = 0;
  int output_ = -1;
};

} // namespace test

#endif
