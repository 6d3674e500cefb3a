"""A run without agents that can be steered: for trying the controls out, and for tests of what uses them."""

from __future__ import annotations

import time
from collections import Counter
from typing import Literal

import msgspec

from aurora_swarm.errors import UsageError
from aurora_swarm.swarms.control import ItemStatus, SwarmStatus
from aurora_swarm.swarms.ids import new_id
from aurora_swarm.swarms.work import FINAL
from aurora_swarm.values.reply import Usage

_FINAL = frozenset(state.value for state in FINAL)


class SteeredRun:
    """An `aurora_swarm.swarms.control.Controls` whose tasks do nothing but change their state.

    Args:
        tasks: Tasks, all running, each with a worker of its own: ``task-0`` with ``worker-0`` and so on.
        id: The run's id; one is made when empty.
        name: The run's name.
    """

    def __init__(self, tasks: int = 3, *, id: str = "", name: str = "steered") -> None:  # noqa: A002 - what it is
        self.id = id or new_id()
        self.name = name
        self.said: list[tuple[str, str]] = []
        self._began_s = time.monotonic()
        self._paused = False
        self._items: dict[str, ItemStatus] = {}
        for n in range(tasks):
            task, worker = f"task-{n}", f"worker-{n}"
            self._put(ItemStatus(kind="worker", id=worker, title=worker, state="working", partner=task, attempts=1))
            self._put(ItemStatus(kind="task", id=task, title=f"Task {n}", state="running", partner=worker, attempts=1))

    def status(self) -> SwarmStatus:
        """The run at this moment."""
        return SwarmStatus(
            id=self.id,
            name=self.name,
            objective="",
            phase="paused" if self._paused else "working",
            tasks=Counter(item.state for item in self._items.values() if item.kind == "task"),
            workers=Counter(item.state for item in self._items.values() if item.kind == "worker"),
            usage=Usage(),
            seconds=time.monotonic() - self._began_s,
        )

    def items(
        self, *, kind: Literal["task", "worker"] | None = None, state: str | None = None, limit: int = 100
    ) -> list[ItemStatus]:
        """Tasks and workers, the newest first."""
        newest = reversed(self._items.values())
        return [item for item in newest if kind in (None, item.kind) and state in (None, item.state)][:limit]

    def item(self, id: str) -> ItemStatus:  # noqa: A002
        """One of them."""
        try:
            return self._items[id]
        except KeyError:
            raise UsageError(f"nothing here is called {id}", remedy="items lists what there is") from None

    def pause(self, id: str) -> None:  # noqa: A002
        """Pause it."""
        if id == self.id:
            self._paused = True
        else:
            self._turn(id, "paused", "paused")

    def resume(self, id: str) -> None:  # noqa: A002
        """Go on."""
        if id == self.id:
            self._paused = False
        elif self.item(id).state == "paused":
            self._turn(id, "running" if self.item(id).kind == "task" else "working", "resumed")
        elif self.item(id).state in _FINAL:
            raise UsageError(f"{id} is {self.item(id).state}, it cannot go on", remedy="requeue takes it up again")

    def cancel(self, id: str) -> None:  # noqa: A002
        """End it; a worker's task is ready for another one."""
        if id == self.id:
            for item in self.items(kind="task", limit=len(self._items)):
                self._turn(item.id, "cancelled", "the run was cancelled")
        elif self.item(id).kind == "task":
            self._turn(id, "cancelled", "cancelled")
        else:
            self._turn(id, "gone", "sent home")

    def requeue(self, id: str) -> None:  # noqa: A002
        """Begin a task anew."""
        if id == self.id or self.item(id).kind == "worker":
            raise UsageError(f"{id} is no task", remedy="requeue takes the id of a task")
        self._put(msgspec.structs.replace(self.item(id), state="ready", partner="", attempts=0, note="requeued"))

    def steer(self, id: str, text: str) -> None:  # noqa: A002
        """Keep in `said` what was said to whom."""
        if id != self.id:
            self.item(id)
        self.said.append((id, text))

    def _turn(self, id: str, state: str, note: str) -> None:  # noqa: A002
        if self.item(id).state not in _FINAL:
            self._put(msgspec.structs.replace(self.item(id), state=state, note=note))

    def _put(self, item: ItemStatus) -> None:
        self._items[item.id] = item
