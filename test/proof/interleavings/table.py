#
# Copyright (c) 2026 The Bulkhead authors
#
# Distributed under the Boost Software License, Version 1.0. (See accompanying
# file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
#

"""The row "interleavings" of test/reliability.

table.py BUILD [--full] --seed N

Explores every model, sees that the scheduler finds the textbook's mistakes, and that each bug of
bugs.cmake is found by its model and found again by the schedule that was printed.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys

PATIENCE = 20 * 3600  # seconds for one model; the row has a limit of its own


class Program:
    def __init__(self, path):
        self.path = path

    def run(self, *words):
        """Whether it went well, the last line as an object, and all that was printed."""
        done = subprocess.run([self.path, *map(str, words)], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace",
                              timeout=PATIENCE, check=False)
        lines = done.stdout.strip().splitlines() or [""]
        try:
            said = json.loads(lines[-1])
        except json.JSONDecodeError:
            said = {}
        return done.returncode == 0, said, done.stdout

    def models(self):
        return [line.split(":")[0] for line in self.run("--list")[2].splitlines()]


class Result:
    """What came of one model: how many executions, what is to be said, and what was lost."""

    def __init__(self, kind, name):
        self.kind, self.name = kind, name
        self.tried = 0
        self.preemptions = 2  # up to so many, every schedule was tried
        self.complaint = ""


def explore(program, model, amounts, result):
    ok, said, output = program.run(model, *amounts)
    if ok and "searched" in said:
        result.tried = said["searched"] + said["random"]
        result.preemptions = said["preemptions"]
    else:
        result.complaint = output
    return result


def find(program, model, amounts, result):
    """There is a mistake: it must be found, and again by its schedule."""
    ok, said, output = program.run(model, *amounts)
    if ok or not said.get("failed"):
        result.complaint = f"not found: {output}"
        return result
    result.tried = said["executions"]
    again, found, output = program.run("--replay", model, said["schedule"])
    if again or not found.get("failed"):
        result.complaint = f"not found again by {said['schedule']}: {output}"
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()

    here = pathlib.Path(options.build) / "test/proof/interleavings"
    library = Program(here / "proof_interleavings")
    textbook = Program(here / "proof_textbook")
    bugs = [line.split() for line in (here / "bugs.txt").read_text().splitlines()]
    points, random = (10_000_000_000, 1_000_000) if options.full else (30_000_000, 14_000)
    amounts = (points, random, options.seed)
    a_few = (60_000_000, 10_000, options.seed)

    jobs = [(explore, library, m, amounts, Result("model", m)) for m in library.models()]
    for m in textbook.models():
        job = find if m.startswith("wrong_") else explore
        jobs.append((job, textbook, m, a_few, Result("textbook", m)))
    for name, m in bugs:
        jobs.append((find, Program(here / name), m, a_few, Result("bug", name)))
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        results = list(threads.map(lambda job: job[0](*job[1:]), jobs))

    for r in results:
        if r.complaint:
            print(f"-- {r.kind} {r.name}: {r.complaint.strip()}")
    lost = sum(1 for r in results if r.complaint)

    def of(kind, good_only=False):
        return [r for r in results if r.kind == kind and not (good_only and r.complaint)]

    note = f"{len(of('model'))} models, every schedule with at most 2 preemptions"
    for fewer in (1, 0, -1):
        cut = [r.name for r in of("model", True) if r.preemptions == fewer]
        if cut:
            first = f"the first {points:,} points"
            whole = f"{fewer}, and {first} with more" if fewer >= 0 else f"only {first} with none"
            note += f" (but {whole}: {', '.join(cut)})"
    note += f", {random:,} random seeds each"
    note += f"; {len(of('bug', True))} of {len(of('bug'))} seeded bugs found and replayed"
    note += f"; {len(of('textbook', True))} of {len(of('textbook'))} textbook cases told apart"
    print(json.dumps({"tried": sum(r.tried for r in results), "lost": lost, "note": note}))
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
