"""Which prompts begin alike, and where they go, so that an engine computes a shared beginning once. Pure.

A list of prompts is known before anything is sent: `groups` finds who shares a beginning, `plan` gives each group an
endpoint of its own, or several where it is larger than an endpoint's share. What comes one by one finds its place
with `Homes`: where its prefix went before, while that endpoint has not much more to do than the others.

Engines with one cache for all sequences (vLLM, SGLang) need no more. llama.cpp keeps a cache per slot, and computes a
prefix once per slot that it lands in: there `Gate` lets a group use its share of the slots only, so that groups do not
wash each other out.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b

LEVELS = (512, 1024, 2048, 4096, 8192, 16384, 32768)
"""Characters that two prompts must have in common; the longest level that holds decides."""
BOUND = 1.25
"""Load of an endpoint, in units of the mean, up to which a prefix sticks to it."""
BOUND_FLOOR = 4
"""Calls above the mean that are always allowed, so that small loads do not scatter a prefix."""
MOST_HOMES = 65_536
"""Prefixes remembered; the oldest are forgotten first."""


def groups(prompts: Sequence[str]) -> list[str]:
    """For each prompt the beginning that it shares with others of the list.

    Costs one look at the first 512 characters of each where nothing is shared.

    Args:
        prompts: Any texts.

    Returns:
        One identity per prompt: equal for those that belong together, empty for a prompt that shares nothing, and all
        empty where all prompts are one group, for which every place is as good.
    """
    found = [""] * len(prompts)
    alive = list(range(len(prompts)))
    for level in LEVELS:
        together: dict[str, list[int]] = {}
        for i in alive:
            if len(prompts[i]) >= level:
                together.setdefault(prompts[i][:level], []).append(i)
        alive = []
        for beginning, members in together.items():
            if len(members) > 1:
                alive += members
                identity = blake2b(beginning.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
                for i in members:
                    found[i] = identity
        if not alive:
            break
    return [""] * len(prompts) if len(set(found)) == 1 else found


def plan(found: Sequence[str], members: Sequence[int]) -> list[int | None]:
    """An endpoint for each prompt of a group.

    Largest groups first, each to the endpoint with the least planned; no endpoint is given more than `BOUND` times its
    share, so that a large group spreads over several.

    Args:
        found: As `groups` returns it.
        members: Endpoints to choose from.

    Returns:
        One endpoint per prompt; None for prompts of no group, which fill the gaps.
    """
    by_group: dict[str, list[int]] = {}
    for i, beginning in enumerate(found):
        if beginning:
            by_group.setdefault(beginning, []).append(i)
    pins: list[int | None] = [None] * len(found)
    cap = max(2, math.ceil(BOUND * sum(map(len, by_group.values())) / len(members)))
    planned = [(0, place, member) for place, member in enumerate(members)]
    for group in sorted(by_group.values(), key=len, reverse=True):
        rest = group
        while rest:
            load, place, member = heapq.heappop(planned)
            part, rest = rest[: cap - load], rest[cap - load :]
            for i in part:
                pins[i] = member
            heapq.heappush(planned, (load + len(part), place, member))
    return pins


class Homes:
    """Where prefixes went.

    Args:
        loads: Calls that each endpoint has, kept up to date by its owner.
    """

    def __init__(self, loads: Sequence[int]) -> None:
        self._loads = loads
        self._homes: dict[str, list[int]] = {}

    def choose(self, prefix: str, total: int, allowed: Callable[[int], bool]) -> int | None:
        """The least loaded endpoint that has seen the prefix, while its load is bounded.

        Args:
            prefix: Identity of the prefix.
            total: Calls under way over the whole fleet.
            allowed: Whether an endpoint may be used for this call.

        Returns:
            The endpoint, or None: any may take it, and `note` should be told which did.
        """
        homes = [i for i in self._homes.get(prefix, ()) if allowed(i)]
        if not homes:
            return None
        best = min(homes, key=self._loads.__getitem__)
        bound = BOUND * total / len(self._loads) + BOUND_FLOOR
        return best if self._loads[best] < bound else None

    def note(self, prefix: str, index: int) -> None:
        """An endpoint computes the prefix."""
        homes = self._homes.setdefault(prefix, [])
        if index not in homes:
            homes.append(index)
        if len(self._homes) > MOST_HOMES:
            del self._homes[next(iter(self._homes))]


class Gate:
    """Lets calls to endpoints whose cache is per slot, so that prefixes do not wash each other out.

    At most as many prefixes as the endpoint has slots are under way there, each with its share of the slots; the
    others wait for one of them to be through. A prefix uses a further slot, where it must be computed once more, only
    if its calls would wait longer for the slots that it has.

    Args:
        slots: Sequences that the endpoint runs at a time, by endpoint; others have no gate.
    """

    def __init__(self, slots: Mapping[int, int]) -> None:
        self._slots = slots
        self._places: dict[int, _Place] = {}

    def wait(self, index: int, prefix: str, notify: Callable[[bool], None]) -> None:
        """Ask to be let in; `open` does so, once all who come together have asked.

        Args:
            index: The endpoint.
            prefix: Identity of the prefix.
            notify: Called when the call may go, with whether the prefix has to be computed for it.
        """
        self._places.setdefault(index, _Place()).group(prefix).waiting.append(notify)

    def open(self, index: int) -> None:
        """Let in who may go."""
        if place := self._places.get(index):
            place.let_in(self._slots[index])

    def withdraw(self, index: int, prefix: str, notify: Callable[[bool], None]) -> bool:
        """Stop waiting.

        Returns:
            Whether it was still waiting; if not, it had been let in and must `leave`.
        """
        place = self._places.get(index)
        group = place.find(prefix) if place else None
        if place is None or group is None or notify not in group.waiting:
            return False
        group.waiting.remove(notify)
        place.forget_if_done(prefix, group)
        self.open(index)
        return True

    def leave(self, index: int, prefix: str, *, cold: bool, took_s: float | None) -> None:
        """A call is over: others of its prefix, or of those that wait for the slots, are let in.

        Args:
            index: The endpoint.
            prefix: Identity of the prefix.
            cold: What `notify` was told.
            took_s: Seconds since then; None where there was no answer.
        """
        place = self._places[index]
        place.left(prefix, cold, took_s)
        self.open(index)
        if place.is_empty:
            del self._places[index]


class _Group:
    """Calls of one prefix at one endpoint: who waits, how many are inside, and on how many slots they were at most."""

    __slots__ = ("inside", "waiting", "warm")

    def __init__(self) -> None:
        self.waiting: deque[Callable[[bool], None]] = deque()
        self.inside = 0
        self.warm = 0

    def let_in(self) -> None:
        self.inside += 1
        cold = self.inside > self.warm
        self.warm = max(self.warm, self.inside)
        self.waiting.popleft()(cold)


class _Place:
    """One endpoint: prefixes under way, those that wait for them to be through, and what a slot's first call cost."""

    def __init__(self) -> None:
        self._active: dict[str, _Group] = {}
        self._later: dict[str, _Group] = {}
        self._cold_s = self._warm_s = 0.0

    @property
    def is_empty(self) -> bool:
        return not self._active and not self._later

    def find(self, prefix: str) -> _Group | None:
        return self._active.get(prefix) or self._later.get(prefix)

    def group(self, prefix: str) -> _Group:
        return self.find(prefix) or self._later.setdefault(prefix, _Group())

    def forget_if_done(self, prefix: str, group: _Group) -> None:
        if not group.waiting and not group.inside:
            self._active.pop(prefix, None)
            self._later.pop(prefix, None)

    def left(self, prefix: str, cold: bool, took_s: float | None) -> None:
        group = self._active[prefix]
        group.inside -= 1
        self.forget_if_done(prefix, group)
        if took_s is not None and cold:
            self._cold_s = took_s
        elif took_s is not None:
            self._warm_s = took_s

    def let_in(self, slots: int) -> None:
        while self._later and len(self._active) < slots:
            prefix = next(iter(self._later))
            self._active[prefix] = self._later.pop(prefix)
        room = slots - sum(group.inside for group in self._active.values())
        share, more = divmod(slots, len(self._active) or 1)
        for number, group in enumerate(list(self._active.values())):
            mine = share + (number < more)
            group.warm = min(group.warm, mine)
            while room > 0 and group.waiting and group.inside < mine and self._may_enter(group):
                room -= 1
                group.let_in()

    def _may_enter(self, group: _Group) -> bool:
        """Whether a slot has the prefix, or computing it in a further one is quicker than to wait for those."""
        if group.inside < group.warm or not group.warm or not self._warm_s:
            return True
        return len(group.waiting) * self._warm_s > group.warm * self._cold_s
