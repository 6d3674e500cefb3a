"""Requests for one token, so that an engine has a prefix in its cache before those come who need it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from aurora_swarm.batch.kvflow import KVFlowAdvisor
from aurora_swarm.pools.model_runtime import ModelRuntime
from aurora_swarm.pools.pool import Pool
from aurora_swarm.values.call import Call, Sampling
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import Message
from aurora_swarm.values.outcome import Outcome
from aurora_swarm.values.reply import Usage

T = TypeVar("T")

LEAST_CHARS = 4096
"""Length of a prefix, in characters, from which computing it once ahead is worth a request."""

LEAST_AGENTS = 4
"""Agents per endpoint from which it is."""

PATIENCE = 3.0
"""Endpoints that take so many times as long as the first of them are not waited for."""

LEAST_PATIENCE_S = 0.25
"""But so long they are."""

LAST = 1_000
"""Turns left of a call that nobody waits for: all others go first."""


class Warmed(msgspec.Struct, frozen=True):
    """What warming came to.

    Args:
        asked: Endpoints that were asked.
        ready: Those of them that have the prefix now.
        usage: What it cost.
        wall_s: Seconds until the agents could begin.
    """

    asked: int = 0
    ready: int = 0
    usage: Usage = Usage()
    wall_s: float = 0.0


def is_worth_warming(chars: int, agents: int | None, endpoints: int) -> bool:
    """Whether a shared prefix should be computed before the agents begin. Pure.

    Args:
        chars: Its length.
        agents: How many will begin with it; None for nobody knows, and so many.
        endpoints: Those that may compute it.
    """
    return chars >= LEAST_CHARS and (agents is None or agents >= LEAST_AGENTS * endpoints)


async def warm(pool: Pool, opening: Sequence[Message], *, model: str, agents: int | None = None) -> Warmed:
    """Have each endpoint compute what all agents begin with, if that pays, before they come.

    It pays where one cache serves all sequences (vLLM, SGLang): agents that come together would each compute a long
    prefix that none of them has finished. Engines that cache by slot are left to the gate of the dispatcher, which
    sends one call ahead per slot; those that are paid by the token are left alone. An endpoint that fails or is slow
    is passed over: nothing depends on it.

    Args:
        pool: Where the agents will run.
        opening: What they begin with; of the last message only the beginning.
        model: Which model.
        agents: How many will come; None where nobody knows.

    Returns:
        What it came to. Never raises for an endpoint; cancelling cancels what is under way.
    """
    chars = sum(len(message.content) for message in opening)
    if not pool.capabilities.prefetch or not is_worth_warming(chars, agents, pool.size):
        return Warmed()
    await pool.runtime.survey(pool.view.members)
    members = [member for member in pool.view.members if not _caches_by_slot(pool, member)]
    if not members or not is_worth_warming(chars, agents, len(members)):
        return Warmed()
    began_s = _now_s()
    call = one_token(Call(tuple(opening), model=model))
    outcomes = await _first_of([_ask(pool, call, member) for member in members])
    replies = [outcome.reply for outcome in outcomes if outcome.reply is not None]
    usage = sum((reply.usage for reply in replies), Usage())
    return Warmed(len(members), len(replies), usage, _now_s() - began_s)


def one_token(call: Call) -> Call:
    """A call that leaves its prompt in a cache and asks for nothing else: one token, and everybody else goes first."""
    sampling = Sampling(max_tokens=1, temperature=call.sampling.temperature, seed=call.sampling.seed)
    return msgspec.structs.replace(call, sampling=sampling, schema=None, tool_choice="auto", turns_left=LAST)


class Prefetcher:
    """Asks for an agent's prefix shortly before its tools return; an async context manager that owns what it begins.

    Nothing is done for an agent that is back already, nothing is waited for, and a prefetch that fails is passed over.

    Args:
        pool: Where the agents run.
        advisor: Says whose prefix, and when.

    Attributes:
        usage: What prefetches cost so far.
        made: How many were made.
    """

    def __init__(self, pool: Pool, advisor: KVFlowAdvisor | None = None) -> None:
        self._pool = pool
        self._advisor = advisor or KVFlowAdvisor()
        self._members = dict(zip(map(id, pool.endpoints), pool.view.members, strict=True))
        self._calls: dict[str, tuple[Call, int]] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self.usage = Usage()
        self.made = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def waiting(
        self, call: Call, endpoint: AgentEndpoint | None, tool: str, use: Callable[[], Awaitable[T]]
    ) -> T:
        """Use a tool, and have what the agent's next turn begins with in the cache when it has answered.

        Args:
            call: What the agent asked the model last; its next turn begins alike.
            endpoint: Who answered, and so will be asked; None where nobody did.
            tool: Name of the tool.
            use: Calls it.

        Returns:
            What the tool answers; what it raises is raised.
        """
        member = self._members.get(id(endpoint))
        if member is None:
            return await use()
        agent = call.agent
        self._calls[agent] = (call, member)
        self._advisor.begins(agent, tool, _now_s())
        self._set_alarm()
        try:
            return await use()
        finally:
            self._advisor.ends(agent, tool, _now_s())
            if not self._advisor.waits(agent):
                self._is_back(agent)

    def _is_back(self, agent: str) -> None:
        """Whoever is back asks for itself: what is still under way for it is in its way."""
        del self._calls[agent]
        task = self._under_way.pop(agent, None)
        if task is not None:
            task.cancel()

    def _set_alarm(self) -> None:
        """One timer for the agent that is due next; an earlier one that is set finds nothing to do."""
        at = self._advisor.next_due()
        if at is None or (self._alarm is not None and self._alarm.when() <= at):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_at(at, self._tick)

    def _tick(self) -> None:
        self._alarm = None
        loop = asyncio.get_running_loop()
        for agent in self._advisor.due(loop.time()):
            task = self._under_way[agent] = loop.create_task(self._prefetch(*self._calls[agent]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._set_alarm()

    async def _prefetch(self, call: Call, member: int) -> None:
        began_s = _now_s()
        self.made += 1
        outcome = await _ask(self._pool, one_token(call), member)
        if outcome.reply is not None:
            self.usage += outcome.reply.usage
            self._advisor.took(_now_s() - began_s)


def _ask(pool: Pool, call: Call, member: int) -> Coroutine[Any, Any, Outcome]:
    """One endpoint and no other."""
    return pool.runtime.dispatcher.ask(call, pool.view, pin=member, strict=True)


def _caches_by_slot(pool: Pool, member: int) -> bool:
    """Whether an endpoint says that it has slots, as llama.cpp does, whose caches are apart."""
    runtime = pool.runtime
    info = runtime.facts.known(runtime.dispatcher.endpoints[member]) if isinstance(runtime, ModelRuntime) else None
    return info is not None and bool(info.slots)


async def _first_of(asked: Sequence[Coroutine[Any, Any, Outcome]]) -> list[Outcome]:
    """What ends within a few times the time of the first answer; the rest is cancelled."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    tasks = [loop.create_task(each) for each in asked]
    try:
        left = set(tasks)
        while left and not any(task.done() and task.result().reply is not None for task in tasks):
            _, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        if left:
            await asyncio.wait(left, timeout=max((PATIENCE - 1) * (loop.time() - began_s), LEAST_PATIENCE_S))
        return [task.result() for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
