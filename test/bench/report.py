#
# Copyright (c) 2026 The Bulkhead authors
#
# Distributed under the Boost Software License, Version 1.0. (See accompanying
# file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
#

"""Runs the contenders in turn, round after round, and prints medians, ratios and targets.

report.py BENCH [--quick] [--rounds N] [--only REGEX] [--doc]
"""

import argparse
import datetime
import os
import pathlib
import re
import shlex
import statistics
import subprocess
import sys

import svg
from svg import number
from workloads import KNEE, KNEE_RATES, TARGETS, UTILISATIONS, UTILISED, WORKLOADS

DOC = pathlib.Path(__file__).resolve().parents[2] / "doc" / "performance.adoc"
HEADS = ("workload", "contender", "wall or p50, ns", "[min, max]", "p99, ns", "CPU, ns",
         "mallocs", "RSS, MiB", "vs asio", "vs asio(1)", "vs TBB")


class Results:
    """Samples of all rounds: (workload, contender) -> a list of {figure: value}."""

    def __init__(self, bench):
        self.bench, self.samples, self.failures = bench, {}, []
        self.turns = float(self.output("--turns"))

    def output(self, *args):
        done = subprocess.run([self.bench, *args], capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip() or f"status {done.returncode}")
        return done.stdout.strip()

    def measure(self, label, program, contender, args):
        options = [str(x) for name, value in args.items() for x in ("--" + name, value)]
        try:
            line = self.output(program, contender, *options)
        except (RuntimeError, subprocess.TimeoutExpired) as e:
            self.failures.append(f"{label} {contender}: {e}")
            return
        figures = dict(word.split("=") for word in line.split())
        sample = {k: float(v) for k, v in figures.items() if k not in ("workload", "contender")}
        self.samples.setdefault((label, contender), []).append(sample)

    def values(self, label, contender, figure):
        return [s[figure] for s in self.samples.get((label, contender), ()) if figure in s]

    def median(self, label, contender, figure):
        values = self.values(label, contender, figure)
        return statistics.median(values) if values else None

    def typical(self, label, contender, figure):
        """The median over the rounds; of a 99th percentile the least: a host that stops a processor
        for some milliseconds decides that figure, whoever runs."""
        values = self.values(label, contender, figure)
        pick = min if figure == "p99_ns" else statistics.median
        return pick(values) if values else None


