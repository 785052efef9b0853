//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

#ifndef BULKHEAD_TEST_SUPPORT_FORK_HPP
#define BULKHEAD_TEST_SUPPORT_FORK_HPP

#include <cerrno>
#include <csignal>
#include <system_error>

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace test {

/// Calls `f`, which may kill its process or change its limits, in a child of this one that has no
/// other thread. What it returns, as an exit code; or the negative signal that ended it. What it
/// throws is 125.
template <class F>
int in_child(F f) {
  const pid_t pid = fork();
  if (pid < 0) throw std::system_error(errno, std::generic_category());
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const rlimit no_core{0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    for (int s : {SIGSEGV, SIGBUS, SIGABRT}) std::signal(s, SIG_DFL); // not the test framework's
    int code = 125;
    try {
      code = f();
    } catch (...) {
    }
    _exit(code);
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

} // namespace test

#endif
