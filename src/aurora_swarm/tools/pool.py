"""Where tools run: once for equal calls, within their limits, and never beyond what was granted."""

from __future__ import annotations

import asyncio
import inspect
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic_core import to_json, to_jsonable_python

from aurora_swarm.errors import AuroraSwarmError, ToolFailedError
from aurora_swarm.inputs.files import show
from aurora_swarm.tools.beneath import RefusedPathError
from aurora_swarm.tools.bucket import TokenBucket
from aurora_swarm.tools.definition import AnyTool, ArgumentsRefusedError, Tool
from aurora_swarm.tools.files import FileTool
from aurora_swarm.tools.flights import Execution, Flights
from aurora_swarm.tools.threads import GivenUpError, ToolThreads, within
from aurora_swarm.values.message import ToolCall

_THREADS = 32
_REMEMBERED = 10_000
_REMEMBERED_CHARS = 64_000_000
_MAX_FAILURE_CHARS = 500
_UNKNOWN = "(unknown)"
"""What calls of tools that nobody has are counted under: a model can think up any number of names."""

_Key = tuple[str, bytes, str]


class ToolAnswer(msgspec.Struct, frozen=True):
    """What a tool call came to.

    Args:
        text: What the model is told; of a failure, what failed.
        ok: Whether the tool gave an answer.
        executed: Whether it ran for this call, rather than for an equal one.
        latency_s: Seconds from asking to the answer.
    """

    text: str
    ok: bool
    executed: bool
    latency_s: float


class ToolStatistics(msgspec.Struct, frozen=True):
    """What happened to the calls of one tool.

    Args:
        asked: Calls that models asked for.
        executed: Calls that ran.
        shared: Calls answered by one that was under way.
        remembered: Calls answered by one that had ended.
        refused: Calls that were not granted, or whose arguments were wrong.
        failed: Calls that ran and failed.
    """

    asked: int = 0
    executed: int = 0
    shared: int = 0
    remembered: int = 0
    refused: int = 0
    failed: int = 0


