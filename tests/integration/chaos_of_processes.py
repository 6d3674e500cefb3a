"""A run of agents over several processes, of which somebody kills and pauses some; and what it came to."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import statistics
import time
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import msgspec
from chaos_run_example import LOG, look_up

from aurora_swarm.batch.plan import Sharing
from aurora_swarm.batch.run import BatchOptions, open_batch
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.journal.shards import open_shards
from aurora_swarm.testing.fleet import RemoteFleet, ServerPlan
from aurora_swarm.testing.redis_server import RedisServer
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.shard import Output

RUN = "chaos"
WORKERS, INFLIGHT, TURNS = 4, 8, 4
_CALL = '{"tool": "look_up", "arguments": {"key": "%s {prompt}"}}'
STAGES = ("one", "two", "three")
FOUR_TURNS = (*(_CALL % stage for stage in STAGES), '{"answer": "done {prompt}"}')
RECENT_S = 2.0
PAUSE_S = 3.5
"""Longer than a lease, and than a takeover."""

said: list[str] = []
"""What engines said."""


def server_plan(latency_s: float) -> ServerPlan:
    return ServerPlan(latency_s=latency_s, capacity=64, turns=FOUR_TURNS)


class Event(msgspec.Struct, frozen=True):
    """What the tool said: when, in which process, of which job, at which stage."""

    at: float
    pid: int
    job: str
    stage: str


class Blow(msgspec.Struct, frozen=True):
    """A worker that was killed or paused."""

    at: float
    pid: int


class Report(msgspec.Struct):
    """What a run came to."""

    results: list[AgentResult[Any]]
    outputs: list[Output]
    answered: int
    kills: list[Blow]
    pauses: list[Blow]
    events: list[Event]
    seconds: float

    @property
    def repeated(self) -> int:
        """Turns that the servers answered more than once."""
        return self.answered - TURNS * len(self.outputs)

    def recoveries(self) -> list[float]:
        """Seconds from each kill until the first agent that was under way in that worker is led on by another one."""
        found = (self._recovery(blow) for blow in self.kills)
        return [each for each in found if each is not None]

    def _recovery(self, blow: Blow) -> float | None:
        last: dict[str, Event] = {}
        for event in self.events:
            if event.at <= blow.at:
                last[event.job] = event
        orphans = {job for job, event in last.items() if event.pid == blow.pid and event.stage != STAGES[-1]}
        on = [event.at - blow.at for event in self.events if event.at > blow.at and event.job in orphans]
        return min(on, default=None)

    def __str__(self) -> str:
        recovery = statistics.median(self.recoveries() or [float("nan")])
        return (
            f"{len(self.results)} results, {len(self.outputs)} outputs, {self.repeated} repeated turns, "
            f"{len(self.kills)} kills, {len(self.pauses)} pauses, median recovery {recovery:.2f} s, "
            f"{self.seconds:.0f} s"
        )


class Chaos:
    """Kills and pauses workers at random, as the tool's log names them.

    Args:
        log: Where the tool says who asked.
        kills: How many workers to kill.
        pauses: How many to stop for longer than a lease.
        every_s: Least and longest time between two of them.
        seed: Of the dice.
    """

    def __init__(self, log: Path, *, kills: int, pauses: int = 0, every_s: tuple[float, float], seed: int) -> None:
        self._log = log
        self._dice = random.Random(seed)
        self._plan = ["kill"] * kills + ["pause"] * pauses
        self._dice.shuffle(self._plan)
        self._every_s = every_s
        self.kills: list[Blow] = []
        self.pauses: list[Blow] = []

    async def run(self) -> None:
        for what in self._plan:
            await asyncio.sleep(self._dice.uniform(*self._every_s))
            pid = await self._victim()
            blow = Blow(time.monotonic(), pid)
            if what == "kill":
                os.kill(pid, signal.SIGKILL)
                self.kills.append(blow)
            else:
                self.pauses.append(blow)
                await self._pause(pid)

    async def _pause(self, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(PAUSE_S)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    async def _victim(self) -> int:
        """A worker that has just worked."""
        while True:
            now = time.monotonic()
            pids = {event.pid for event in events_of(self._log) if event.at > now - RECENT_S}
            living = sorted(pid for pid in pids if Path(f"/proc/{pid}/stat").exists())
            if living:
                return self._dice.choice(living)
            await asyncio.sleep(0.1)


def events_of(log: Path) -> list[Event]:
    lines = log.read_text().splitlines() if log.exists() else []
    parts = (line.split(" ", 3) for line in lines)
    return [Event(float(at), int(pid), job, stage) for at, pid, stage, job in parts]


def inputs(jobs: int) -> list[dict[str, str]]:
    return [{"job": f"job {number}"} for number in range(jobs)]


def options(fleet: RemoteFleet, url: str, **sharing: Any) -> BatchOptions:
    given = {"store": url, "run": RUN, "processes": WORKERS, "max_attempts": 10} | sharing
    backend = [f"vllm://{endpoint.host}:{endpoint.port}" for endpoint in fleet.endpoints]
    return BatchOptions(backend=backend, max_inflight=INFLIGHT, sharing=Sharing(**given), say=said.append)


class Restarts:
    """Kills a Redis server at random times, and starts it again.

    Args:
        server: Which.
        every_s: Least and longest time between two kills.
        down_s: How long it is away at least.
    """

    def __init__(self, server: RedisServer, every_s: tuple[float, float], down_s: float = 0.2) -> None:
        self._server = server
        self._every_s = every_s
        self._down_s = down_s
        self._dice = random.Random(3)
        self.kills: list[Blow] = []
        self.pauses: list[Blow] = []

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._dice.uniform(*self._every_s))
            assert self._server.pid is not None
            self.kills.append(Blow(time.monotonic(), self._server.pid))
            self._server.kill()
            try:
                await asyncio.sleep(self._down_s)
            finally:
                self._server.start()


async def run_with(
    chaos: Chaos | Restarts, fleet: RemoteFleet, jobs: int, options: BatchOptions, limit_s: float
) -> Report:
    """Run agents while there is chaos; raises what the run raises."""
    spec = BatchSpec("{job}", tools=(look_up,), tool_choice="required", tool_protocol="native")
    assert options.sharing is not None
    results: list[AgentResult[Any]] = []
    began, killing = time.monotonic(), None
    try:
        async with asyncio.timeout(limit_s), open_batch(spec, inputs(jobs), options) as stream, aclosing(stream):
            async for result in stream:
                results.append(result)
                killing = killing or asyncio.create_task(chaos.run())
    finally:
        if killing is not None:
            killing.cancel()
            await asyncio.gather(killing, return_exceptions=True)
    return Report(
        results=results,
        outputs=await all_outputs(options.sharing.store),
        answered=fleet.counts().answered,
        kills=chaos.kills,
        pauses=chaos.pauses,
        events=sorted(events_of(Path(os.environ[LOG])), key=lambda event: event.at),
        seconds=time.monotonic() - began,
    )


async def all_outputs(url: str) -> list[Output]:
    """The stream of results as the store has it, from its beginning."""
    store = await open_shards(url, run=RUN)
    read: list[Output] = []
    try:
        while more := await store.outputs(read[-1].cursor if read else ""):
            read += more
    finally:
        await store.aclose()
    return read


def check_whole(report: Report, jobs: int) -> None:
    """Nothing is lost, nothing doubled, and every content is that of its job."""
    assert sorted(output.index for output in report.outputs) == list(range(jobs))
    assert len({output.result.job for output in report.outputs}) == jobs
    check_results(report.results, jobs)


def check_results(results: list[AgentResult[Any]], jobs: int) -> None:
    assert sorted(result.index for result in results) == list(range(jobs))
    for result in results:
        assert result.ok, result.error
        assert (result.output, result.turns) == (f"done job {result.index}", TURNS)
