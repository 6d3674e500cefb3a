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
    """How many calls of one prefix may be at an endpoint whose cache is per slot.

    Args:
        slots: Sequences that the endpoint runs at a time, by endpoint; others have no gate.
    """

    def __init__(self, slots: Mapping[int, int]) -> None:
        self._slots = slots
        self._inside: dict[int, dict[str, int]] = {}
        self._waiting: dict[tuple[int, str], deque[Callable[[], None]]] = {}

    def enter(self, index: int, prefix: str) -> bool:
        """Whether one more call of the prefix may go to the endpoint now; if so it counts as there."""
        groups_here = self._inside.setdefault(index, {})
        inside = groups_here.setdefault(prefix, 0)
        if inside >= max(1, self._slots[index] // len(groups_here)):
            return False
        groups_here[prefix] = inside + 1
        return True

    def wait(self, index: int, prefix: str, notify: Callable[[], None]) -> None:
        """Be told when the call has been let in. Those who came first are let in first."""
        self._waiting.setdefault((index, prefix), deque()).append(notify)

    def withdraw(self, index: int, prefix: str, notify: Callable[[], None]) -> bool:
        """Stop waiting.

        Returns:
            Whether it was still waiting; if not, it had been let in and must `leave`.
        """
        queue = self._waiting.get((index, prefix), deque())
        if notify not in queue:
            return False
        queue.remove(notify)
        return True

    def leave(self, index: int, prefix: str) -> None:
        """A call is over: others of its prefix, or of those that share the slots, are let in."""
        groups_here = self._inside[index]
        groups_here[prefix] -= 1
        if not groups_here[prefix] and not self._waiting.get((index, prefix)):
            del groups_here[prefix]
        for other in (prefix, *groups_here):
            queue = self._waiting.get((index, other))
            while queue and self.enter(index, other):
                queue.popleft()()
            if queue is not None and not queue:
                del self._waiting[index, other]
