"""Look-ups of single keys that become one query."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from pydantic_core import to_jsonable_python

from aurora_swarm.errors import ToolFailedError
from aurora_swarm.tools.definition import AnyTool, Batching
from aurora_swarm.tools.flights import Execution, Flight, Flights

Query = Callable[[AnyTool, Mapping[str, Any], Flight], Coroutine[Any, Any, Execution]]

_REPEATS_PER_HALVING = 4
"""How often a failed query is repeated for parts of its keys, for each time that they can be halved. Two bad keys
among 500 are found; a database that is down is not asked 500 times."""


class _Group:
    """Look-ups that may go together: of one tool, and equal in all but their key."""

    def __init__(self, tool: AnyTool, batching: Batching, others: Mapping[str, Any]) -> None:
        self.tool = tool
        self.batching = batching
        self.others = others
        self.waiting: dict[Hashable, list[asyncio.Future[Execution]]] = {}
        self.under_way = 0
        self.handle: asyncio.Handle | None = None


_Batch = dict[Hashable, list[asyncio.Future[Execution]]]


class Lookups:
    """Puts together what is asked in the same moment.

    The first look-up goes at the loop's next turn, together with whatever was asked until then. While a query is under
    way, later ones gather until it ends, the tool's window has passed, or the batch is full.

    Args:
        flights: Where queries run.
        query: Runs a tool's function with a list of keys, in a flight, within the tool's limits.
    """

    def __init__(self, flights: Flights, query: Query) -> None:
        self._flights = flights
        self._query = query
        self._groups: dict[Hashable, _Group] = {}

    async def ask(self, tool: AnyTool, values: Mapping[str, Any]) -> Execution:
        """Look one key up.

        Args:
            tool: Has a `batching`.
            values: Its arguments, as a model gave them.

        Returns:
            The value found, or why there is none; a key that is not there is a final failure.
        """
        assert tool.batching is not None
        others = dict(values)
        key = others.pop(tool.batching.key)
        group_id, group = self._group(tool, tool.batching, others)
        answer: asyncio.Future[Execution] = asyncio.get_running_loop().create_future()
        try:
            group.waiting.setdefault(key, []).append(answer)
        except TypeError as error:
            raise ToolFailedError(f"{type(key).__name__} cannot be a key") from error
        self._schedule(group_id, group)
        return await answer

    def _group(self, tool: AnyTool, batching: Batching, others: Mapping[str, Any]) -> tuple[Hashable, _Group]:
        group_id = (tool.identity(), msgspec.json.encode(others, order="sorted", enc_hook=to_jsonable_python))
        group = self._groups.get(group_id)
        if group is None:
            group = self._groups[group_id] = _Group(tool, batching, others)
        return group_id, group

    def _schedule(self, group_id: Hashable, group: _Group) -> None:
        if len(group.waiting) >= group.batching.max_batch:
            self._send(group_id, group)
        elif group.handle is None:
            loop = asyncio.get_running_loop()
            send = partial(self._send, group_id, group)
            alone = not group.under_way
            group.handle = loop.call_soon(send) if alone else loop.call_later(group.batching.window_s, send)

    def _send(self, group_id: Hashable, group: _Group) -> None:
        """Send what waits; whoever was cancelled meanwhile wants nothing."""
        if group.handle is not None:
            group.handle.cancel()
            group.handle = None
        batch: _Batch = {}
        for key, answers in group.waiting.items():
            wanted = [answer for answer in answers if not answer.done()]
            if wanted:
                batch[key] = wanted
        group.waiting = {}
        if not batch:
            self._drop_idle(group_id, group)
            return
        group.under_way += 1
        flight = self._flights.start(group.tool.name, partial(self._settled, group, batch))
        flight.task.add_done_callback(lambda _: self._ended(group_id, group, batch))
        _cancel_with(flight, batch)

    def _ended(self, group_id: Hashable, group: _Group, batch: _Batch) -> None:
        """A query has ended: what gathered meanwhile goes now."""
        _tell(batch, Execution(f"{group.tool.name} was cancelled", ok=False))
        group.under_way -= 1
        if group.waiting and not group.under_way:
            self._send(group_id, group)
        else:
            self._drop_idle(group_id, group)

    def _drop_idle(self, group_id: Hashable, group: _Group) -> None:
        if not group.under_way and not group.waiting:
            self._groups.pop(group_id, None)

    async def _settled(self, group: _Group, batch: _Batch, _: Flight) -> Execution:
        repeats = [_REPEATS_PER_HALVING * math.ceil(math.log2(len(batch)))]
        await self._settle(group, batch, repeats)
        return Execution("", ok=True)

    async def _settle(self, group: _Group, batch: _Batch, repeats: list[int]) -> None:
        """Answer every key of a batch, by halves where the whole fails."""
        keys = list(batch)
        arguments = {group.batching.keys: keys, **group.others}
        flight = self._flights.start(group.tool.name, partial(self._query, group.tool, arguments))
        execution = await flight.wait()
        if execution.ok:
            _hand_out(group.tool.name, batch, execution.value)
        elif execution.is_late or len(keys) == 1 or repeats[0] < 2:
            _tell(batch, execution)
        else:
            repeats[0] -= 2
            half = len(keys) // 2
            parts = ({key: batch[key] for key in part} for part in (keys[:half], keys[half:]))
            await asyncio.gather(*(self._settle(group, part, repeats) for part in parts))


def _cancel_with(flight: Flight, batch: _Batch) -> None:
    """End a query when the last of those who wait for it is cancelled."""
    left = sum(map(len, batch.values()))

    def done(answer: asyncio.Future[Execution]) -> None:
        nonlocal left
        left -= 1
        if not left and answer.cancelled():
            flight.cancel()

    for answers in batch.values():
        for answer in answers:
            answer.add_done_callback(done)


def _hand_out(name: str, batch: _Batch, value: object) -> None:
    """To each key its own part of what a query returned."""
    if isinstance(value, Mapping):
        found: Iterable[tuple[Hashable, Any]] = ((key, value.get(key, _ABSENT)) for key in batch)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and len(value) == len(batch):
        found = zip(batch, (_ABSENT if part is None else part for part in value), strict=True)
    else:
        problem = f"{name} failed: it must return a mapping, or a list as long as the keys ({len(batch)})"
        _tell(batch, Execution(problem, ok=False, is_final=True))
        return
    for key, part in found:
        _tell({key: batch[key]}, _found(name, key, part))


def _found(name: str, key: Hashable, part: Any) -> Execution:
    if part is _ABSENT:
        return Execution(f"{name} found nothing for {key!r:.200}", ok=False, is_final=True)
    if isinstance(part, Exception):
        return Execution(f"{name} failed: {type(part).__name__}: {part}", ok=False)
    return Execution("", ok=True, value=part)


def _tell(batch: _Batch, execution: Execution) -> None:
    for answers in batch.values():
        for answer in answers:
            if not answer.done():
                answer.set_result(execution)


_ABSENT = object()
