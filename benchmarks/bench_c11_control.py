"""C11: how long does a run with 10,000 agents under way take to answer whoever steers it?

The run and the simulated fleet have a core each; who asks is a process of its own, on a new connection each time as
`aurora-swarm ctl` does it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

import harness
from aurora_swarm.errors import UsageError
from aurora_swarm.swarms.control_client import ask_run
from aurora_swarm.swarms.control_server import serve_controls
from aurora_swarm.swarms.control_wire import Reply, Request
from aurora_swarm.swarms.models import Model
from aurora_swarm.swarms.orchestrator import Orchestrator
from aurora_swarm.swarms.session import Session
from aurora_swarm.swarms.work import TaskSpec
from aurora_swarm.testing.fleet import ServerPlan, fleet_process

GOAL_MS = 50.0
AGENTS = 10_000
ENDPOINTS = 64
TASK_S = 20.0
CALM_S = 2.0
"""All agents have begun when answers have come in time for so long."""
KINDS = ("status", "items", "item", "pause", "resume", "steer", "requeue", "cancel")
CALM = b"calm\n"
PERCENTILES = (0.5, 0.99, 1.0)


class Asked(msgspec.Struct):
    """What the asking process has found.

    Args:
        begin_ms: Round trips until all agents were under way.
        under_way_ms: Round trips from then on, by kind.
        running: The least and the most tasks that were running meanwhile.
        refused: Requests that came too late for their task.
    """

    begin_ms: list[float]
    under_way_ms: dict[str, list[float]]
    running: tuple[int, int]
    refused: int


# -- the process that asks -----------------------------------------------------------------------------------------


def ask(path: Path, requests: int) -> Asked:
    """Ask for the status until all agents are under way, then `requests` of each kind in turn."""
    found = Asked([], defaultdict(list), (AGENTS, 0), 0)
    running = 0
    calm_since = began = time.perf_counter()
    while running < AGENTS or (time.perf_counter() - calm_since < CALM_S and time.perf_counter() - began < 60):
        took_ms, reply = timed(path, Request(op="status"))
        found.begin_ms.append(took_ms)
        assert reply.status is not None
        running = reply.status.tasks.get("running", 0)
        if running < AGENTS or took_ms > GOAL_MS:
            calm_since = time.perf_counter()
        time.sleep(0.02)
    sys.stdout.buffer.write(CALM)
    sys.stdout.buffer.flush()
    targets = tasks_of(path)
    for _ in range(requests):
        paused = ""
        for kind in KINDS:
            if kind in {"status", "items"}:
                request = Request(op=kind, kind="task", state="running") if kind == "items" else Request(op=kind)
            else:
                target = paused if kind == "resume" and paused else next(targets)
                paused = target if kind == "pause" else ""
                request = Request(op=kind, id=target, text="Mind the units." if kind == "steer" else "")
            try:
                took_ms, reply = timed(path, request)
            except UsageError:  # it ended a moment ago, and the answer says so
                found.refused += 1
                continue
            found.under_way_ms[kind].append(took_ms)
            if reply.status is not None:
                running = reply.status.tasks.get("running", 0)
                found.running = (min(found.running[0], running), max(found.running[1], running))
            time.sleep(0.003)
    return found


def tasks_of(path: Path) -> Iterator[str]:
    """Running tasks, each once, those that began last first."""
    given: set[str] = set()
    while True:
        items = ask_run(path, Request(op="items", kind="task", state="running", limit=200)).items or []
        for item in items:
            if item.id not in given:
                given.add(item.id)
                yield item.id


def timed(path: Path, request: Request) -> tuple[float, Reply]:
    """Milliseconds of one request on a connection of its own, and its reply."""
    began = time.perf_counter()
    reply = ask_run(path, request, timeout_s=30.0)
    return (time.perf_counter() - began) * 1000, reply


# -- the process that is asked -------------------------------------------------------------------------------------


class Lateness:
    """How long the event loop does something else than answering, and what.

    Other programs on the machine make it late too; so the processor time of its thread is told beside it.

    Args:
        above_s: Lateness from which on it is looked where the loop is.
    """

    def __init__(self, above_s: float = 0.03) -> None:
        self.worst_ms = self.own_ms = self.gc_ms = 0.0
        self.places: Counter[str] = Counter()
        self._above_s = above_s
        self._at = self._gc_at = time.perf_counter()
        self._spent = time.thread_time()
        self._ended = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch the running loop from a thread and from within."""
        ticking = asyncio.create_task(self._tick())
        looking = threading.Thread(target=self._look, args=(threading.get_ident(),), daemon=True)
        looking.start()
        gc.callbacks.append(self._collect)
        try:
            yield
        finally:
            gc.callbacks.remove(self._collect)
            self._ended = True
            ticking.cancel()
            looking.join()

    def begin(self) -> None:
        """Forget what was before."""
        self.worst_ms = self.own_ms = self.gc_ms = 0.0
        self.places.clear()

    def told(self) -> list[str]:
        """What was found, in sentences."""
        return [
            f"the loop was late by {self.worst_ms:.0f} ms at most, of which its own work {self.own_ms:.0f} ms at most",
            f"the longest garbage collection took {self.gc_ms:.0f} ms",
            *(f"late {count} times in {place}" for place, count in self.places.most_common(8)),
        ]

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.005)
            now, spent = time.perf_counter(), time.thread_time()
            self.worst_ms = max(self.worst_ms, (now - self._at - 0.005) * 1000)
            self.own_ms = max(self.own_ms, (spent - self._spent) * 1000)
            self._at, self._spent = now, spent

    def _collect(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._gc_at = time.perf_counter()
        else:
            self.gc_ms = max(self.gc_ms, (time.perf_counter() - self._gc_at) * 1000)

    def _look(self, thread: int) -> None:
        while not self._ended:
            time.sleep(0.01)
            if time.perf_counter() - self._at > self._above_s:
                frames = traceback.extract_stack(sys._current_frames()[thread])  # noqa: SLF001 - the only way to look
                ours = [f"{Path(f.filename).stem}.{f.name}:{f.lineno}" for f in frames if "aurora_swarm" in f.filename]
                self.places[" < ".join(reversed(ours[-4:])) or frames[-1].name] += 1


def specs(count: int) -> list[TaskSpec]:
    """Tasks of a few words each."""
    return [TaskSpec(title=f"Question {n}", instructions=f"Say what is known of item {n}.") for n in range(count)]


async def refill(session: Session) -> None:
    """Have twice as many tasks open as there are agents, for as long as it lasts."""
    async for _ in session.results():
        session.add(TaskSpec(title="A further question", instructions="Say what is known of a further item."))


async def steered(session: Session, requests: int, late: Lateness) -> tuple[Asked, list[str], float]:
    """Have another process ask; what it found, what held the loop up meanwhile, and the ms of cancelling the run."""
    with tempfile.TemporaryDirectory() as folder:
        async with serve_controls(session, Path(folder) / "run.sock") as path:
            command = [sys.executable, __file__, "--ask", str(path), "--requests", str(requests)]
            asking = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
            session.add_all(specs(2 * AGENTS))
            filling = asyncio.create_task(refill(session))
            assert asking.stdout is not None
            assert await asking.stdout.readline() == CALM
            at_first = [f"While they began: {sentence}" for sentence in late.told()]
            late.begin()
            out, _ = await asking.communicate()
            told = [*at_first, *(f"From then on: {sentence}" for sentence in late.told())]
            filling.cancel()
            cancelled_ms, _ = await asyncio.to_thread(timed, path, Request(op="cancel", id=session.id))
    return msgspec.json.decode(out, type=Asked), told, cancelled_ms


async def measure() -> harness.Report:
    """Ten thousand agents, and somebody who steers them."""
    requests = 30 if OPTIONS.quick else OPTIONS.requests
    report = harness.Report(
        "c11_control",
        "C11",
        f"How long does a run with {AGENTS:,} agents under way take to answer whoever steers it?",
        f"One session of {AGENTS:,} workers on {ENDPOINTS} simulated servers, a task takes {TASK_S:g} s; {requests} "
        "requests of each kind from another process, each on a connection of its own. Run and fleet on a core each.",
        ("request", "n", "p50 ms", "p99 ms", "max ms"),
    )
    plan = ServerPlan(capacity=AGENTS, latency_s=TASK_S / 2, per_token_s=TASK_S / 2 / 16, tokens=16, spread="uniform")
    late = Lateness()
    with fleet_process([plan] * ENDPOINTS, cpu=harness.SERVER_CORE) as fleet:
        model = Model(backend=[endpoint.url for endpoint in fleet.endpoints], concurrency=AGENTS)
        async with Orchestrator(model, AGENTS, name="many", lease_s=600.0).open() as session:
            with late.watched():
                asked, told, cancelled_ms = await steered(session, requests, late)
    report.row("status while they begin", *spread(asked.begin_ms))
    for kind, values in asked.under_way_ms.items():
        report.row(kind, *spread(values))
    every = list(itertools.chain.from_iterable(asked.under_way_ms.values()))
    report.row("all of them under way", *spread(every))
    report.row("cancel of the whole run", 1, cancelled_ms, cancelled_ms, cancelled_ms)
    low, high = asked.running
    report.goal("99 of 100 answers under way", quantile(every, 0.99), at_most=GOAL_MS, unit="ms")
    report.goal("slowest answer under way", max(every), at_most=GOAL_MS, unit="ms")
    report.goal("answer to a cancel of the whole run", cancelled_ms, at_most=GOAL_MS, unit="ms")
    report.goal("slowest answer while they begin", max(asked.begin_ms), at_most=GOAL_MS, unit="ms")
    report.notes.append(f"{low:,} to {high:,} tasks were running meanwhile; {asked.refused} requests came too late.")
    report.notes += told
    return report


def quantile(values: list[float], share: float) -> float:
    """The value that so many are not above."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def spread(values: list[float]) -> list[float]:
    """How many, and their percentiles."""
    return [len(values), *(quantile(values, share) for share in PERCENTILES)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What this benchmark knows beside ``--quick``."""
    parser.add_argument("--ask", metavar="PATH", help="be the process that asks")
    parser.add_argument("--requests", type=int, default=200, help="of each kind")


if __name__ == "__main__":
    OPTIONS = harness.arguments(__doc__, add_arguments)
    if OPTIONS.ask:
        harness.unpin()
        gc.disable()
        sys.stdout.buffer.write(msgspec.json.encode(ask(Path(OPTIONS.ask), OPTIONS.requests)))
    else:
        harness.start(measure, quick=OPTIONS.quick)
