#
# Copyright (c) 2026 The Bulkhead authors
#
# Distributed under the Boost Software License, Version 1.0. (See accompanying
# file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
#

"""Runs each row in a process of its own and prints the table.

table.py BUILD [--quick | --full] [--only REGEX] [--seed N] [--soak-minutes N] [--doc]

A row is an area of the programs `proof` and `proof_memory`, or a program beside this file, which is
called with --quick or --full and --seed N. Each prints as its last line
{"tried": N, "lost": N, "note": "..."}, or {"skipped": "the reason"}, and ends with 0 if nothing was
lost.
"""

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import re
import signal
import subprocess
import sys
import textwrap
import time

import legs

HERE = pathlib.Path(__file__).resolve().parent
DOC = HERE.parents[1] / "doc" / "reliability.adoc"
DOC_HEAD = """\
= Reliability

What `test/reliability` printed. A row is what was tried, how often, how much of it was lost, how long
that took, and when it passes; below it are figures of its own, and what became of others to which the
same was done, each in a process of its own.
"""
BLOCK = re.compile(r"^----\n(.*?)\n----$", re.MULTILINE | re.DOTALL)
# The page's sections, by the word that what they show begins with.
SECTIONS = {"--quick": "Quick", "--full": "Full"}

# The rows that are programs of their own: name, when it passes, and the words to start it with, to
# which the directory of the build is added.
PROGRAMS = (
    ("interleavings", "no schedule breaks a model, each seeded bug is found and replayed",
     [sys.executable, "-B", HERE / "interleavings/table.py"]),
    ("fuzz", "no crash, no divergence", [sys.executable, "-B", HERE / "fuzz.py"]),
    ("soak", "RSS, threads and descriptors flat, p99 drift < 10 %, nothing lost at 70 % load",
     [sys.executable, "-B", HERE / "service.py", "soak"]),
    ("overload", "goodput at 10x >= 90 % of the peak, memory bounded, refusals fast",
     [sys.executable, "-B", HERE / "service.py", "overload"]),
    *legs.rows(),
)

# In this order; what is not named here comes after these. A name may go on after a colon.
ORDER = ("pool", "semaphore", "cancel against grant", "cancel against completion", "executors",
         "interleavings", "spin models", "allocation failure", "thread creation",
         "throwing handlers", "throwing allocators", "throwing factories", "shutdown",
         "re-entrancy", "bad input", "fuzz", "sanitizers", "portability", "soak", "overload")

PEER_LIMIT = 10  # seconds, then it hangs


@dataclasses.dataclass
class Row:
    name: str
    passes_when: str
    command: list
    tried: str = ""
    lost: str = ""
    result: str = ""
    note: str = ""
    seconds: float = 0


def ended(status):
    """What became of a process that did not say so itself."""
    if status >= 0:
        return f"ended with status {status}"
    return f"was ended by {signal.Signals(-status).name}"