class OtherLoad:
    """What other programs take of the processors while ours are measured, in percent."""

    def __init__(self):
        self.start = self.jiffies()

    @staticmethod
    def jiffies():
        user, nice, system, idle, iowait, *rest = map(
            int, pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
        t = os.times()
        ours = t.user + t.system + t.children_user + t.children_system
        busy = user + nice + system + sum(rest)
        return busy, busy + idle + iowait, ours * os.sysconf("SC_CLK_TCK")

    def __str__(self):
        busy, total, ours = (now - then for now, then in zip(self.jiffies(), self.start))
        percent = max(0, 100 * (busy - ours) / max(total, 1))
        warning = ", so nothing here means much" if percent > 10 else ""
        return f"Other programs took {percent:.0f} % of the processors meanwhile{warning}."


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def run_workloads(results, chosen, rounds, quick):
    for n in range(rounds):
        for w in chosen:
            if w.once and n > 0:
                continue
            args = dict(w.quick if quick and w.quick else w.args)
            program = w.program or w.label
            if program == "W5":
                args["turns"] = round(10 * results.turns)
            for contender in w.contenders:
                progress(f"round {n + 1} of {rounds}: {w.label} {contender}")
                results.measure(w.label, program, contender, args)
    progress("")


def run_curves(results, rounds):
    for n in range(rounds):
        progress(f"round {n + 1} of {rounds}: curves")
        for rate in KNEE_RATES:
            for contender in KNEE:
                results.measure(f"knee {rate}", "knee", contender, {"rate": rate})
        for load in UTILISATIONS:
            for contender in UTILISED:
                results.measure(f"queue {load}", "W8", contender, {"load": load, "tasks": 20_000})
    progress("")


def ratio(results, w, contender, others):
    if w.metric == "cpu_percent":
        return None
    mine = results.median(w.label, contender, w.metric)
    theirs = [results.median(w.label, o, w.metric) for o in others if o in w.contenders]
    theirs = [t for t in theirs if t is not None]
    return min(theirs) / mine if theirs and mine else None


def cell(value, form=number):
    return "" if value is None else form(value)


def table_rows(results, chosen):
    for w in chosen:
        for contender in w.contenders:
            values = results.values(w.label, contender, w.metric)
            if not values:
                continue
            median = lambda figure: results.median(w.label, contender, figure)  # noqa: E731
            rss = median("peak_rss_kib")
            yield (
                w.label, contender, number(statistics.median(values)),
                f"[{number(min(values))}, {number(max(values))}]",
                cell(median("p99_ns")), cell(median("cpu_ns")),
                cell(median("mallocs"), lambda v: f"{v:.2f}"), cell(rss and rss / 1024),
                cell(ratio(results, w, contender, w.asio)),
                cell(ratio(results, w, contender, w.asio_1)),
                cell(ratio(results, w, contender, ("tbb_group", "tbb_enqueue"))),
            )


def target_rows(results, chosen):
    by_label = {w.label: w for w in chosen}
    for t in TARGETS:
        w = by_label.get(t.workload)
        if w is None:
            continue
        figure = t.metric or w.metric
        ours = results.typical(t.workload, t.ours, figure)
        if ours is None:
            continue
        what = f"{t.workload} {t.ours}" + (f" {t.metric}" if t.metric else "")
        if t.kind == "value":
            found, floor, moonshot = -ours, -t.floor, -t.moonshot
            show, against = number, figure
        else:
            # "W5 x64" is held against the ideal of W5: two cores do no more with 64 threads.
            label = t.workload if t.theirs[0] in w.contenders else t.workload.split()[0]
            theirs = results.typical(label, t.theirs[0], figure)
            if theirs is None:
                continue
            against = "vs " + t.theirs[0]
            if t.kind == "over":
                found, floor, moonshot = -100 * (ours / theirs - 1), -t.floor, -t.moonshot
                show = lambda v: f"{v:.1f} % over"  # noqa: E731
            else:
                found, floor, moonshot = theirs / ours, t.floor, t.moonshot
                show = lambda v: f"{v:.2f}x"  # noqa: E731
        verdict = ("met moonshot" if found >= moonshot else
                   "met floor" if found >= floor else "MISSED")
        plain = (found, floor, moonshot) if t.kind == "ratio" else (-found, -floor, -moonshot)
        yield (what, against, *("-" if abs(v) == float("inf") else show(v) for v in plain), verdict)


TARGET_HEADS = ("target", "against", "found", "floor", "moonshot", "")


def as_text(heads, rows):
    widths = [max(len(r[i]) for r in [heads, *rows]) for i in range(len(heads))]
    for i, row in enumerate([heads, *rows]):
        if i and row[0] != rows[i - 2][0] and len(heads) > 6:
            print()
        cells = (c.ljust(n) if j < 2 else c.rjust(n) for j, (c, n) in enumerate(zip(row, widths)))
        print("  ".join(cells).rstrip())
    print()


def as_adoc(heads, rows):
    columns = ",".join("<" if i < 2 else ">" for i in range(len(heads)))
    body = "\n".join("".join(f"|{c} " for c in row).rstrip() for row in rows)
    return f'[cols="{columns}",options="header"]\n|===\n' + "".join(f"|{h} " for h in heads) + \
        f"\n\n{body}\n|===\n"


def machine(bench_versions):
    model = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return (f"{model[1] if model else os.uname().machine}, {len(os.sched_getaffinity(0))} cores, "
            f"Linux {os.uname().release}, {bench_versions}, -O3 -march=x86-64-v2")


def plots(results, chosen):
    groups = []
    for w in chosen:
        entries = [(c, ratio(results, w, c, w.asio)) for c in w.contenders
                   if c not in ("asio", "ideal", "std_async")]
        groups.append((w.label, [(c, r) for c, r in entries if r]))
    groups = [g for g in groups if g[1]]
    yield "ratios", svg.bars("How many times faster than Asio", groups)

    def curve(prefix, xs, contender, figure, scale_x, scale_y):
        points = ((x, results.median(f"{prefix} {x}", contender, figure)) for x in xs)
        return [(x * scale_x, y * scale_y) for x, y in points if y is not None]

    yield "knee", svg.lines(
        "Tasks started in time, against tasks offered", "offered, thousand per second",
        "goodput, thousand per second",
        [(c, curve("knee", KNEE_RATES, c, "goodput", 1e-3, 1e-3), False) for c in KNEE])
    yield "delay", svg.lines(
        "Queueing delay against utilisation", "utilisation, percent", "delay, microseconds",
        [(f"{c} {figure[:3]}", curve("queue", UTILISATIONS, c, figure, 100, 1e-3), dashed)
         for c in UTILISED for figure, dashed in (("p50_ns", False), ("p99_ns", True))],
        log_y=True)


def document(results, chosen, rounds, command, others):
    text = [f"""= Performance

Measured on {datetime.date.today():%d %B %Y} by `{command}`, in {rounds} interleaved rounds.

Machine:: {machine(results.output("--versions"))}

Times depend on the machine and on the hour: only ratios within this page say anything. Everything
here is printed by that command, which installs what it needs.
{others}

== How to read it

Each figure is the median of {rounds} runs, with the least and the greatest beside it. A run is a
process of its own, so that its memory is its own; the contenders take turns. Each run warms up,
and checks at its end that every task ran exactly once. Pools have two workers unless the workload
says otherwise. `bulkhead_submit` is the pool as one gets it, bounded to 4096 queued tasks, with a
producer who waits while it is full; the others, except for `bulkhead_try_submit`, are not bounded
at all.

* Wall time is what a user waits for. CPU time, of all threads and with the producer's, is what it
  costs: a pool that spins wins the first and pays in the second.
* `mallocs` counts calls of malloc per task. oneTBB has an allocator of its own, which does not
  show up there.
* The ratios are the other's time divided by this contender's: above 1 is better. In W6 and W7 Asio
  stands for the better of its idioms, on two threads or, as `asio(1)`, on one; in `spawn` for its
  default stacks, `fixedsize`; in W9 for its strand. TBB is the better of its two contenders in that
  workload.

The contenders: `asio` is `asio::thread_pool` with as many threads, `_1` the same with one, which
spares it the contention. `tbb_group` is `tbb::task_group`, whose waiting thread is one of its
workers, so that in W4 the caller mostly runs the task itself; `tbb_enqueue` is
`task_arena::enqueue`. `moodycamel` is a pool made of
`moodycamel::BlockingConcurrentQueue` and `std::function`. `std_async` starts a thread per task and
gets fewer tasks; it has no workers, on which tasks could start others or do I/O, so it is not in W3,
W8 and what follows. `channel` is Asio's experimental `concurrent_channel`, as a semaphore or as a
counter of children; `parallel_group` its `make_parallel_group`. `lane` is `limit_concurrency` with 1,
`strand` `asio::strand`. `_on_asio` and `_on_bulkhead` say
on whose threads something else runs. `fixedsize`, `protected_fixedsize` and `pooled_fixedsize` are
the stack allocators of Boost.Context: from malloc, with a guard page, and reused, without one and on
a single thread only.

== Workloads

"""]
    text += [f"{w.label}:: {w.what}" + f" Figures are per {w.unit}." * bool(w.unit) + "\n"
             for w in chosen]
    text += ["\n== Targets\n\nA ratio says how many times better ours is. It compares medians; of p99 "
             "it compares\nthe quietest rounds, for a host that stops a processor for some milliseconds "
             "decides that figure,\nwhoever runs.\n\n",
             as_adoc(TARGET_HEADS, list(target_rows(results, chosen))),
             "\n== Ratios\n\n",
             "Against Asio on two threads, on a logarithmic scale.\n\n",
             "image::performance-ratios.svg[Bars of the ratios]\n",
             "\n== Figures\n\n",
             as_adoc(HEADS, list(table_rows(results, chosen))), """
In W4 and W8 the third column is the median latency, otherwise it is wall time. In `idle` it is
percent of a core.

== The knee

Tasks of 1 us arrive by themselves, one worker serves them, and a task that starts more than a
millisecond late is of no use. Past its capacity a queue without a bound makes every task late; a
bounded one (512 here) refuses what it cannot serve and keeps serving the rest in time.
`asio_counted` is `asio::thread_pool` with an atomic counter around it that does the same.

image::performance-knee.svg[Goodput against offered load]

== Queueing delay

W8 at other utilisations, from the moment at which the task was meant to arrive. `ideal` is a server
without any overhead: what is above that line is the pool's and the machine's.

image::performance-delay.svg[Delay against utilisation]
"""]
    return "".join(text)


def main():
    parser = argparse.ArgumentParser(prog="test/bench/run")
    parser.add_argument("bench", help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="fewer tasks, nothing is written")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", type=re.compile, help="workloads, a regular expression")
    parser.add_argument("--doc", action="store_true", help="write doc/performance.adoc anyway")
    o = parser.parse_args()

    chosen = [w for w in WORKLOADS if not (o.quick and not w.in_quick)
              and (o.only is None or o.only.search(w.label))]
    writes = o.doc or not (o.quick or o.only)
    results = Results(o.bench)
    others = OtherLoad()
    print(machine(results.output("--versions")))
    print(f"{datetime.date.today()}, median of {o.rounds} interleaved rounds\n")
    run_workloads(results, chosen, o.rounds, o.quick)
    as_text(HEADS, list(table_rows(results, chosen)))
    targets = list(target_rows(results, chosen))
    if targets:
        as_text(TARGET_HEADS, targets)
    print(others)
    if writes:
        run_curves(results, o.rounds)
        DOC.parent.mkdir(exist_ok=True)
        command = shlex.join(["test/bench/run", *sys.argv[2:]])
        DOC.write_text(document(results, chosen, o.rounds, command, others))
        for name, image in plots(results, chosen):
            DOC.with_name(f"performance-{name}.svg").write_text(image)
        print(f"Written: {DOC}")
    for failure in results.failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
