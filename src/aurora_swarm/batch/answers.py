"""Answers of pure tools that all processes of a run share: equal calls run once over all of them."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import Self

from aurora_swarm.errors import StorageError
from aurora_swarm.ports.shards import ShardStore
from aurora_swarm.tools.elsewhere import Make
from aurora_swarm.tools.flights import Execution

MAX_PAYLOAD = 256 * 1024
"""Bytes of an answer at most; one that is longer is made by every process that needs it."""

GIVE_BACK_S = 2.0
"""Longest that closing waits for calls that are being given back."""

_OK, _FINAL, _TOO_LONG = b"o", b"f", b"x"

_LOGGER = logging.getLogger(__name__)


class SharedAnswers:
    """The answers of a run, as one process sees them; what `aurora_swarm.tools.pool.ToolPool` takes as `elsewhere`.

    A call that its process does not end, because it died, is free for another one when its lease is over. While the
    store cannot be reached every process makes its own calls. Used as ``async with SharedAnswers(store, owner):``;
    the store is not closed.

    Args:
        store: What the processes share.
        owner: This process, by a name that no other one has.
    """

    def __init__(self, store: ShardStore, owner: str) -> None:
        self._store = store
        self._owner = owner
        self._numbers = itertools.count()
        self._given_back: set[asyncio.Task[None]] = set()
        self._is_unreachable = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._given_back:
            await asyncio.wait(list(self._given_back), timeout=GIVE_BACK_S)
        for task in self._given_back:
            task.cancel()

    async def once(self, key: str, make: Make, *, ttl_s: float | None, patience_s: float) -> Execution:
        """See `aurora_swarm.tools.elsewhere.Elsewhere`."""
        owner = f"{self._owner} call {next(self._numbers)}"
        try:
            found = await self._found(key, owner, patience_s)
            if found is not None:
                return found
            execution = await make()
            await self._tell(key, owner, execution, ttl_s)
        except BaseException:
            # Cancelled or closed: nothing may be awaited any more, and others must not wait for this call.
            self._give_back(key, owner)
            raise
        return execution

    async def _found(self, key: str, owner: str, patience_s: float) -> Execution | None:
        """What the call came to elsewhere; None where it is to be made here."""
        now = asyncio.get_running_loop().time
        until = now() + 2 * patience_s + self._store.plan.lease_s
        try:
            payload = await self._store.find_answer(key)
            while payload is None:
                if now() >= until or await self._store.begin_answer(key, owner):
                    return None
                payload = await self._store.await_answer(key, until - now())
        except StorageError as error:
            self._note(error)
            return None
        return decode_answer(payload)

    async def _tell(self, key: str, owner: str, execution: Execution, ttl_s: float | None) -> None:
        try:
            await self._store.end_answer(key, owner, encode_answer(execution), ttl_s=ttl_s)
            self._is_unreachable = False
        except StorageError as error:
            self._note(error)

    def _give_back(self, key: str, owner: str) -> None:
        ending = self._tell(key, owner, Execution("", ok=False), None)
        task = asyncio.get_running_loop().create_task(ending)
        self._given_back.add(task)
        task.add_done_callback(self._given_back.discard)

    def _note(self, error: StorageError) -> None:
        if not self._is_unreachable:
            _LOGGER.warning("answers of tools are not shared while the store cannot be reached: %s", error)
        self._is_unreachable = True


def encode_answer(execution: Execution) -> bytes | None:
    """An answer as other processes get it; None for a failure that another one need not have."""
    if not execution.ok and not execution.is_final:
        return None
    payload = (_OK if execution.ok else _FINAL) + execution.text.encode("utf-8", "surrogatepass")
    return payload if len(payload) <= MAX_PAYLOAD else _TOO_LONG


def decode_answer(payload: bytes) -> Execution | None:
    """What was encoded; None where it was too long, or cannot be read."""
    kind = payload[:1]
    if kind not in {_OK, _FINAL}:
        return None
    try:
        text = payload[1:].decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None
    return Execution(text, ok=kind == _OK, is_final=kind == _FINAL, is_borrowed=True)