def last_json(text):
    lines = text.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else None
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def run(command, limit):
    """The output and the status of a command, with None for one that took longer than `limit`. All
    its descendants end with it."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=limit)
            return output, process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.communicate()[0], None


def attempt(row, limit):
    start = time.monotonic()
    output, status = run(row.command, limit)
    row.seconds = time.monotonic() - start
    said = last_json(output)
    if status is None:
        row.result, row.note = "FAILED", f"hangs: not done in {limit} s"
    elif said is None:
        row.result, row.note = "FAILED", ended(status)
    elif "skipped" in said:
        row.result, row.note = "skipped", said["skipped"]
    else:
        good = status == 0 and said["lost"] == 0 and said["tried"] > 0
        row.result = "passed" if good else "FAILED"
        row.tried, row.lost = f"{said['tried']:,}", f"{said['lost']:,}"
        row.note = said.get("note", "")
    if row.result == "FAILED":
        print(f"-- {row.name}: {row.note}\n{output[-4000:]}", file=sys.stderr, flush=True)


def see(proof, peer):
    """In a few words, what a peer made of the same load or fault."""
    output, status = run([proof, "--peer", peer["area"], peer["name"]], PEER_LIMIT)
    lines = output.strip().splitlines()
    if status is None:
        what = f"hangs ({PEER_LIMIT} s)"
    elif status == 0 and lines:
        what = lines[-1]
    else:
        what = ended(status)
    return f"{peer['name']} {what}"


def listed_by(program):
    return json.loads(subprocess.run([program, "--list"], capture_output=True, check=True).stdout)


def machine():
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    name = " ".join(model[1].split()) if model else platform.machine()
    return f"{len(os.sched_getaffinity(0))} x {name}, Linux {platform.release()}"


def commit():
    return legs.output_of("git", "describe", "--always", "--dirty") or "unknown"


def asked_for(printed):
    """Of what is printed: quick or full, and which rows."""
    line = printed.partition("\n")[0]
    only = re.search(r" --only '(.*)', ", line)
    return line.split()[1], only[1] if only else ""


def write_page(printed):
    """What is printed takes the place of what the page has of the same rows."""
    blocks = {asked_for(b): b for b in BLOCK.findall(DOC.read_text())} if DOC.exists() else {}
    blocks[asked_for(printed)] = printed
    page = DOC_HEAD
    for amount, title in SECTIONS.items():
        shown = [f"\n----\n{b}\n----\n" for (a, _), b in sorted(blocks.items()) if a == amount]
        page += f"\n== {title}\n{''.join(shown)}" if shown else ""
    DOC.write_text(page)


def rank(row):
    name = row.name.partition(":")[0]
    return ORDER.index(name) if name in ORDER else len(ORDER)


def main():
    parser = argparse.ArgumentParser(prog="test/reliability")
    parser.add_argument("build", help=argparse.SUPPRESS)
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--quick", action="store_true", help="what CI has time for, the default")
    amount.add_argument("--full", action="store_true", help="all of it; takes many hours")
    parser.add_argument("--only", metavar="REGEX", help="the rows whose name matches")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--soak-minutes", metavar="N", type=int,
                        help="of load; without it 4, with --full 480")
    parser.add_argument("--doc", action="store_true",
                        help=f"writes doc/{DOC.name} and doc/record as well")
    options = parser.parse_args()
    if options.seed < 0:
        parser.error(f"--seed must be at least 0 (got {options.seed})")
    if options.soak_minutes is not None and options.soak_minutes < 1:
        parser.error(f"--soak-minutes must be at least 1 (got {options.soak_minutes})")

    proof, memory = (f"{options.build}/test/proof/{name}" for name in ("proof", "proof_memory"))
    listed = listed_by(proof)
    # A row that hangs is found by this; the longest take a fraction of it.
    limit = 24 * 3600 if options.full else 600
    words = ["--full"] if options.full else []
    words += ["--seed", str(options.seed)]
    rows = [Row(a["name"], a["passes_when"], [program, a["name"], *words])
            for program, areas in ((proof, listed["areas"]), (memory, listed_by(memory)["areas"]))
            for a in areas]
    rows += [Row(name, when, [*command, options.build, *words]) for name, when, command in PROGRAMS]
    soak = f" --soak-minutes {options.soak_minutes}" if options.soak_minutes else ""
    if soak:
        next(r for r in rows if r.name == "soak").command += ["--minutes", str(options.soak_minutes)]
    rows = sorted((r for r in rows if re.search(options.only or "", r.name)), key=rank)
    if not rows:
        parser.error(f"--only {options.only}: no row has such a name")

    printed = []

    def say(text):
        printed.append(text)
        print(text, flush=True)

    start = time.monotonic()
    only = f" --only '{options.only}'" if options.only else ""
    say(f"test/reliability {'--full' if options.full else '--quick'} --seed {options.seed}{soak}"
        f"{only}, {datetime.date.today()}, commit {commit()}")
    say(f"{listed['built_with']}; {machine()}\n")
    line = "{:<26} {:>14} {:>6} {:>7}  {:<7}  {}"
    say(line.format("area", "tried", "lost", "s", "result", "passes when"))
    for row in rows:
        attempt(row, limit)
        say(line.format(row.name, row.tried or "-", row.lost or "-", f"{row.seconds:.1f}",
                        row.result, row.passes_when))
        remarks = [row.note] if row.note else []
        remarks += [see(proof, p) for p in listed["peers"] if p["area"] == row.name]
        for remark in remarks:
            for part in textwrap.wrap(remark, 90):
                say(f"{'':<28}{part}")
    results = [row.result for row in rows]
    skipped = results.count("skipped")
    say(f"\n{(time.monotonic() - start) / 60:.1f} minutes" +
        (f", {skipped} skipped" if skipped else ""))
    say(f"{results.count('passed')} passed, {results.count('FAILED')} failed")
    if options.doc:
        write_page("\n".join(printed))
        legs.keep()
    return 1 if "FAILED" in results or "passed" not in results else 0


if __name__ == "__main__":
    sys.exit(main())
