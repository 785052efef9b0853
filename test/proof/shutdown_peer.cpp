//
// Copyright (c) 2026 The Bulkhead authors
//
// Distributed under the Boost Software License, Version 1.0. (See accompanying
// file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
//

// What stands beside the area "shutdown": a wait is cancelled after the end of what it waited for. That is
// done by a program beside this one, peers/channel.cpp, which AddressSanitizer watches.

#include "proof.hpp"

#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace {

/// In a few words, what became of a cancellation of that kind of wait.
std::string cancel_late(const char* what) {
  const auto here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  const std::string command = (here / "proof_peer_channel").string().append(" ").append(what);
  std::FILE* const pipe = popen((command + " 2>&1").c_str(), "r");
  if (!pipe) throw std::runtime_error("popen");
  std::string output;
  for (int c; (c = std::fgetc(pipe)) != EOF;) output += static_cast<char>(c);
  const int status = pclose(pipe);
  if (output.find("AddressSanitizer: heap-use-after-free") != std::string::npos)
    return "is a use after free (AddressSanitizer)";
  return status == 0 ? "is harmless" : "ends with status " + std::to_string(status);
}

void run_peer() {
  std::printf("cancelled after its end %s; our semaphore: %s\n", cancel_late("channel").c_str(),
              cancel_late("semaphore").c_str());
}

const proof::peer channel("shutdown", "concurrent_channel", &run_peer);

} // namespace
