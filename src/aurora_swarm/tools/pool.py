"""Where tools run: once for equal calls, within their limits, and never beyond what was granted."""

from __future__ import annotations

import asyncio
import inspect
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from aurora_swarm.tools.bucket import TokenBucket
from aurora_swarm.tools.definition import AnyTool, ArgumentsRefusedError
from aurora_swarm.tools.files import FileTool
from aurora_swarm.values.message import ToolCall

_THREADS = 32
_REMEMBERED = 10_000


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
    get its answer for as long as what it read is unchanged. When the one that runs fails, the next in line runs
    again instead of failing too. Cancelling a caller ends only its own waiting.
    """

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._buckets: dict[str, TokenBucket] = {}
        self._under_way: dict[tuple[str, bytes, str], asyncio.Task[str]] = {}
        self._past: OrderedDict[tuple[str, bytes, str], str] = OrderedDict()
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
        executed = False
        ok = False
        self._count(call.name, "asked")
        try:
            text, executed = await self._answer(*self._granted(call, granted))
            ok = True
        except ArgumentsRefusedError as error:
            text = f"refused: {error}"
            self._count(call.name, "refused")
        except _ToolError as error:
            text, executed = str(error), True
            self._count(call.name, "failed")
        return ToolAnswer(text, ok, executed, asyncio.get_running_loop().time() - began)

    def statistics(self) -> dict[str, ToolStatistics]:
        """A frozen snapshot, by tool."""
        return {name: ToolStatistics(**counts) for name, counts in self._counts.items()}

    async def aclose(self) -> None:
        """End what is under way. A sync function that runs on a thread cannot be stopped; nobody waits for it."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _granted(self, call: ToolCall, granted: Mapping[str, AnyTool]) -> tuple[AnyTool, dict[str, Any]]:
        """The tool and its arguments, checked here where they are used, whatever was checked before."""
        tool = granted.get(call.name)
        if tool is None:
            raise ArgumentsRefusedError(f"there is no tool {call.name}; there are: {', '.join(granted) or 'none'}")
        return tool, tool.validated(call.arguments)

    async def _answer(self, tool: AnyTool, values: dict[str, Any]) -> tuple[str, bool]:
        if tool.effect != "pure":
            return await self._execute(tool, values), True
        version = await asyncio.get_running_loop().run_in_executor(self._executor(), tool.resource, values)
        if version is None:
            return await self._execute(tool, values), True
        key = (tool.name, tool.determinant() + msgspec.json.encode(values, order="sorted", enc_hook=str), version)
        return await self._shared(tool, values, key)

    async def _shared(self, tool: AnyTool, values: dict[str, Any], key: tuple[str, bytes, str]) -> tuple[str, bool]:
        while True:
            if key in self._past:
                self._past.move_to_end(key)
                self._count(tool.name, "remembered")
                return self._past[key], False
            leader = self._under_way.get(key)
            if leader is None:
                return await self._lead(tool, values, key), True
            try:
                text = await asyncio.shield(leader)
            except _ToolError:
                # The leader failed; that is its own failure. The first of those who waited leads now.
                continue
            self._count(tool.name, "shared")
            return text, False

    async def _lead(self, tool: AnyTool, values: dict[str, Any], key: tuple[str, bytes, str]) -> str:
        # A task of its own, so that the one who asked first may be cancelled without failing those who wait.
        task = asyncio.get_running_loop().create_task(self._execute(tool, values))
        self._under_way[key] = task
        task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task)

    def _ended(self, key: tuple[str, bytes, str], task: asyncio.Task[str]) -> None:
        del self._under_way[key]
        if not task.cancelled() and task.exception() is None:
            self._past[key] = task.result()
            if len(self._past) > _REMEMBERED:
                self._past.popitem(last=False)

    async def _execute(self, tool: AnyTool, values: dict[str, Any]) -> str:
        await self._wait_for_rate(tool)
        self._count(tool.name, "executed")
        arguments = tool.call_arguments(values) if isinstance(tool, FileTool) else values
        try:
            async with asyncio.timeout(tool.timeout_s):
                value = await self._run(tool, arguments)
        except TimeoutError:
            raise _ToolError(f"{tool.name} took longer than {tool.timeout_s:g} s") from None
        except Exception as error:
            raise _ToolError(f"{tool.name} failed: {type(error).__name__}: {error}") from error
        return _cut(value if isinstance(value, str) else _as_json(value), tool.max_chars)

    async def _run(self, tool: AnyTool, arguments: dict[str, Any]) -> Any:
        if inspect.iscoroutinefunction(tool.function):
            return await tool.function(**arguments)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor(), lambda: tool.function(**arguments))

    async def _wait_for_rate(self, tool: AnyTool) -> None:
        if tool.rate_limit is None:
            return
        now = asyncio.get_running_loop().time()
        bucket = self._buckets.setdefault(tool.name, TokenBucket(tool.rate_limit, now))
        await asyncio.sleep(bucket.take(now))

    def _executor(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="tool")
        return self._threads

    def _count(self, name: str, what: str) -> None:
        counts = self._counts.setdefault(name, {})
        counts[what] = counts.get(what, 0) + 1


class _ToolError(Exception):
    """A tool ran and failed; the text is written for the model."""


def _as_json(value: object) -> str:
    try:
        return msgspec.json.encode(value, enc_hook=str).decode()
    except (TypeError, ValueError, UnicodeEncodeError, RecursionError):
        return str(value)


def _cut(text: str, max_chars: int) -> str:
    # A tool that cut its own answer has said so in a line of its own, which is not to be cut again.
    slack = 100
    if len(text) <= max_chars + slack:
        return text
    return f"{text[:max_chars]}\n[cut after {max_chars} of {len(text)} characters]"
