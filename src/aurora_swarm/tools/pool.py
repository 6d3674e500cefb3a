"""Where tools run: once for equal calls, within their limits, and never beyond what was granted."""

from __future__ import annotations

import asyncio
import copy
import hashlib
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any

import msgspec
from pydantic_core import to_jsonable_python

from aurora_swarm.errors import AuroraSwarmError
from aurora_swarm.inputs.files import show
from aurora_swarm.tools.definition import AnyTool, ArgumentsRefusedError, Tool
from aurora_swarm.tools.elsewhere import Elsewhere
from aurora_swarm.tools.flights import Execution, Flight, Flights
from aurora_swarm.tools.lookups import Lookups
from aurora_swarm.tools.past import Past
from aurora_swarm.tools.running import Runner
from aurora_swarm.tools.signature import schema_of
from aurora_swarm.tools.texts import MAX_FAILURE_CHARS, CountTokens, as_text, clean, estimated_tokens, first_tokens
from aurora_swarm.tools.threads import ToolThreads
from aurora_swarm.values.message import ToolCall

_THREADS = 32
_REMEMBERED = 10_000
_REMEMBERED_CHARS = 64_000_000
_UNKNOWN = "(unknown)"
"""What calls of tools that nobody has are counted under: a model can think up any number of names."""

_IN_DOUBT = (
    "It is not known whether this call took effect: the run was interrupted while it was under way. "
    "It was not repeated. Find out what happened before you ask for it again."
)


class ToolAnswer(msgspec.Struct, frozen=True):
    """What a tool call came to.

    Args:
        text: What the model is told; of a failure, what failed.
        ok: Whether the tool gave an answer.
        executed: Whether it ran for this call, rather than for an equal one.
        latency_s: Seconds from asking to the answer.
        in_doubt: Whether it may have taken effect in an interrupted run, and was not repeated.
    """

    text: str
    ok: bool
    executed: bool
    latency_s: float
    in_doubt: bool = False


class ToolStatistics(msgspec.Struct, frozen=True):
    """What happened to the calls of one tool.

    Args:
        asked: Calls that models asked for.
        executed: Calls that ran, rather than being answered by another.
        shared: Calls answered by one that was under way.
        remembered: Calls answered by one that had ended.
        refused: Calls that were not granted, or whose arguments were wrong.
        failed: Calls that ran and failed.
        in_doubt: Calls that an interrupted run had begun, and that were not repeated.
        queries: How often the function ran: less than `executed` where look-ups were put together.
        elsewhere: Calls answered by one of another process.
    """

    asked: int = 0
    executed: int = 0
    shared: int = 0
    remembered: int = 0
    refused: int = 0
    failed: int = 0
    in_doubt: int = 0
    queries: int = 0
    elsewhere: int = 0


class _Counts:
    """`ToolStatistics` in the making."""

    __slots__ = ToolStatistics.__struct_fields__

    def __init__(self) -> None:
        self.asked = self.executed = self.shared = self.remembered = 0
        self.refused = self.failed = self.in_doubt = self.queries = self.elsewhere = 0

    def frozen(self) -> ToolStatistics:
        return ToolStatistics(**{name: getattr(self, name) for name in self.__slots__})


