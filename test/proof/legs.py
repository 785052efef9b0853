#
# Copyright (c) 2026 The Bulkhead authors
#
# Distributed under the Boost Software License, Version 1.0. (See accompanying
# file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
#

"""The rows that run elsewhere: the legs of test/matrix, and the models.

legs.py LEG BUILD [--full] [--seed N]
legs.py --keep             brings what build/record says of what is checked out here to doc/record

With --full a row runs its leg. Without, it reports what build/record or doc/record says that the leg
has shown of the very files that it is made of, and is skipped where there is no such record.
"""

import json
import pathlib
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
MATRIX = "test/matrix"


def output_of(*command):
    """What it prints; nothing, if there is no such program here."""
    try:
        done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


NAMES = ["models", *(line.split()[0] for line in output_of(MATRIX, "--list").splitlines())]


def row(leg):
    watched = leg.endswith("san") or leg == "valgrind"
    return (("sanitizers: " if watched else "portability: ") + leg,
            "no reports" if watched else "all tests pass",
            [sys.executable, "-B", __file__, leg])


def rows():
    models = ("spin models", "no errors; each seeded bug caught",
              [sys.executable, "-B", __file__, "models"])
    return [models, *(row(leg) for leg in NAMES if leg != "models")]


def tree(leg):
    """As it is in records."""
    return output_of("bash", "-c", f". test/support/record.sh; tree {leg}")


def records(leg):
    """What is kept of it, the newest first."""
    files = (TOP / where / f"{leg}.json" for where in ("build/record", "doc/record"))
    found = [json.loads(file.read_text()) for file in files if file.exists()]
    return sorted(found, key=lambda record: record["date"], reverse=True)


def of_this_tree(leg):
    """The newest record of what is checked out here, or None."""
    here = tree(leg)
    return next((r for r in records(leg) if r["clean"] and r["tree"] == here), None)


def keep():
    """What is recorded of this tree is to be committed."""
    kept = TOP / "doc/record"
    kept.mkdir(exist_ok=True)
    for leg in NAMES:
        found = of_this_tree(leg)
        if found:
            (kept / f"{leg}.json").write_text(json.dumps(found) + "\n")


def show(found):
    print(json.dumps({"tried": found["passed"] + found["failed"], "lost": found["failed"],
                      "note": f"{found['with']}; run at {found['date']}, commit {found['commit']}"}))
    return 0 if found["failed"] == 0 else 1


def run(leg, command, cannot_run):
    """Runs it, and shows what this run has recorded."""
    (TOP / f"build/record/{leg}.json").unlink(missing_ok=True)
    with subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace") as process:
        lines = []
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode == cannot_run:
        reasons = [s.split(": ", 1)[1] for s in lines if s.startswith(f"{leg} skipped: ")] or lines
        print(json.dumps({"skipped": " ".join(s.strip() for s in reasons)}))
        return 0
    found = records(leg)
    return show(found[0]) if found else 1


def report(leg, command):
    """Shows what was recorded of what is checked out here."""
    found = of_this_tree(leg)
    if found:
        return show(found)
    why = "not run for these files" if records(leg) else "not run yet"
    print(json.dumps({"skipped": f"{why}; --full does, or {' '.join(command)}"}))
    return 0


def main():
    leg = sys.argv[1]
    if leg == "--keep":
        keep()
        return 0
    command, cannot_run = (["test/model/run"], 2) if leg == "models" else ([MATRIX, leg], 77)
    return run(leg, command, cannot_run) if "--full" in sys.argv else report(leg, command)


if __name__ == "__main__":
    sys.exit(main())
