"""A swarm served over A2A, so that a hivemind, or an agent of another make, has it as a member."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import uvicorn
from a2a.server.context import ServerCallContext
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.routes.common import DefaultServerCallContextBuilder
from a2a.server.tasks import InMemoryTaskStore
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    HTTPAuthSecurityScheme,
    SecurityRequirement,
    SecurityScheme,
    StringList,
    Task,
)
from starlette.applications import Starlette
from starlette.requests import Request

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.errors import UsageError
from aurora_swarm.gateway.executor import SwarmExecutor
from aurora_swarm.gateway.guard import GONE, LOOPBACK, Guard, check_exposure
from aurora_swarm.swarms.a2a import ORDER, REPORT
from aurora_swarm.swarms.work import Member
from aurora_swarm.values.budget import Budget, Price

CARD_PATH = "/.well-known/agent-card.json"

KEPT = 256
"""Tasks whose outcome can still be asked for; the oldest are forgotten."""

FAREWELL_S = 3
"""Seconds that those who still listen have to be told how it ended."""

_QUIET: dict[str, Any] = {"log_config": None, "lifespan": "off", "ws": "none", "access_log": False}

ANYWHERE = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - these are recognised, not bound to


class Served(msgspec.Struct, frozen=True):
    """A swarm that is being served.

    Args:
        url: What a hivemind is given: ``a2a://host:port``.
        host: What it is bound to.
        port: The port, also where any was wished for.
    """

    url: str
    host: str
    port: int


@asynccontextmanager
async def serve_swarm(
    member: Member,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    *,
    names: Collection[str] = (),
    budget: Budget | None = None,
    price: Price | None = None,
    width: int = 16,
) -> AsyncIterator[Served]:
    """Serve a swarm over A2A while the context is open; leaving it cancels what is under way.

    Its card is public. Each message is an objective of its own: what it may spend is what its order says, and what
    `budget` leaves. Who sent it may cancel it. A hivemind that goes away without a word, such as one that was killed,
    has its objective ended after 10 seconds; clients of other makes may come back for theirs.

    Args:
        member: A `Swarm`, a `Hivemind`, or anything else that pursues objectives.
        host: What to bind to.
        port: 0 for any that is free.
        token: What those who ask must bear; needed unless it is bound to this machine alone.
        names: Host names by which it is reached, besides `host`; needed where `host` is a wildcard.
        budget: What all objectives together may spend.
        price: What the model costs, for budgets in money.
        width: Objectives at a time; more are rejected.

    Raises:
        UsageError: It could be reached from elsewhere without a token, or nobody says under which name.
        OSError: The port is taken, or the host is not one of this machine's.
    """
    check_exposure(host, token)
    if host in ANYWHERE and not names:
        raise UsageError(f"{host!r} is no name to be reached by", remedy="give names=['this.machine.example']")
    purse = None if budget is None else Purse(budget, price)
    with _listening(host, port) as listening:
        own = Served(_url(names, host, listening), host, listening.getsockname()[1])
        executor = SwarmExecutor(member, purse=purse, price=price, width=width)
        handler = DefaultRequestHandler(
            agent_executor=executor,
            task_store=_RecentTasks(KEPT),
            agent_card=(card := _card(member, own, token)),
        )
        routes = [*create_agent_card_routes(card), *create_jsonrpc_routes(handler, "/", context_builder=_Contexts())]
        hosts = {*names, host, *(LOOPBACK if host in LOOPBACK or host in ANYWHERE else ())}
        app = Guard(Starlette(routes=routes), hosts=hosts, token=token, open_paths=[CARD_PATH])
        server = _Server(uvicorn.Config(app, timeout_graceful_shutdown=FAREWELL_S, **_QUIET))
        running = asyncio.create_task(server.serve([listening]))
        try:
            await _until_started(server, running)
            yield own
        finally:
            await executor.aclose()
            server.should_exit = True
            await running
            await handler.aclose()


class _Server(uvicorn.Server):
    """Leaves the signals to the program that it is part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def _until_started(server: _Server, running: asyncio.Task[None]) -> None:
    while not server.started:
        if running.done():
            await running
            raise OSError("the server ended before it had started")
        await asyncio.sleep(0.005)


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        listening.setblocking(False)
        yield listening


def _url(names: Collection[str], host: str, listening: socket.socket) -> str:
    name = next(iter(names), host)
    return f"a2a://{f'[{name}]' if ':' in name else name}:{listening.getsockname()[1]}"


def _card(member: Member, own: Served, token: str | None) -> AgentCard:
    about = member.about or f"Pursues objectives with a swarm of agents named {member.name}."
    card = AgentCard(
        name=member.name or "swarm",
        description=about,
        version="1",
        supported_interfaces=[
            AgentInterface(
                url=own.url.replace("a2a://", "http://", 1) + "/", protocol_binding="JSONRPC", protocol_version="1.0"
            )
        ],
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=["text/plain", ORDER],
        default_output_modes=["text/plain", REPORT],
        skills=[AgentSkill(id="objective", name="Objective", description=about, tags=["swarm"])],
    )
    if token is not None:
        scheme = SecurityScheme(http_auth_security_scheme=HTTPAuthSecurityScheme(scheme="Bearer"))
        card.security_schemes["bearer"].CopyFrom(scheme)
        card.security_requirements.append(SecurityRequirement(schemes={"bearer": StringList()}))
    return card


class _Contexts(DefaultServerCallContextBuilder):
    """Has the executor know when whoever asked has left."""

    def build(self, request: Request) -> ServerCallContext:
        """The context of one request."""
        context = super().build(request)
        context.state[GONE] = request.scope.get(GONE)
        return context


class _RecentTasks(InMemoryTaskStore):
    """Keeps the latest tasks only: a server that runs for weeks must not grow with what it has done."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._order: OrderedDict[str, None] = OrderedDict()

    async def save(self, task: Task, context: ServerCallContext) -> None:
        """Keep a task, and forget the one that was changed longest ago where there are too many."""
        await super().save(task, context)
        self._order[task.id] = None
        self._order.move_to_end(task.id)
        if len(self._order) > self._most:
            oldest, _ = self._order.popitem(last=False)
            await self.delete(oldest, context)
