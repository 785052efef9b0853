# shellcheck shell=bash
#
# Copyright (c) 2026 The Bulkhead authors
#
# Distributed under the Boost Software License, Version 1.0. (See accompanying
# file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
#

# To be sourced, in the top directory. What the legs and the models have shown is kept in build/record,
# where test/proof/legs.py reads it; `test/reliability --doc` keeps it in doc/record as well.

# What NAME is made of: a hash of these files, and a line for each that differs from the commit. NAME
# is a leg of test/matrix, or "models".
tree() {
  local of=(. ':!doc' ':!.ci' ':!test/'{bench,proof,reliability,support/{interleave,record.sh}})
  case $1 in
    models) of=(test/model test/support/install.sh) ;;
    *san | valgrind) of+=(':!README.md' ':!example' ':!test/'{model,consume,refused,standalone}) ;;
    *) of+=(':!test/model') ;;
  esac
  {
    git ls-files -s -- "${of[@]}" | git hash-object --stdin &&
      git status --porcelain -- "${of[@]}"
  } 2>/dev/null || echo "unknown"
}

# record NAME BEFORE PASSED FAILED WITH: BEFORE is what `tree NAME` printed before anything was built.
record() {
  local clean=false
  if [[ $2 =~ ^[0-9a-f]+$ ]] && [ "$2" = "$(tree "$1")" ]; then clean=true; fi
  mkdir -p build/record
  printf '{"commit": "%s", "tree": "%s", "clean": %s, "date": "%s", "passed": %d, "failed": %d, "with": "%s"}\n' \
    "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" "${2%%$'\n'*}" $clean \
    "$(date -u +%FT%TZ)" "$3" "$4" "$5" >"build/record/$1.json"
}
