#
# Copyright (c) 2026 The Bulkhead authors
#
# Distributed under the Boost Software License, Version 1.0. (See accompanying
# file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
#

"""Two rows about example/http_service, under the load of example/load.

service.py soak|overload BUILD [--quick | --full] [--seed N] [--minutes N]

A request is eight digests, made by the pool. Its threads take all processors but one, which is for
the connections and for the load.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import math
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

POOL_THREADS = max(1, len(os.sched_getaffinity(0)) - 1)
CONNECTIONS = 900  # that the service takes at one time
LONGEST_DRIFT = .10  # of the p99
LEAST_GOODPUT = .90  # at 10x, of the peak
MIB = 1 << 20


class Failure(Exception):
    """Something ended that should not have."""


class Undecided(Exception):
    """Nothing was lost, but what was measured does not tell on which side of a bound it is."""


class Losses:
    """What was not as it ought to be, printed as it is found."""

    def __init__(self):
        self.count = 0

    def expect(self, good, what, count=1):
        if not good:
            self.count += count
            print(f"lost: {what}")


@dataclasses.dataclass
class Sample:
    rss: int
    threads: int
    descriptors: int
    connections: int


class Service:
    """The process, and what the system says of it."""

    def __init__(self, build, seed):
        self.build = pathlib.Path(build)
        self.seed = seed
        self.asked = 0  # requests of our own
        self.results = []
        command = [self.build / "example/http_service", "--port", "0",
                   "--pool-threads", str(POOL_THREADS), "--max-connections", str(CONNECTIONS)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            raise Failure("http_service did not start")
        self.port = int(line.rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def status(self, field):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{field}:\s+(\d+)", text, re.MULTILINE)[1])

    def peak_memory(self):
        return self.status("VmHWM") * 1024

    def connections(self):
        """The clients' ends that are open, so not those the service may have forgotten to close."""
        port = f":{self.port:04X}"
        rows = [row.split() for row in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(row[2].endswith(port) and row[3] == "01" for row in rows)

    def sample(self):
        return Sample(self.status("VmRSS") * 1024, self.status("Threads"),
                      len(os.listdir(f"/proc/{self.process.pid}/fd")), self.connections())

    def load(self, *words, watch=None, seed=None):
        """What the load generator counted. `watch` is called once a second."""
        command = [self.build / "example/load", "--port", str(self.port),
                   "--seed", str(self.seed if seed is None else seed),
                   "--tasks", "8", "--json", *map(str, words)]
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as progress:
            with subprocess.Popen(command, stdout=output, stderr=progress) as generator:
                try:
                    due = time.monotonic()
                    while generator.poll() is None:
                        if watch:
                            watch()
                        due += 1
                        try:
                            generator.wait(timeout=max(0, due - time.monotonic()))
                        except subprocess.TimeoutExpired:
                            pass
                finally:
                    generator.kill()
            output.seek(0)
            lines = output.read().splitlines()
            if generator.returncode not in (0, 1) or not lines:
                progress.seek(0)
                raise Failure(f"the load ended with status {generator.returncode}: "
                              f"{progress.read()[-500:]}")
        if self.process.poll() is not None:
            raise Failure(f"http_service ended with status {self.process.returncode}")
        result = json.loads(lines[-1])
        self.results.append(result)
        return result

    def statistics(self):
        self.asked += 1
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats", timeout=10) as answer:
            return json.load(answer)

    def total(self, field):
        return sum(result[field] for result in self.results)

    def account(self, losses):
        """Ends the service and compares its word with that of its clients."""
        end = time.monotonic() + 10
        at_rest = False
        while not at_rest and time.monotonic() < end:  # what a 504 gave up may still be running
            said = self.statistics()
            pool, admission = said["pool"], said["admission"]
            at_rest = pool["running"] == pool["queued"] == pool["waiting"] == 0
        losses.expect(at_rest, f"the pool does not come to rest: {pool}")
        ends = ("completed", "failed", "rejected", "cancelled")
        losses.expect(pool["submitted"] == sum(pool[e] for e in ends), f"tasks are missing: {pool}")
        losses.expect(admission["in_use"] == admission["waiting"] == 0,
                      f"permits were not given back: {admission}")

        self.process.send_signal(signal.SIGTERM)
        said, _ = self.process.communicate(timeout=60)
        losses.expect(self.process.returncode == 0, f"status {self.process.returncode} at SIGTERM")
        words = re.search(r": (\d+) accepted, (\d+) answered, (\d+) abandoned", said)
        accepted, answered, abandoned = map(int, words.groups()) if words else (0, 0, 0)

        sent, received = self.total("sent"), self.total("answered")
        counted = sum(self.total(f) for f in ("ok", "unavailable", "timed_out"))
        losses.expect(self.total("offered") == sent == counted,
                      f"{self.total('offered')} requests, {sent} sent, {counted} answers",
                      self.total("offered") - counted or 1)
        losses.expect(received == counted, f"{received - counted} other answers")
        losses.expect(accepted == answered == received + self.asked and abandoned == 0,
                      f"the service says {accepted} accepted, {answered} answered, {abandoned} "
                      f"abandoned, the clients received {received} and {self.asked}")
        for field in ("wrong", "unasked"):
            losses.expect(self.total(field) == 0, f"{self.total(field)} answers {field}",
                          self.total(field))


def capacity(service, size, seconds):
    """200s per second, at most: so many that send back to back find it."""
    found = service.load("--bytes", size, "--closed-loop", 8 * POOL_THREADS, "--seconds", seconds)
    if found["ok_per_second"] < 2:
        raise Failure(f"a capacity of {found['ok_per_second']:.1f} requests per second")
    return found["ok_per_second"]


def peak_with_all_connections(service, size):
    """The most memory that it has had, then."""
    service.load("--bytes", size, "--closed-loop", CONNECTIONS, "--seconds", 1)
    return service.peak_memory()


def quarters(values):
    """The medians of the first and of the last quarter."""
    n = max(1, len(values) // 4)
    return statistics.median(values[:n]), statistics.median(values[-n:])


def flat(pair):
    """Of two amounts of memory."""
    return pair[1] - pair[0] < max(MIB, .02 * pair[0])


def change(pair):
    return pair[1] / pair[0] - 1


def settled(values, bound):
    """Whether it is known on which side of the bound their median is: by the sign test, at 2 %."""
    n = len(values)
    fewer = sum(v < bound for v in values)
    fewer = min(fewer, n - fewer)
    return sum(math.comb(n, i) for i in range(fewer + 1)) / 2 ** (n - 1) < .02


def ageing(old, fresh, size, rate, most, seconds):
    """How much longer the p99 of a service is than that of a fresh one beside it, each with half of the
    load. Whatever else happens on the machine happens to both; and as arrivals that come in bursts make
    as much of a difference as is looked for, each has those of the other in the second half of a
    pair. The median of the pairs, for while the machine is so slow that the load is too much, a p99 says
    nothing; and of so many that this can be said of the median, but of `most` at most. And whether it is
    known on which side of LONGEST_DRIFT that is."""
    words = ("--bytes", size, "--rate", max(1, round(rate / 2)), "--seconds", seconds)
    ratios = []
    with concurrent.futures.ThreadPoolExecutor() as threads:
        while len(ratios) < most and not settled(ratios, 1 + LONGEST_DRIFT):
            seeds = [old.seed + 2 * len(ratios), old.seed + 2 * len(ratios) + 1]
            product = 1
            for _ in range(2):
                runs = [threads.submit(service.load, *words, seed=seed)
                        for service, seed in zip((old, fresh), seeds)]
                p99 = [run.result()["p99_ms"] for run in runs]
                product *= p99[0] / p99[1]
                seeds.reverse()
            ratios.append(math.sqrt(product))
    print("p99 of the old service to that of the fresh one:", *(f"{r:.2f}" for r in ratios))
    return statistics.median(ratios) - 1, settled(ratios, 1 + LONGEST_DRIFT)


def soak(options, losses):
    size = 32 * 1024
    window, part, minutes = (60, 600, 480) if options.full else (5, 40, 4)
    parts = math.ceil(60 * (options.minutes or minutes) / part)
    seconds = part * parts
    pairs, half = 21, 60 if options.full else 5
    warm_up = seconds // 10
    with Service(options.build, options.seed) as service:
        at_rest = service.sample()
        samples, rates, results = [], [], []
        for _ in range(parts):  # a machine that is slower for some minutes has less than 70 % then
            rate = max(1, round(.7 * capacity(service, size, 4)))
            rates.append(rate)
            results.append(service.load("--bytes", size, "--rate", rate, "--seconds", part,
                                        "--window", window,
                                        "--verify-every", 10_000 if options.full else 100,
                                        watch=lambda: samples.append(service.sample())))
        with Service(options.build, options.seed) as fresh:
            capacity(fresh, size, 2)
            drift, known = ageing(service, fresh, size, rate, pairs, half)
            peaks = [peak_with_all_connections(s, size) for s in (fresh, service)]
            fresh.account(losses)
        end = time.monotonic() + 10
        while ((after := service.sample()).descriptors != at_rest.descriptors and
               time.monotonic() < end):
            time.sleep(.1)
        service.account(losses)

    samples = samples[warm_up:seconds]
    windows = [w for r in results for w in r["windows"] if w["offered"]][warm_up // window:]

    # A connection is a descriptor, and clients come and go.
    rss = quarters([s.rss for s in samples])
    threads = {s.threads for s in samples}
    others = quarters([s.descriptors - s.connections for s in samples])
    # RSS is also more since there were more connections at one time than ever before, which is what a
    # machine does that stops for a moment. Memory that was lost is more than that of all connections.
    losses.expect(flat(rss) or flat(peaks),
                  f"RSS went from {rss[0]:,.0f} to {rss[1]:,.0f} bytes, and with {CONNECTIONS} "
                  f"connections to {peaks[1]:,.0f}, but that of a fresh service to {peaks[0]:,.0f}")
    losses.expect(threads == {at_rest.threads}, f"{at_rest.threads} threads, then {threads}")
    losses.expect(others[0] == others[1] and after.descriptors == at_rest.descriptors,
                  f"descriptors beside connections: {others[0]}, then {others[1]}; "
                  f"{at_rest.descriptors} before, {after.descriptors} after")
    losses.expect(drift < LONGEST_DRIFT or not known,
                  f"p99 is {drift:.1%} longer than that of a fresh service")

    p99s = [w["p99_ms"] for w in windows]
    print("p99 of each window, in ms:", *(f"{p:.2f}" for p in p99s))
    p99 = quarters(p99s)
    refused, late = (sum(r[field] for r in results) for field in ("unavailable", "timed_out"))
    note = (f"{min(rates)} to {max(rates)} requests/s for {seconds} s, {POOL_THREADS} pool threads; "
            f"RSS {rss[0] / MIB:.2f}, then {rss[1] / MIB:.2f} MiB, with {CONNECTIONS} connections "
            f"{peaks[1] / MIB:.2f}, of a fresh service {peaks[0] / MIB:.2f}; "
            f"{at_rest.threads} threads; {at_rest.descriptors} descriptors beside connections; "
            f"p99 beside a fresh service {drift:+.1%}; "
            f"p99 of {window} s: {p99[0]:.2f}, in the end {p99[1]:.2f} ms ({change(p99):+.1%}), "
            f"which is the machine's drift, too; 503: {refused}, 504: {late}")
    if drift >= LONGEST_DRIFT and losses.count == 0:
        raise Undecided(f"{pairs} pairs of p99 do not tell whether the drift is {LONGEST_DRIFT:.0%} "
                        f"here (sign test, 2 %); all else passed: {note}")
    return service, note


def overload(options, losses):
    # Much work per request, so that refusing one costs next to nothing beside doing one. Otherwise
    # the load that comes in is limited by what makes it, and that shares our processors.
    size = 512 * 1024
    factors = (1, 2, 5, 10)
    fewest, most, seconds = (60, 60, 10) if options.full else (12, 48, 1)
    with Service(options.build, options.seed) as service:
        base = capacity(service, size, 4)
        with_all_connections = peak_with_all_connections(service, size)
        runs = {f: [] for f in factors}
        kept = []
        while len(kept) < fewest or (len(kept) < most and not settled(kept, LEAST_GOODPUT)):
            # In turn, so that a slow time of the machine meets all of them, and there and back, so
            # that one that goes on getting slower does.
            for f in factors if len(kept) % 2 == 0 else factors[::-1]:
                runs[f].append(service.load("--bytes", size, "--rate", round(f * base),
                                            "--seconds", seconds, "--max-connections", 20_000))
            goodput = {f: [r["in_time_per_second"] for r in runs[f]] for f in factors}
            medians = {f: statistics.median(goodput[f]) for f in factors}
            best = max(factors, key=medians.get)
            # Within a round, as a machine may be slower in one than in another.
            kept = [g / max(b, 1) for g, b in zip(goodput[10], goodput[best])]
        ever = service.peak_memory()
        service.account(losses)

    for f in factors:
        print(f"goodput at {f}x:", *(f"{g:.0f}" for g in goodput[f]))
    at_10x = statistics.median(kept)
    losses.expect(at_10x >= LEAST_GOODPUT, f"goodput at 10x is {at_10x:.1%} of that at {best}x")

    # What is admitted is bounded, connections are, and a refusal leaves nothing behind.
    losses.expect(ever <= 1.25 * with_all_connections,
                  f"memory: {with_all_connections:,} bytes with {CONNECTIONS} connections, "
                  f"in the end {ever:,}")

    # Whoever is refused knows that long before it would have had an answer.
    refused = statistics.median(r["unavailable_p99_ms"] for r in runs[10])
    accepted = statistics.median(r["p50_ms"] for r in runs[10])
    losses.expect(all(r["unavailable"] > 0 for r in runs[10]), "nothing was refused at 10x")
    losses.expect(refused < accepted, f"refusals at 10x: p99 {refused:.1f} ms, "
                  f"answers: p50 {accepted:.1f} ms")
    each = ", ".join(f"{f}x {medians[f]:.0f}" for f in factors)
    note = (f"capacity {base:.0f} requests/s, {POOL_THREADS} pool threads; "
            f"goodput {each}/s: at 10x {at_10x:.1%} of the peak in {len(kept)} rounds; "
            f"peak RSS {with_all_connections / MIB:.1f} MiB with {CONNECTIONS} connections, "
            f"{ever / MIB:.1f} in the end; "
            f"503 at 10x: p99 {refused:.1f} ms, 200: p50 {accepted:.1f} ms")
    return service, note


class Others:
    """How much of the processors went to anything but this process and those that it has ended."""

    def __init__(self):
        self.start, self.before = time.monotonic(), self.busy()

    @staticmethod
    def busy():
        ticks = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
        user, nice, system, _, _, irq, softirq, steal = map(int, ticks)
        everyone = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        return everyone - sum(os.times()[:4])

    def share(self):
        spent = (time.monotonic() - self.start) * os.cpu_count()
        return max(0, self.busy() - self.before) / spent


def main():
    rows = {"soak": soak, "overload": overload}
    parser = argparse.ArgumentParser()
    parser.add_argument("row", choices=rows)
    parser.add_argument("build")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--quick", action="store_true")
    amount.add_argument("--full", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=int, help="of load, for the soak")
    options = parser.parse_args()

    losses = Losses()
    others = Others()
    try:
        service, note = rows[options.row](options, losses)
    except Undecided as e:
        print(json.dumps({"skipped": str(e)}))
        return 0
    except Failure as e:
        print(f"{options.row}: {e}")
        return 1
    note += f"; other processes took {others.share():.0%} of the processors"
    print(json.dumps({"tried": service.total("offered"), "lost": losses.count, "note": note}))
    return 0 if losses.count == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
