"""What is to be changed in a store, and how several such orders become one transaction. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from aurora_swarm.memory.changes import Change, Puts, Removes
from aurora_swarm.memory.checking import Terms, Vectors, length_fault
from aurora_swarm.memory.exact_collection import ExactCollection
from aurora_swarm.ports.store import Document


class Make(msgspec.Struct, frozen=True):
    """A collection is wanted."""

    name: str
    fields: Mapping[str, str] | None


class Drop(msgspec.Struct, frozen=True):
    """A collection is to be deleted."""

    name: str


class Put(msgspec.Struct, frozen=True):
    """Documents are to be written."""

    collection: ExactCollection
    documents: Sequence[Document]
    vectors: Vectors


class Remove(msgspec.Struct, frozen=True):
    """Documents are to be deleted: those of the ids, if any are given, that match the terms, if any are given."""

    collection: ExactCollection
    ids: Sequence[str] | None
    terms: Terms | None


Order = Make | Drop | Put | Remove
Edit = Put | Remove


def runs(orders: Sequence[Order]) -> Iterator[list[Order]]:
    """The orders in their order, in groups of which each can be decided before any of it is done.

    What makes or drops a collection stands alone, and what a filter deletes is looked up before anything else of its
    group.
    """
    run: list[Order] = []
    for order in orders:
        alone = isinstance(order, Make | Drop)
        if run and (alone or isinstance(run[0], Make | Drop) or _looks_up(order)):
            yield run
            run = []
        run.append(order)
    if run:
        yield run


def _looks_up(order: Order) -> bool:
    return isinstance(order, Remove) and order.terms is not None


class Plan:
    """The changes of one group of edits, gathered until they are written, then done in memory.

    Attributes:
        changes: What is to be written.
    """

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self._puts: tuple[int, list[Document], list[Vectors]] | None = None
        self._dimensions: dict[int, int] = {}
        self._ids: dict[int, Sequence[str]] = {}

    def add(self, edit: Edit) -> None:
        """Take in one edit.

        Raises:
            StoreError: It cannot be done; the plan is as it was.
        """
        edit.collection.refuse_use()
        if isinstance(edit, Put):
            self._add_put(edit)
        else:
            self._ids[id(edit)] = ids = _ids_of(edit)
            self._puts = None
            self.changes.append(Removes(edit.collection.key, ids))

    def done(self, edit: Edit) -> int | None:
        """Do one edit in memory, once all are written; in the order in which they were added."""
        table = edit.collection.table
        if isinstance(edit, Put):
            table.put(edit.documents, edit.vectors)
            edit.collection.table = table.compacted()
            return None
        gone = table.remove(self._ids[id(edit)])
        edit.collection.table = table.compacted()
        return gone

    def _add_put(self, edit: Put) -> None:
        key, length = edit.collection.key, edit.vectors.shape[1]
        there = self._dimensions.get(key, edit.collection.table.dimensions)
        if fault := length_fault(length, there, f"document {edit.documents[0].id!r}"):
            raise fault
        self._dimensions[key] = length
        # One change for all that follow each other: few statements for many documents.
        if self._puts is None or self._puts[0] != key:
            self._puts = (key, [], [])
            self.changes.append(Puts(*self._puts))
        self._puts[1].extend(edit.documents)
        self._puts[2].append(edit.vectors)


def _ids_of(remove: Remove) -> Sequence[str]:
    if remove.terms is None:
        return remove.ids or ()
    matching = remove.collection.table.matching(remove.terms)
    return matching if remove.ids is None else sorted(set(matching).intersection(remove.ids))