class ToolPool:
    """Calls tools for many agents.

    Equal calls of a pure tool run once: those that come while one is under way wait for it, those that come later
    get its answer for as long as what it read is unchanged and the tool's `ttl` has not passed. When the one that
    runs fails, those that wait run it once more, together, instead of failing too. Single look-ups of a batchable tool
    become one query. Cancelling a caller ends only its own waiting; what nobody waits for any more is cancelled.
    Belongs to one event loop.

    Args:
        count_tokens: Counts the tokens of a text, for tools with `max_tokens`; may be called on a thread. Four bytes
            are taken for a token when None.
        elsewhere: Where equal calls of pure tools by other processes are; None where there are no other processes.
            Tools of the same name, description and parameters are the same there.
    """

    def __init__(self, *, count_tokens: CountTokens | None = None, elsewhere: Elsewhere | None = None) -> None:
        self._count_tokens = count_tokens or estimated_tokens
        self._threads = ToolThreads(_THREADS)
        self._runner = Runner(self._threads)
        self._flights = Flights()
        self._lookups = Lookups(self._flights, self._query)
        self._past = Past(_REMEMBERED, _REMEMBERED_CHARS)
        self._counts: dict[str, _Counts] = {}
        self._elsewhere = elsewhere
        self._determinants: dict[Hashable, bytes] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def call(self, call: ToolCall, granted: Mapping[str, AnyTool], again: bool = False) -> ToolAnswer:
        """Call a tool.

        Args:
            call: What the model asked for.
            granted: The tools of the agent that asks, by name; nothing else is executed, whatever the model says.
            again: Whether an interrupted run may have made this call already. What is pure or idempotent runs; an
                effect does not, and the answer says that nobody knows whether it happened.

        Returns:
            The answer; a failure is one too, told in words that help the model.
        """
        if self._loop is None:  # asking for it is a system call, so not for every call
            self._loop = asyncio.get_running_loop()
        now = self._loop.time
        began = now()
        tool = granted.get(call.name)
        counts = self._counts_of(_UNKNOWN if tool is None else call.name)
        counts.asked += 1
        try:
            tool, values = _checked(call, tool, granted)
        except ArgumentsRefusedError as error:
            counts.refused += 1
            return ToolAnswer(clean(f"refused: {error}", MAX_FAILURE_CHARS), ok=False, executed=False, latency_s=0.0)
        if again and tool.effect == "effect":
            counts.in_doubt += 1
            return ToolAnswer(_IN_DOUBT, ok=False, executed=False, latency_s=0.0, in_doubt=True)
        execution, executed = await self._answer(tool, values, counts, now)
        return ToolAnswer(execution.text, execution.ok, executed, now() - began)

    def statistics(self) -> dict[str, ToolStatistics]:
        """A frozen snapshot, by tool."""
        return {name: counts.frozen() for name, counts in self._counts.items()}

    async def aclose(self) -> None:
        """End what is under way; takes two seconds at most.

        A coroutine that goes on after it was cancelled is closed where it waits, and named in the log. A plain function
        that runs on a thread cannot be stopped; nobody waits for it.
        """
        await self._flights.aclose()
        self._threads.close()

    async def _answer(
        self, tool: AnyTool, values: dict[str, Any], counts: _Counts, now: Callable[[], float]
    ) -> tuple[Execution, bool]:
        key = await self._key(tool, values) if tool.effect == "pure" else None
        body = partial(self._execute, tool, values, counts, key)
        if key is None:
            return await self._flights.start(tool.name, body).wait(), True
        past = self._past.get(key, now())
        if past is not None:
            counts.remembered += 1
            return past, False
        execution, own = await self._flights.join(key, tool.name, body)
        if not own:
            counts.shared += 1
        return execution, own and not execution.is_borrowed

    async def _key(self, tool: AnyTool, values: dict[str, Any]) -> tuple[Any, ...] | None:
        """What equal calls have in common; None for a call that is equal to no other."""
        version: str | None = ""
        try:
            if type(tool).resource is not Tool.resource:
                # On a thread: asking a slow file system must not hold up every agent.
                version = await self._threads.run(lambda: tool.resource(values), tool.timeout_s)
            encoded = msgspec.json.encode(values, order="sorted", enc_hook=to_jsonable_python)
            return None if version is None else (tool.name, tool.identity(), encoded, version)
        except Exception:  # noqa: BLE001 - who cannot say what it would read shares nothing; the call tells why
            return None

    async def _execute(
        self, tool: AnyTool, values: dict[str, Any], counts: _Counts, key: tuple[Any, ...] | None, flight: Flight
    ) -> Execution:
        if self._elsewhere is None or key is None:
            execution = await self._execute_here(tool, values, counts, flight)
        else:
            known, patience_s = self._key_elsewhere(tool, key), tool.timeout_s
            here = partial(self._execute_here, tool, values, counts, flight)
            execution = await self._elsewhere.once(known, here, ttl_s=tool.ttl_s, patience_s=patience_s)
            counts.elsewhere += execution.is_borrowed
        # How old an answer of another process is nobody knows here.
        is_young = not execution.is_borrowed or tool.ttl_s is None
        if key is not None and is_young and (execution.ok or execution.is_final):
            assert self._loop is not None
            self._past.put(key, execution, self._loop.time(), tool.ttl_s)
        return execution

    def _key_elsewhere(self, tool: AnyTool, key: tuple[Any, ...]) -> str:
        """What equal calls have in common in all processes."""
        name, identity, encoded, version = key
        determinant = self._determinants.get(identity)
        if determinant is None:
            determinant = self._determinants[identity] = _determinant(tool)
        parts = (name.encode(), determinant, encoded, version.encode("utf-8", "surrogatepass"))
        return f"{name} {hashlib.sha256(b''.join(len(part).to_bytes(8) + part for part in parts)).hexdigest()}"

    async def _execute_here(self, tool: AnyTool, values: dict[str, Any], counts: _Counts, flight: Flight) -> Execution:
        if tool.batching is None:
            begun = partial(_count_run, counts)
            execution = await self._runner.run(tool, values, flight, partial(self._finished, tool), begun)
        else:
            counts.executed += 1
            execution = await self._looked_up(tool, values)
        if not execution.ok:
            counts.failed += 1
        return execution

    async def _looked_up(self, tool: AnyTool, values: dict[str, Any]) -> Execution:
        try:
            found = await self._lookups.ask(tool, values)
            if found.ok:
                return self._finished(tool, found.value)
        except AuroraSwarmError as error:
            found = Execution(f"{tool.name} failed: {error}", ok=False)
        return msgspec.structs.replace(found, text=clean(found.text, MAX_FAILURE_CHARS))

    async def _query(self, tool: AnyTool, values: Mapping[str, Any], flight: Flight) -> Execution:
        begun = partial(_count_query, self._counts_of(tool.name))
        return await self._runner.run(tool, values, flight, _as_value, begun)

    def _finished(self, tool: AnyTool, value: object) -> Execution:
        text = as_text(value, tool.max_chars)
        if tool.max_tokens is not None:
            text = first_tokens(text, tool.max_tokens, self._count_tokens)
        return Execution(text, ok=True)

    def _counts_of(self, name: str) -> _Counts:
        counts = self._counts.get(name)
        if counts is None:
            counts = self._counts[name] = _Counts()
        return counts


def _checked(call: ToolCall, tool: AnyTool | None, granted: Mapping[str, AnyTool]) -> tuple[AnyTool, dict[str, Any]]:
    """The tool and its arguments, checked here where they are used, whatever was checked before."""
    if tool is None:
        known = ", ".join(granted) or "none"
        raise ArgumentsRefusedError(f"there is no tool {show(call.name)}; there are: {known}")
    return tool, tool.validated(call.arguments)


def _determinant(tool: AnyTool) -> bytes:
    """What a tool does, whatever is granted: what an agent may ask for does not change what a call does."""
    bare = copy.copy(tool)
    bare.grants = {}
    bare.parameters = schema_of(tool.arguments)
    return bare.determinant()


def _as_value(value: object) -> Execution:
    return Execution("", ok=True, value=value)


def _count_run(counts: _Counts) -> None:
    counts.executed += 1
    counts.queries += 1


def _count_query(counts: _Counts) -> None:
    counts.queries += 1
