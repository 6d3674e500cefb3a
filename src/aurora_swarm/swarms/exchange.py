"""What the swarms of a hivemind have found, reconciled: versioned entries, and a stated rule where they conflict. Pure.

**Optimistic.** Nobody locks. A write says which versions of its key its author had seen; it replaces those and no
others. Two writes that had not seen each other both stay, and a rule says which of them is shown: a conflict is visible
until somebody writes who has seen both. No write is lost unless its own author, or somebody who had seen it, replaced
it.

**In any order.** Writes may come in any order and more than once, also from another board: the board is the same
afterwards. Versions are Lamport's ("Time, Clocks, and the Ordering of Events in a Distributed System", 1978); what was
seen is a version vector for each key (Parker et al., "Detection of Mutual Inconsistency in Distributed Systems", 1983).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from aurora_swarm.errors import CallbackError, UsageError

Order = tuple[int, str, str, float]


class Entry(msgspec.Struct, frozen=True):
    """One write.

    Args:
        key: Which of the shared tasks it is about.
        value: What was found.
        version: Higher than every version of the key that its author had seen; 1 for the first.
        who: The author; one who writes from two places at once needs a name for each.
        seen: The highest version of each author that was seen; these and lower ones are replaced.
        confidence: How sure the author is, 0 to 1.
    """

    key: str
    value: str
    version: int
    who: str
    seen: Mapping[str, int] = {}
    confidence: float = 1.0

    @property
    def order(self) -> Order:
        """Sorts the writes of a key the same way everywhere: by version, then by author."""
        return (self.version, self.who, self.value, self.confidence)


Chooser = Callable[[str, Sequence[Entry]], Entry | str]
"""Given a key and the entries that conflict, in a fixed order; returns one of them, or a text made of them. It is asked
again whenever the key is read, so the same entries had better give the same answer.
"""

Rule = Literal["latest", "confidence"] | Chooser
"""``latest``: the highest version wins, of equal ones that of the last author by name. ``confidence``: the surest wins,
of equals the latest.
"""


class View(msgspec.Struct, frozen=True):
    """A key as it is read.

    Args:
        key: Which.
        value: What is taken to be so.
        who: Whose it is; several names when a text was made of theirs.
        version: Of the entry that is shown, or the highest of those that a text was made of.
        contenders: All entries that nobody has replaced, in a fixed order; more than one when authors had not seen each
            other.
        seen: What a write that replaces all of this has seen.
        rule: By which the value was chosen; empty when there was nothing to choose.
    """

    key: str
    value: str
    who: str
    version: int
    contenders: tuple[Entry, ...]
    seen: Mapping[str, int]
    rule: str = ""

    @property
    def is_conflict(self) -> bool:
        """Whether authors who had not seen each other say different things."""
        return len({entry.value for entry in self.contenders}) > 1


class _Shelf:
    """One key: the entries that nobody has replaced, and what has been."""

    __slots__ = ("contenders", "known", "replaced")

    def __init__(self) -> None:
        self.contenders: dict[Order, Entry] = {}
        self.replaced: dict[str, int] = {}
        self.known: dict[str, int] = {}

    def add(self, entry: Entry) -> None:
        _raise_to(self.known, {**entry.seen, entry.who: max(entry.version, entry.seen.get(entry.who, 0))})
        _raise_to(self.replaced, entry.seen)
        self.contenders[entry.order] = entry
        if entry.seen or entry.version <= self.replaced.get(entry.who, 0):
            self.contenders = {
                order: each for order, each in self.contenders.items() if each.version > self.replaced.get(each.who, 0)
            }


def _raise_to(versions: dict[str, int], others: Mapping[str, int]) -> None:
    for who, version in others.items():
        versions[who] = max(version, versions.get(who, 0))


class SharedBoard:
    """Shared tasks by key, and what is known of each.

    Writing costs O(authors of the key), reading as much; what was replaced is not kept.

    Args:
        reconcile: The rule where entries conflict.

    Raises:
        UsageError: There is no such rule.
    """

    def __init__(self, reconcile: Rule = "latest") -> None:
        if not callable(reconcile) and reconcile not in _RULES:
            raise UsageError(
                f"there is no rule {reconcile!r}", remedy=f"name one of {', '.join(_RULES)}, or give a function"
            )
        self._rule = reconcile
        self._shelves: dict[str, _Shelf] = {}

    @property
    def rule(self) -> str:
        """The rule's name."""
        return self._rule if isinstance(self._rule, str) else getattr(self._rule, "__name__", "a function")

    def write(
        self, key: str, value: str, *, who: str, seen: Mapping[str, int] | None = None, confidence: float = 1.0
    ) -> Entry:
        """Write what was found; it replaces what its author had seen, and the author's own earlier writes.

        Args:
            key: Which of the shared tasks it is about.
            value: What was found.
            who: The author.
            seen: `View.seen` as it was when the author began; None for all that stands here now.
            confidence: How sure the author is, 0 to 1.

        Returns:
            The entry, for other boards to `merge`.
        """
        shelf = self._shelves.get(key)
        known = {} if shelf is None else shelf.known
        own = known.get(who, 0)
        base = dict(known if seen is None else seen)
        if own:
            base[who] = own
        entry = Entry(key, value, 1 + max(base.values(), default=0), who, base, confidence)
        self.merge([entry])
        return entry

    def merge(self, entries: Iterable[Entry]) -> None:
        """Take up entries of another board, or of one's own once more.

        Args:
            entries: In any order, any number of times.
        """
        for entry in entries:
            self._shelves.setdefault(entry.key, _Shelf()).add(entry)

    def read(self, key: str) -> View | None:
        """What is known of a key; None where nobody has written.

        Raises:
            CallbackError: The rule is a function, and it raised.
        """
        shelf = self._shelves.get(key)
        if shelf is None or not shelf.contenders:
            return None
        contenders = tuple(shelf.contenders[order] for order in sorted(shelf.contenders))
        return _view(key, contenders, dict(shelf.known), self._rule, self.rule)

    def views(self) -> list[View]:
        """All keys, in the order in which they were first written.

        Raises:
            CallbackError: As for `read`.
        """
        return [view for key in self._shelves if (view := self.read(key)) is not None]

    def conflicts(self) -> list[View]:
        """Keys on which authors differ who had not seen each other.

        Raises:
            CallbackError: As for `read`.
        """
        return [view for view in self.views() if view.is_conflict]

    def entries(self) -> list[Entry]:
        """All entries that nobody has replaced, for other boards to `merge`."""
        return [entry for shelf in self._shelves.values() for _, entry in sorted(shelf.contenders.items())]


