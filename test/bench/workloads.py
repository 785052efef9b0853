#
# Copyright (c) 2026 The Bulkhead authors
#
# Distributed under the Boost Software License, Version 1.0. (See accompanying
# file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
#

"""What is measured, with what, and what is hoped for."""

from dataclasses import dataclass, field

POOLS = ("bulkhead_submit", "bulkhead_post", "asio", "tbb_group", "tbb_enqueue", "moodycamel")
TRIPS = POOLS + ("std_async",)
OUTSIDE = ("bulkhead_submit", "bulkhead_try_submit") + TRIPS[1:]


@dataclass(frozen=True)
class Workload:
    label: str  # as printed; unique
    what: str
    contenders: tuple
    program: str = ""  # the workload's name in the program, where it is not the label
    metric: str = "wall_ns"
    args: dict = field(default_factory=dict)
    quick: dict = field(default_factory=dict)  # other args for --quick
    unit: str = "task"
    once: bool = False  # one round is enough
    in_quick: bool = True
    asio: tuple = ("asio",)  # what the ratios are against: Asio on as many threads,
    asio_1: tuple = ("asio_1",)  # and on one


# What Asio has in place of a semaphore or a group.
IDIOMS = {"asio": ("channel", "parallel_group"), "asio_1": ("channel_1", "parallel_group_1")}
FEWER = {"tasks": 200_000}
W8 = ("ideal", "bulkhead_submit", "bulkhead_post", "asio", "tbb_enqueue", "moodycamel")
GROUPS = ("bulkhead", "bulkhead_on_asio", "parallel_group", "parallel_group_1", "channel",
          "channel_1")
GROUPS_A = GROUPS[:1] + ("bulkhead_functions",) + GROUPS[1:]
GROUPS_B = tuple(c for c in GROUPS_A if "parallel" not in c)
IO = ("bulkhead", "asio", "asio_1")
STRANDS = ("lane", "strand_on_bulkhead", "lane_on_asio", "strand")
STACKS = ("recycling_stack", "fixedsize", "protected_fixedsize", "recycling_stack_1", "fixedsize_1",
          "pooled_fixedsize_1")
DEFAULT_STACK = {"asio": ("fixedsize",), "asio_1": ("fixedsize_1",)}

WORKLOADS = (
    Workload("W1p", "One thread outside the pool queues a million tasks that do nothing but count, "
             "each worker for itself.", OUTSIDE, quick=FEWER),
    Workload("W1", "The same, all counting in one shared atomic.", OUTSIDE, in_quick=False),
    Workload("W2p", "W1p from four threads.", OUTSIDE, quick=FEWER),
    Workload("W2", "W1 from four threads.", OUTSIDE, in_quick=False),
    Workload("W3p", "One task queues two more, and so on: a million tasks from inside the pool.",
             POOLS[:2] + ("bulkhead_post_lifo",) + POOLS[2:], quick=FEWER),
    Workload("W3", "The same, all counting in one shared atomic.",
             POOLS[:2] + ("bulkhead_post_lifo",) + POOLS[2:], in_quick=False),
    Workload("W4s", "One task at a time, there and back, while the caller spins.", TRIPS,
             metric="p50_ns", quick={"tasks": 5_000}),
    Workload("W4b", "The same, with a caller who blocks on a std::binary_semaphore.", TRIPS,
             metric="p50_ns", quick={"tasks": 1_000}),
    Workload("W4g", "W4s with a gap of 200 us before each task, in which the workers fall asleep.",
             TRIPS, metric="p50_ns", quick={"tasks": 300}),
    Workload("W5", "Tasks of 10 us. 'ideal' does the same work in a bare loop per thread.",
             ("ideal", "bulkhead_submit") + TRIPS[2:], quick={"tasks": 20_000}),
    Workload("W5 x64", "W5 with 64 workers.",
             ("bulkhead_submit", "asio", "tbb_enqueue", "moodycamel"), program="W5",
             args={"threads": 64}, quick={"threads": 64, "tasks": 20_000}),
    Workload("W6u", "A coroutine acquires and releases a semaphore that nobody else wants.",
             ("bulkhead", "bulkhead_on_asio", "channel", "channel_1"), unit="acquisition",
             **IDIOMS, quick={"tasks": 200_000}),
    Workload("W6c", "64 coroutines want a semaphore of 4; a holder gives way once.",
             ("bulkhead", "bulkhead_on_asio", "channel_on_bulkhead", "channel", "channel_1"),
             unit="acquisition", **IDIOMS, quick={"tasks": 60_000}),
    Workload("W7a", "A coroutine starts ten children that do nothing, and waits for them.",
             GROUPS_A, unit="group", **IDIOMS, quick={"tasks": 5_000}),
    Workload("W7c", "W7a with children that give way once.", GROUPS, unit="group",
             args={"tasks": 20_000}, **IDIOMS, quick={"tasks": 5_000}),
    Workload("W7b", "A coroutine starts 100,000 children, at most 64 in flight.", GROUPS_B,
             unit="child", **IDIOMS, quick={"tasks": 50_000}),
    Workload("W8 50 %", "Open loop, one worker: tasks of 10 us arrive by themselves (Poisson) and "
             "keep it busy half of the time. Delay from intended arrival to start. 'ideal' is a "
             "server that costs nothing.", W8, program="W8", metric="p50_ns",
             args={"load": 0.5}, quick={"load": 0.5, "tasks": 8_000}),
    Workload("W8 80 %", "The same at 80 %.", W8, program="W8", metric="p50_ns",
             args={"load": 0.8}, quick={"load": 0.8, "tasks": 8_000}),
    Workload("W2k", "W2p into one lane with as many in flight as there are workers, and into 16 shards "
             "by a key, with one each.", ("one_lane", "shards"), quick=FEWER),
    Workload("W9o", "One thread posts a million tasks that do nothing but count to a lane of "
             "concurrency 1, or to Asio's strand.", STRANDS, asio=("strand",), quick=FEWER),
    Workload("W9i", "W3p through a lane of concurrency 1, or Asio's strand.", STRANDS,
             asio=("strand",), quick=FEWER),
    Workload("echo", "64 bytes over loopback TCP and back; client and server are coroutines on the "
             "pool.", IO, unit="round trip", quick={"tasks": 5_000}),
    Workload("timer", "A coroutine waits for a timer of 1 us.", IO, unit="expiry",
             quick={"tasks": 5_000}),
    Workload("spawn", "Stackful coroutines one after another on our pool, each of which gives way once: "
             "asio::spawn with the stack allocator named.", STACKS, unit="coroutine",
             **DEFAULT_STACK, quick={"tasks": 50_000}),
    Workload("spawn x64", "The same, 64 at a time.", STACKS, program="spawn", unit="coroutine",
             args={"chains": 64}, **DEFAULT_STACK, quick={"chains": 64, "tasks": 50_000}),
    Workload("idle", "CPU that a pool uses which has worked and is out of work, in percent of a "
             "core.", ("bulkhead_submit", "asio", "tbb_enqueue", "moodycamel"),
             metric="cpu_percent", unit="", quick={"seconds": 1}, once=True),
)

