#!/usr/bin/env bash
#
# Copyright (c) 2026 The Bulkhead authors
#
# Distributed under the Boost Software License, Version 1.0. (See accompanying
# file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
#

# Installs what Bulkhead's build, tests and examples need and this machine lacks. That is done on
# Debian 12; on another system it says what is needed, and ends with status 2.
#
#   install.sh [PURPOSE]    also what test/bench measures with (bench), test/model checks with
#                           (model), test/reliability needs (proof), or a leg of test/matrix
#                           (clang-16, clang-19, valgrind)

set -euo pipefail

packages=(g++ cmake ninja-build libssl-dev libboost1.81-dev libboost-context1.81-dev
  libboost-program-options1.81-dev libboost-test1.81-dev libboost1.81-tools-dev)
purpose=${1-}
[ "$purpose" != model ] || packages+=(spin)
[ "$purpose" != proof ] || packages+=(python3 clang-16 libclang-rt-16-dev)
[ "$purpose" != valgrind ] || packages+=(valgrind)
[[ $purpose != clang-* ]] ||
  packages+=("$purpose" "libclang-rt-${purpose#clang-}-dev" "llvm-${purpose#clang-}")
[ "$purpose" != bench ] || packages+=(libtbb-dev libconcurrentqueue-dev python3 valgrind)

system=$(. /etc/os-release 2>/dev/null && echo "$ID ${VERSION_ID:-}") || system=$(uname -s)

compile() { "${CXX:-c++}" -std=c++20 -x c++ - "$@" 2>/dev/null; }

# What is missing, one line each; nothing where all is there.
missing() {
  local tool version
  for tool in cmake ninja b2; do command -v $tool >/dev/null || echo "$tool"; done
  if ! compile -fsyntax-only <<<'#include <coroutine>'; then
    echo "a C++20 compiler, g++ 12 or newer"
    echo "Boost 1.81 or newer and OpenSSL's headers, as far as can be told without a compiler"
    return
  fi
  version=$(compile -E -P <<<$'#include <boost/version.hpp>\nBOOST_VERSION' | tail -n 1) || version=0
  if ((version == 0)); then
    echo "Boost 1.81 or newer"
  elif ((version < 108100)); then
    echo "Boost 1.81 or newer (found 1.$((version / 100 % 1000)), which is too old)"
  else
    compile -o /dev/null -lboost_context -lboost_program_options -lboost_unit_test_framework \
      <<<'int main() {}' || echo "Boost's compiled libraries Context, Program_options and Test"
  fi
  compile -o /dev/null -lcrypto <<<$'#include <openssl/evp.h>\nint main() {}' ||
    echo "OpenSSL's headers and libcrypto"
  [ "$purpose" != model ] || command -v spin >/dev/null || echo "spin"
  [ "$purpose" != proof ] || missing_for_proof
  [ "$purpose" != valgrind ] || command -v valgrind >/dev/null || echo "valgrind"
  [[ $purpose != clang-* ]] || missing_for_clang "${purpose#clang-}"
  [ "$purpose" != bench ] || missing_for_bench
}

missing_for_proof() {
  command -v python3 >/dev/null || echo "python3"
  [ "$system" = "debian 12" ] || return 0 # the row that needs what follows is skipped
  CXX=clang++-16 compile -o /dev/null -fsanitize=fuzzer \
    <<<'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' ||
    echo "clang 16 with libFuzzer"
}

missing_for_clang() {
  CXX=clang++-$1 compile -fsanitize=address -o /dev/null <<<'int main() {}' ||
    echo "clang $1 and its sanitizers"
  command -v "llvm-symbolizer-$1" >/dev/null || echo "llvm-symbolizer-$1, which tells them names"
}

missing_for_bench() {
  local tool
  for tool in python3 valgrind; do command -v $tool >/dev/null || echo "$tool"; done
  compile -o /dev/null -ltbb <<<$'#include <tbb/task_group.h>\nint main() {}' || echo "oneTBB"
  compile -fsyntax-only <<<'#include <concurrentqueue/blockingconcurrentqueue.h>' ||
    echo "moodycamel's concurrentqueue"
}

give_up() {
  printf '%s\n' "$@" >&2
  exit 2
}

lacking=$(missing)
[ -n "$lacking" ] || exit 0

if [ "$system" != "debian 12" ]; then
  give_up "Bulkhead's tests and examples need, and this system ($system) lacks:" "$lacking" \
    "Please install that and run this again. Debian 12 has it in the packages" "${packages[*]}"
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null ||
    give_up "There is no sudo here. As root, please run: apt-get install ${packages[*]}"
  as_root=(sudo)
fi
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

echo "Installing for Bulkhead: ${packages[*]}"
apt -qq update
apt -qq -y --no-install-recommends --no-remove install "${packages[@]}" >/dev/null ||
  give_up "apt-get could not install these packages. Boost 1.81 cannot stand beside Debian's default," \
    "libboost-dev or libboost-all-dev, which is 1.74 and too old: where that is installed, please run" \
    "  apt-get remove libboost1.74-dev"

lacking=$(missing)
[ -z "$lacking" ] || give_up "Still missing after the installation:" "$lacking"
