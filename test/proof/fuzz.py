#
# Copyright (c) 2026 The Bulkhead authors
#
# Distributed under the Boost Software License, Version 1.0. (See accompanying
# file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
#

"""Builds the targets of test/fuzz with libFuzzer and looks for inputs that they do not survive.

fuzz.py BUILD [--quick | --full] [--seed N] [--only REGEX]   a row of table.py; BUILD is not used
fuzz.py BUILD --keep        adds what --full has found to the corpus, and drops what adds nothing

Quick, each target has so many executions, which are the same for the same seed; full, an hour. What
--full finds on its way stays in build/fuzz/grown for the next time. An input that a target does not
survive stays in build/fuzz/found: give it to the target to see what happens, with BULKHEAD_TRACE=1 to
see every operation.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CORPUS = ROOT / "test/fuzz/corpus"
BUILD = ROOT / "build/fuzz"
COMPILER = "clang++-16"

# How many executions are quick: about five seconds of each.
QUICK = {
    "adaptors": 4_000,
    "fair_queue": 10_000,
    "keyed": 6_000,
    "lanes": 6_000,
    "recycling_stack": 6_000,
    "run_queue": 1_500,
    "semaphore": 8_000,
    "sizing": 60_000,
    "task_group": 4_000,
    "tenants": 10_000,
}
FULL_SECONDS = 3600
LONGEST = 400  # bytes of an input


def build():
    """Why that is impossible, or nothing."""
    if not shutil.which(COMPILER):
        return f"there is no {COMPILER}"
    probe = subprocess.run([COMPILER, "-fsanitize=fuzzer", "-x", "c++", "-", "-o", os.devnull],
                           input='extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long)'
                                 " { return 0; }",
                           capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        return f"{COMPILER} has no libFuzzer: that is in libclang-rt-16-dev"
    subprocess.run(["cmake", "--preset", "fuzz"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", "--preset", "fuzz", "-j", str(os.cpu_count())], cwd=ROOT,
                   check=True)
    return None


def empty(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def unpack(target):
    folder = empty(BUILD / "corpus" / target)
    for i, line in enumerate((CORPUS / target).read_text().split("\n")[:-1]):
        (folder / f"{i:04}").write_bytes(bytes.fromhex(line))
    return folder


def start(target, *words):
    """The output and the status of a target."""
    done = subprocess.run([BUILD / "test/fuzz" / f"fuzz_{target}", *words], cwd=BUILD,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", check=False)
    return done.stdout, done.returncode


def attempt(target, full, seed):
    """Executions, crashes, coverage."""
    found = BUILD / "found" / target
    found.mkdir(parents=True, exist_ok=True)
    if full:
        grown = BUILD / "grown" / target
        grown.mkdir(parents=True, exist_ok=True)
        amount = f"-max_total_time={FULL_SECONDS}"
    else:
        grown = empty(BUILD / "new" / target)
        amount = f"-runs={QUICK[target]}"
    output, status = start(target, amount, f"-seed={seed + 1}", f"-max_len={LONGEST}",
                           "-len_control=0", "-timeout=60", "-rss_limit_mb=4096", "-print_final_stats=1",
                           f"-artifact_prefix={found}/", grown, unpack(target))
    tried = re.search(r"number_of_executed_units: (\d+)", output)
    covered = re.findall(r"\bcov: (\d+)", output)
    lost = 0 if status == 0 and tried else 1
    if lost:
        print(f"-- {target}: ended with status {status}\n{output[-3000:]}", flush=True)
    return int(tried[1]) if tried else 0, lost, int(covered[-1]) if covered else 0


def keep(target):
    """Packs the least of all inputs that together cover as much."""
    merged = empty(BUILD / "merged" / target)
    grown = BUILD / "grown" / target
    grown.mkdir(parents=True, exist_ok=True)
    kept = [unpack(target)] if (CORPUS / target).exists() else []
    output, status = start(target, "-merge=1", "-use_counters=0", f"-max_len={LONGEST}", merged,
                           *kept, grown)
    if status != 0:
        sys.exit(output[-3000:])
    inputs = sorted((f.read_bytes() for f in merged.iterdir()), key=lambda b: (len(b), b))
    (CORPUS / target).write_text("".join(f"{b.hex()}\n" for b in inputs))
    print(f"{target}: {len(inputs)} inputs, {sum(map(len, inputs))} bytes")


def main():
    parser = argparse.ArgumentParser(prog="fuzz.py")
    parser.add_argument("build", help=argparse.SUPPRESS)
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--quick", action="store_true")
    amount.add_argument("--full", action="store_true")
    amount.add_argument("--keep", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", metavar="REGEX")
    options = parser.parse_args()

    reason = build()
    if reason:
        print(json.dumps({"skipped": reason}))
        return 0
    targets = [t for t in sorted(QUICK) if re.search(options.only, t)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        if options.keep:
            list(threads.map(keep, targets))
            return 0
        results = list(threads.map(lambda t: attempt(t, options.full, options.seed), targets))
    tried, lost = sum(r[0] for r in results), sum(r[1] for r in results)
    note = ", ".join(f"{t} {r[2]}" for t, r in zip(targets, results))
    print(json.dumps({"tried": tried, "lost": lost, "note": f"edges covered: {note}"}))
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