KNEE_RATES = (200_000, 400_000, 600_000, 700_000, 800_000, 900_000, 1_000_000, 1_200_000, 1_600_000)
KNEE = ("bulkhead_try_submit", "asio_counted", "asio")
UTILISATIONS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
UTILISED = ("bulkhead_submit", "asio", "ideal")


@dataclass(frozen=True)
class Target:
    """`ours` against the best of `theirs`; floor and moonshot are how many times better."""

    workload: str
    theirs: tuple
    floor: float
    moonshot: float
    ours: str = "bulkhead_submit"
    metric: str = ""  # the workload's, unless said
    kind: str = "ratio"  # or "over": percent over theirs; or "value": ours alone, not above


TARGETS = (
    Target("W1p", ("asio",), 8, 15),
    Target("W1p", ("tbb_enqueue",), 7, 13),
    Target("W2p", ("asio",), 4, 8),
    Target("W2p", ("tbb_group",), 3, 6),
    Target("W3p", ("asio",), 10, 25),
    Target("W3p", ("asio",), 10, 25, ours="bulkhead_post"),
    Target("W3p", ("tbb_group",), 3, 7),
    Target("W3p", ("tbb_group",), 3, 7, ours="bulkhead_post"),
    Target("W4s", ("asio",), 20, 60),
    Target("W4b", ("asio",), 1, 1),
    Target("W4b", (), float("inf"), 3_000, kind="value"),
    Target("W4g", ("asio",), 1, 1),
    Target("W5", ("ideal",), 6, 2, kind="over"),
    Target("W5 x64", ("ideal",), 10, 10, kind="over"),
    Target("W6u", ("channel",), 4, 5, ours="bulkhead"),
    Target("W6c", ("channel",), 3, 5, ours="bulkhead"),
    Target("W7a", ("parallel_group",), 5, 12, ours="bulkhead"),
    Target("W7a", ("channel",), 3, 8, ours="bulkhead"),
    Target("W7b", ("channel",), 1.6, 3, ours="bulkhead"),
    Target("W2k", ("one_lane",), 1, 1, ours="shards"),
    Target("W9o", ("strand",), 1, 1, ours="lane_on_asio"),
    Target("W9o", ("strand_on_bulkhead",), 1, 1, ours="lane"),
    Target("W9i", ("strand",), 1, 1, ours="lane_on_asio"),
    Target("W9i", ("strand_on_bulkhead",), 1, 1, ours="lane"),
    Target("echo", ("asio",), 1, 2.5, ours="bulkhead"),
    Target("timer", ("asio",), 1, 1, ours="bulkhead"),
    Target("spawn x64", ("fixedsize",), 1, 1.25, ours="recycling_stack"),
    Target("spawn x64", ("protected_fixedsize",), 10, 30, ours="recycling_stack"),
    Target("W8 50 %", ("asio",), 1, 1.25),
    Target("W8 50 %", ("asio",), 1, 1.25, metric="p99_ns"),
    Target("W8 80 %", ("asio",), 1, 1.25),
    Target("W8 80 %", ("asio",), 1, 1.25, metric="p99_ns"),
    Target("W1p", (), 0.005, 0.005, metric="mallocs", kind="value"),
    Target("W3p", (), 0.005, 0.005, metric="mallocs", kind="value"),
    # A function has no frame: what it costs is what any child costs beyond that.
    Target("W7b", (), 0.005, 0.005, ours="bulkhead_functions", metric="mallocs", kind="value"),
    Target("idle", (), 0.1, 0.1, metric="cpu_percent", kind="value"),
)
