"""A simulated fleet in a process of its own, so that it takes no time from the code under test."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import msgspec

from aurora_swarm.errors import UsageError
from aurora_swarm.testing.fleet.counts import FleetCounts
from aurora_swarm.testing.fleet.faults import Fault, FaultPlan, as_tuple
from aurora_swarm.testing.fleet.fleet import SimulatedFleet
from aurora_swarm.testing.fleet.plan import ServerPlan
from aurora_swarm.values.endpoint import AgentEndpoint

_MOST_LINE = 1 << 28
_GRACE_S = 5.0


class _Setup(msgspec.Struct):
    """What the child is told first."""

    plans: list[ServerPlan]
    by_server: dict[int, tuple[Fault, ...]] | None
    of_fleet: list[Fault]
    seed: int
    cpu: int | None


class _Order(msgspec.Struct):
    """What the child is asked later."""

    name: str
    first: int | None = None
    beyond: int | None = None
    changes: dict[str, Any] = {}
    faults: tuple[Fault, ...] = ()


class _Answer(msgspec.Struct):
    """What the child says."""

    ports: list[int] = []
    counts: FleetCounts | None = None
    problem: str = ""
    remedy: str = ""


class RemoteFleet:
    """A simulated fleet in another process; made by `fleet_process`.

    Its methods wait for the other process, for a few milliseconds.

    Args:
        process: The other process.
        host: Where its servers listen.
    """

    def __init__(self, process: subprocess.Popen[bytes], host: str = "127.0.0.1") -> None:
        self._process = process
        self._host = host
        self._ports: list[int] = []

    @property
    def endpoints(self) -> list[AgentEndpoint]:
        """Where the servers listen, in the order of their plans."""
        return [AgentEndpoint(self._host, port) for port in self._ports]

    @property
    def pid(self) -> int:
        """The other process."""
        return self._process.pid

    def begin(self, setup: msgspec.Struct) -> None:
        """Have the servers started; called by `fleet_process`."""
        self._ports = self._told(setup).ports

    def counts(self, which: int | slice | None = None) -> FleetCounts:
        """See `SimulatedFleet.counts`."""
        first, beyond = (None, None) if which is None else self._range(which)
        counts = self._told(_Order("counts", first, beyond)).counts
        assert counts is not None
        return counts

    def set_plan(self, which: int | slice, **changes: Any) -> None:
        """See `SimulatedFleet.set_plan`."""
        self._told(_Order("set_plan", *self._range(which), changes=changes))

    def set_fault(self, which: int | slice, fault: Fault | Sequence[Fault] | None) -> None:
        """See `SimulatedFleet.set_fault`."""
        self._told(_Order("set_fault", *self._range(which), faults=as_tuple(fault)))

    def stop(self, which: int | slice) -> None:
        """See `SimulatedFleet.stop`."""
        self._told(_Order("stop", *self._range(which)))

    def start(self, which: int | slice) -> None:
        """See `SimulatedFleet.start`."""
        self._told(_Order("start", *self._range(which)))

    def _range(self, which: int | slice) -> tuple[int, int]:
        if isinstance(which, int):
            if not 0 <= which < len(self._ports):
                last = len(self._ports) - 1
                raise UsageError(f"there is no server {which}", remedy=f"the fleet has servers 0 to {last}")
            return which, which + 1
        first, beyond, step = which.indices(len(self._ports))
        if step != 1:
            raise UsageError("a slice of servers has no step here")
        return first, beyond

    def _told(self, order: msgspec.Struct) -> _Answer:
        to, from_ = _pipes(self._process)
        try:
            to.write(msgspec.json.encode(order) + b"\n")
            to.flush()
            line = from_.readline(_MOST_LINE)
        except OSError:
            line = b""
        if not line:
            raise UsageError("the simulated fleet's process has ended", remedy="see what it printed")
        answer = msgspec.json.decode(line, type=_Answer)
        if answer.problem:
            raise UsageError(answer.problem, remedy=answer.remedy)
        return answer


@contextlib.contextmanager
def fleet_process(
    plans: Sequence[ServerPlan], *, faults: FaultPlan = (), seed: int = 0, cpu: int | None = None
) -> Iterator[RemoteFleet]:
    """A simulated fleet in a child process, for as long as the context lasts.

    The child ends with the context, and also when this process is killed.

    Args:
        plans: As for `SimulatedFleet`.
        faults: As for `SimulatedFleet`.
        seed: As for `SimulatedFleet`.
        cpu: The core that the child is kept on, where there is such a core; None for any.

    Raises:
        UsageError: As for `SimulatedFleet`.
    """
    by_server = {i: as_tuple(given) for i, given in faults.items()} if isinstance(faults, Mapping) else None
    of_fleet = [] if isinstance(faults, Mapping) else list(faults)
    command = [sys.executable, "-c", "from aurora_swarm.testing.fleet.process import serve; serve()"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True) as process:  # noqa: S603 - ours
        fleet = RemoteFleet(process)
        try:
            fleet.begin(_Setup(list(plans), by_server, of_fleet, seed, cpu))
            yield fleet
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The end of its input ends the child."""
    with contextlib.suppress(OSError):
        _pipes(process)[0].close()
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


# -- in the child --------------------------------------------------------------------------------------------------


def serve() -> None:
    """What the child runs: orders come on standard input, one a line, until its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this
    setup = msgspec.json.decode(sys.stdin.buffer.readline(_MOST_LINE), type=_Setup)
    if setup.cpu is not None:
        _pin(setup.cpu)
    try:
        import uvloop  # noqa: PLC0415 - not on every platform

        uvloop.run(_serve(setup))
    except ImportError:
        asyncio.run(_serve(setup))


def _pin(cpu: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):  # there is no such core
            os.sched_setaffinity(0, {cpu})


async def _serve(setup: _Setup) -> None:
    faults: FaultPlan = setup.of_fleet if setup.by_server is None else setup.by_server
    try:
        async with SimulatedFleet(setup.plans, faults=faults, seed=setup.seed) as fleet:
            gc.freeze()
            _say(_Answer(ports=[endpoint.port for endpoint in fleet.endpoints]))
            reader = asyncio.StreamReader(limit=_MOST_LINE)
            loop = asyncio.get_running_loop()
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
            while line := await reader.readline():
                _say(await _obeyed(fleet, msgspec.json.decode(line, type=_Order)))
    except UsageError as error:
        _say(_Answer(problem=error.problem, remedy=error.remedy))


async def _obeyed(fleet: SimulatedFleet, order: _Order) -> _Answer:
    which = slice(order.first, order.beyond)
    try:
        await _do(fleet, order, which)
    except UsageError as error:
        return _Answer(problem=error.problem, remedy=error.remedy)
    return _Answer(counts=fleet.counts(which) if order.name == "counts" else None)


async def _do(fleet: SimulatedFleet, order: _Order, which: slice) -> None:
    if order.name == "set_plan":
        fleet.set_plan(which, **order.changes)
    elif order.name == "set_fault":
        await fleet.set_fault(which, order.faults)
    elif order.name == "stop":
        await fleet.stop(which)
    elif order.name == "start":
        await fleet.start(which)


def _say(answer: _Answer) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()
