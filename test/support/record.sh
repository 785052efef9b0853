# shellcheck shell=bash
#
# Copyright (c) 2026 The Bulkhead authors
#
# Distributed under the Boost Software License, Version 1.0. (See accompanying
# file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
#

# To be sourced, in the top directory. What a run has shown of a commit is kept in build/record, where
# test/proof/legs.py reads it.

# The commit, and a line for each file that differs from it.
tree() {
  { git rev-parse HEAD && git status --porcelain; } 2>/dev/null || echo "unknown"
}

# record NAME BEFORE PASSED FAILED WITH: BEFORE is what `tree` printed before anything was built.
record() {
  local clean=false
  if [[ $2 =~ ^[0-9a-f]+$ ]] && [ "$2" = "$(tree)" ]; then clean=true; fi
  mkdir -p build/record
  printf '{"commit": "%s", "clean": %s, "date": "%s", "passed": %d, "failed": %d, "with": "%s"}\n' \
    "${2%%$'\n'*}" $clean "$(date -u +%FT%TZ)" "$3" "$4" "$5" >"build/record/$1.json"
}
