"""One simulated server: its port, its faults, and what it does with a request."""

from __future__ import annotations

import asyncio
import random
import socket
from email.utils import formatdate
from time import time

import msgspec

from aurora_swarm.testing import answers
from aurora_swarm.testing.fleet import pages, wires, writing
from aurora_swarm.testing.fleet.connection import Connection
from aurora_swarm.testing.fleet.counts import Tally
from aurora_swarm.testing.fleet.deliveries import Cut, Drip
from aurora_swarm.testing.fleet.engine import SimulatedEngine
from aurora_swarm.testing.fleet.faults import Fault
from aurora_swarm.testing.fleet.http import Request, answer
from aurora_swarm.testing.fleet.job import STREAM_HEAD, Held, Job
from aurora_swarm.testing.fleet.plan import ServerPlan
from aurora_swarm.testing.fleet.spoiling import instead, spoiled

_BACKLOG = 4096
_HANGING_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"
OTHER_MODEL = "another-model"


class SimulatedServer:
    """One server on one port.

    Args:
        plan: What it is like.
        faults: What is wrong with it.
        dice: Where chance comes from.
        tally: Where it counts.
        host: Address to listen at.
    """

    def __init__(
        self, plan: ServerPlan, faults: tuple[Fault, ...], dice: random.Random, tally: Tally, host: str
    ) -> None:
        self.planned = plan
        self.tally = tally
        self.port = 0
        self._faults = faults
        self._dice = dice
        self._host = host
        self._engine = SimulatedEngine(plan, tally, dice)
        self._loop = asyncio.get_running_loop()
        self._connections: set[Connection] = set()
        self._listener: asyncio.Server | None = None
        self._reserved: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._changing: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._stopped = self._closed = False
        self._born = 0.0

    @property
    def plan(self) -> ServerPlan:
        """What it is like now, with what its faults make of its model and its context."""
        plan, age_s = self.planned, self._age_s()
        for fault in self._faults:
            if fault.kind == "wrong_model" and fault.active(age_s):
                plan = msgspec.structs.replace(plan, model=OTHER_MODEL)
            elif fault.kind == "smaller_context" and fault.active(age_s):
                plan = msgspec.structs.replace(plan, max_context=max(plan.max_context // 4, 1))
        return plan

    # -- its port ----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Take a port, and listen unless a fault says otherwise."""
        self._reserved = _bound(self._host, 0)
        self.port = self._reserved.getsockname()[1]
        self._born = self._loop.time()
        await self._follow_faults()

    async def start(self) -> None:
        """Listen again after `stop`; its age begins anew."""
        self._stopped, self._born = False, self._loop.time()
        await self._follow_faults()

    async def stop(self) -> None:
        """Refuse connections and end those that are open, as a server that dies."""
        self._stopped = True
        await self._follow_faults()

    async def aclose(self) -> None:
        """Give the port up."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._changing is not None:
            await asyncio.gather(self._changing, return_exceptions=True)
        self._refuse()
        if self._reserved is not None:
            self._reserved.close()

    async def set_faults(self, faults: tuple[Fault, ...]) -> None:
        """Replace what is wrong with it; the times in `faults` count from its start."""
        self._faults = faults
        await self._follow_faults()

    def set_plan(self, plan: ServerPlan) -> None:
        """Go on as another plan says."""
        self.planned = plan
        self._engine.set_plan(plan)

    async def _follow_faults(self) -> None:
        """Listen or refuse, as it should be now, and come back when that may change."""
        async with self._opening:
            await self._open_or_refuse()

    async def _open_or_refuse(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        age_s = self._age_s()
        closing = next((fault for fault in self._faults if fault.closed(age_s)), None)
        if closing is not None and not self._closed:
            self.tally.injected(closing.kind)
        self._closed = closing is not None
        if self._stopped or closing is not None:
            self._refuse()
        else:
            await self._listen()
        changes = [at for fault in self._faults if (at := fault.next_change(age_s)) is not None]
        if changes and not self._stopped and min(changes) < 1e9:
            self._timer = self._loop.call_at(self._born + min(changes), self._change)

    def _change(self) -> None:
        self._changing = self._loop.create_task(self._follow_faults())

    async def _listen(self) -> None:
        if self._listener is not None:
            return
        sock, self._reserved = self._reserved or _bound(self._host, self.port), None
        sock.listen(_BACKLOG)
        self._listener = await self._loop.create_server(lambda: Connection(self), sock=sock, backlog=_BACKLOG)

    def _refuse(self) -> None:
        """Close the port but keep it: nobody else gets it, and nobody is heard there."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in list(self._connections):
            connection.reset()
        if self._reserved is None:
            self._reserved = _bound(self._host, self.port)

    def _age_s(self) -> float:
        return self._loop.time() - self._born

    # -- its clients -------------------------------------------------------------------------------------------

    def accepted(self, connection: Connection) -> None:
        """A client has come."""
        self._connections.add(connection)
        self.tally.connections += 1
        self.tally.open_connections += 1

    def lost(self, connection: Connection) -> None:
        """A client has gone."""
        self._connections.discard(connection)
        self.tally.open_connections -= 1

    def handle(self, connection: Connection, request: Request) -> None:
        """A request has come."""
        if request.method == b"POST":
            self._post(connection, request)
        else:
            self._look(connection, request)

    def _look(self, connection: Connection, request: Request) -> None:
        self.tally.looks += 1
        fault = self._drawn(looks=True) if self._faults else None
        found = pages.page(request.path, self.plan, self.tally)
        if fault is not None and self._breaks(connection, fault, streamed=False):
            return
        if found is None:
            status = 405 if wires.has_path(request.path, self.planned.engine) else 404
            connection.write(answer(b'{"detail":"Not Found"}', status))
        else:
            body, kind = found
            if fault is not None and fault.kind == "wrong_types" and body.startswith(b"{"):
                body = answers.encode(spoiled(fault, msgspec.json.decode(body)))
            connection.write(answer(body, 200, kind))
        connection.finish()

    def _post(self, connection: Connection, request: Request) -> None:
        tally, fault = self.tally, None
        tally.requests += 1
        plan = self.planned
        if self._faults:
            fault, plan = self._drawn(looks=False), self.plan
            tally.on_dead += self._dead()
        try:
            work = wires.read(request.path, request.body, plan)
            if fault is not None and self._breaks(connection, fault, streamed=work.streamed):
                return
            wires.check(work, plan)
        except wires.RefusedError as error:
            tally.refused += 1
            connection.write(answer(error.body(), error.status))
            connection.finish()
            return
        if work.wire in wires.IMMEDIATE:
            connection.write(answer(answers.encode(writing.counted(work, plan))))
            connection.finish()
        else:
            self._run(connection, work, plan, fault)

    def _run(self, connection: Connection, work: wires.Work, plan: ServerPlan, fault: Fault | None) -> None:
        if not self._engine.has_room(len(work.prompts)):
            self.tally.overloaded += 1
            connection.write(answer(answers.encode(answers.error("the queue is full", 429)), 429))
            connection.finish()
            return
        job = Job(connection, self._engine, work, plan, self.tally, fault=fault)
        connection.job = job
        job.start(self._dice)

    # -- its faults --------------------------------------------------------------------------------------------

    def _drawn(self, *, looks: bool) -> Fault | None:
        """The first fault that this request meets."""
        age_s = self._age_s()
        for fault in self._faults:
            if not fault.of_requests or (looks and not fault.for_looks) or not fault.active(age_s):
                continue
            if fault.rate >= 1 or self._dice.random() < fault.rate:
                self.tally.injected(fault.kind)
                return fault
        return None

    def _dead(self) -> bool:
        age_s = self._age_s()
        return any(fault.kills and fault.active(age_s) for fault in self._faults)

    def _breaks(self, connection: Connection, fault: Fault, *, streamed: bool) -> bool:
        """Whether the fault leaves nothing to answer; if so, it has been done."""
        if fault.kind == "reset":
            connection.reset()
        elif (bytes_ := instead(fault, formatdate(time() + 2, usegmt=True))) is not None:
            connection.write(bytes_)
            if fault.kind == "garbage":
                connection.close()
            else:
                connection.finish()
        elif fault.kind in {"hang_before_head", "hang_after_head", "gray"}:
            self._hang(connection, fault, streamed=streamed)
        else:
            self._hinder(connection, fault)
            return False
        return True

    def _hang(self, connection: Connection, fault: Fault, *, streamed: bool) -> None:
        connection.job = Held(self.tally)
        if fault.kind == "hang_after_head" or (fault.kind == "gray" and streamed):
            connection.write(STREAM_HEAD if streamed else _HANGING_HEAD)

    def _hinder(self, connection: Connection, fault: Fault) -> None:
        if fault.kind == "cut":
            connection.delivery = Cut(connection, fault.at)
        elif fault.kind == "drip":
            connection.delivery = Drip(connection, fault.pause_s)


def _bound(host: str, port: int) -> socket.socket:
    """A socket that holds a port without listening: connections are refused."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    return sock