def _view(key: str, contenders: tuple[Entry, ...], seen: dict[str, int], rule: Rule, name: str) -> View:
    latest = max(contenders, key=_latest)
    if len({entry.value for entry in contenders}) == 1:
        return View(key, latest.value, latest.who, latest.version, contenders, seen)
    chosen = max(contenders, key=_RULES[rule]) if isinstance(rule, str) else _asked(rule, key, contenders)
    if isinstance(chosen, Entry):
        return View(key, chosen.value, chosen.who, chosen.version, contenders, seen, name)
    everybody = ", ".join(sorted({entry.who for entry in contenders}))
    return View(key, chosen, everybody, latest.version, contenders, seen, name)


def _asked(chooser: Chooser, key: str, contenders: tuple[Entry, ...]) -> Entry | str:
    try:
        chosen: object = chooser(key, contenders)
    except Exception as error:
        problem = f"the rule that reconciles {key!r} raised {type(error).__name__}: {error}"
        raise CallbackError(problem, remedy="mend the function given as reconcile") from error
    if isinstance(chosen, Entry | str):
        return chosen
    problem = f"the rule that reconciles {key!r} returned a {type(chosen).__name__}"
    raise CallbackError(problem, remedy="return one of the entries, or a text")


def _latest(entry: Entry) -> tuple[int, str, str]:
    return (entry.version, entry.who, entry.value)


def _surest(entry: Entry) -> tuple[float, int, str, str]:
    return (entry.confidence, *_latest(entry))


_RULES: Mapping[str, Callable[[Entry], tuple[float | str, ...]]] = {"latest": _latest, "confidence": _surest}