class ToolPool:
    """Calls tools for many agents.

    Equal calls of a pure tool run once: those that come while one is under way wait for it, those that come later
    get its answer for as long as what it read is unchanged. When the one that runs fails, those that wait run it
    once more, together, instead of failing too. Cancelling a caller ends only its own waiting; what nobody waits for
    any more is cancelled. Belongs to one event loop.
    """

    def __init__(self) -> None:
        self._threads = ToolThreads(_THREADS)
        self._buckets: dict[str, TokenBucket] = {}
        self._flights = Flights()
        self._past: OrderedDict[_Key, str] = OrderedDict()
        self._past_chars = 0
        self._counts: dict[str, dict[str, int]] = {}

    async def call(self, call: ToolCall, granted: Mapping[str, AnyTool]) -> ToolAnswer:
        """Call a tool.

        Args:
            call: What the model asked for.
            granted: The tools of the agent that asks, by name; nothing else is executed, whatever the model says.

        Returns:
            The answer; a failure is one too, told in words that help the model.
        """
        began = asyncio.get_running_loop().time()
        name = call.name if call.name in granted else _UNKNOWN
        self._count(name, "asked")
        try:
            tool, values = _granted(call, granted)
        except ArgumentsRefusedError as error:
            self._count(name, "refused")
            execution, executed = Execution(_clean(f"refused: {error}", _MAX_FAILURE_CHARS), ok=False), False
        else:
            execution, executed = await self._answer(tool, values)
        return ToolAnswer(execution.text, execution.ok, executed, asyncio.get_running_loop().time() - began)

    def statistics(self) -> dict[str, ToolStatistics]:
        """A frozen snapshot, by tool."""
        return {name: ToolStatistics(**counts) for name, counts in self._counts.items()}

    async def aclose(self) -> None:
        """End what is under way. A sync function that runs on a thread cannot be stopped; nobody waits for it."""
        await self._flights.aclose()
        self._threads.close()

    async def _answer(self, tool: AnyTool, values: dict[str, Any]) -> tuple[Execution, bool]:
        key = await self._key(tool, values)
        if key is None:
            return await self._execute(tool, values), True
        past = self._past.get(key)
        if past is not None:
            self._past.move_to_end(key)
            self._count(tool.name, "remembered")
            return Execution(past, ok=True), False

        async def execute() -> Execution:
            execution = await self._execute(tool, values)
            if execution.ok:
                self._remember(key, execution.text)
            return execution

        execution, own = await self._flights.join(key, execute)
        if not own:
            self._count(tool.name, "shared")
        return execution, own

    async def _key(self, tool: AnyTool, values: dict[str, Any]) -> _Key | None:
        """What equal calls have in common; None for a call that is equal to no other."""
        if tool.effect != "pure":
            return None
        version: str | None = ""
        if type(tool).resource is not Tool.resource:
            # On a thread: asking a slow file system must not hold up every agent.
            try:
                version = await self._threads.run(lambda: tool.resource(values), tool.timeout_s)
            except GivenUpError:
                return None
        if version is None:
            return None
        try:
            encoded = msgspec.json.encode(values, order="sorted", enc_hook=to_jsonable_python)
        except (TypeError, ValueError, RecursionError):
            return None
        return tool.name, tool.determinant() + encoded, version

    def _remember(self, key: _Key, text: str) -> None:
        self._past[key] = text
        self._past_chars += len(text)
        while len(self._past) > _REMEMBERED or self._past_chars > _REMEMBERED_CHARS:
            self._past_chars -= len(self._past.popitem(last=False)[1])

    async def _execute(self, tool: AnyTool, values: dict[str, Any]) -> Execution:
        await self._wait_for_rate(tool)
        self._count(tool.name, "executed")
        try:
            return Execution(await self._run(tool, values), ok=True)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            why = "failed: it cancelled itself"
        except GivenUpError as error:
            why = str(error)
        except (AuroraSwarmError, RefusedPathError) as error:
            why = f"failed: {error}"
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's tool may raise anything; the model is told
            why = f"failed: {type(error).__name__}: {error}"
        self._count(tool.name, "failed")
        return Execution(_clean(f"{tool.name} {why}", _MAX_FAILURE_CHARS), ok=False)

    async def _run(self, tool: AnyTool, values: dict[str, Any]) -> str:
        arguments = tool.call_arguments(values) if isinstance(tool, FileTool) else values
        if inspect.iscoroutinefunction(tool.function):
            async with within(tool.timeout_s):
                value = await tool.function(**arguments)
            return _as_text(value, tool.max_chars)
        return await self._threads.run(lambda: _as_text(tool.function(**arguments), tool.max_chars), tool.timeout_s)

    async def _wait_for_rate(self, tool: AnyTool) -> None:
        if tool.rate_limit is None:
            return
        now = asyncio.get_running_loop().time()
        bucket = self._buckets.setdefault(tool.name, TokenBucket(tool.rate_limit, now))
        await asyncio.sleep(bucket.take(now))

    def _count(self, name: str, what: str) -> None:
        counts = self._counts.setdefault(name, {})
        counts[what] = counts.get(what, 0) + 1


def _granted(call: ToolCall, granted: Mapping[str, AnyTool]) -> tuple[AnyTool, dict[str, Any]]:
    """The tool and its arguments, checked here where they are used, whatever was checked before."""
    tool = granted.get(call.name)
    if tool is None:
        known = ", ".join(granted) or "none"
        raise ArgumentsRefusedError(f"there is no tool {show(call.name)}; there are: {known}")
    return tool, tool.validated(call.arguments)


def _as_text(value: object, max_chars: int) -> str:
    """What a tool returned, as the model gets it."""
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        raise ToolFailedError("it returned something to be awaited; define it with async def")
    if isinstance(value, str):
        return _clean(value, max_chars)
    try:
        return _clean(to_json(value, fallback=str).decode(), max_chars)
    except ValueError as error:
        problem = f"it returned a {type(value).__name__} that cannot be written as JSON"
        raise ToolFailedError(problem) from error


def _clean(text: str, max_chars: int) -> str:
    """Not much more than so many characters, and no half surrogate pair, which no wire carries."""
    # A tool that cut its own answer has said so in lines of its own, which are not to be cut again.
    slack = 200
    shown = text if len(text) <= max_chars + slack else text[:max_chars]
    note = "" if shown is text else f"\n[cut after {max_chars} of {len(text)} characters]"
    return shown.encode("utf-8", "replace").decode() + note
