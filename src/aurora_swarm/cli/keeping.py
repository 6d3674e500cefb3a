"""Fields of inputs that are repeated beside their results, so that a reader knows whose result it is."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from aurora_swarm.batch.run import Inputs
from aurora_swarm.errors import InputError
from aurora_swarm.inputs.files import show, suggest


class Kept:
    """Remembers the wanted fields of the inputs that are under way, and of no others.

    Args:
        names: The fields; none is fine, and costs nothing.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._fields: dict[int, dict[str, Any]] = {}
        self._all: Sequence[Mapping[str, Any]] | None = None

    def over(self, inputs: Inputs) -> Inputs:
        """The same inputs; what is wanted of each is noted when it is taken."""
        if not self._names:
            return inputs
        if isinstance(inputs, Sequence):
            self._all = inputs
            return inputs
        return self._awaited(inputs) if isinstance(inputs, AsyncIterable) else self._taken(inputs)

    def of(self, index: int) -> dict[str, Any] | None:
        """The wanted fields of one input, None where none are wanted; they are forgotten then."""
        if not self._names:
            return None
        return self._part(self._all[index]) if self._all is not None else self._fields.pop(index, None)

    def _taken(self, inputs: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        for index, fields in enumerate(inputs):
            self._fields[index] = self._part(fields)
            yield fields

    async def _awaited(self, inputs: AsyncIterable[Mapping[str, Any]]) -> AsyncIterator[Mapping[str, Any]]:
        index = 0
        async for fields in inputs:
            self._fields[index] = self._part(fields)
            index += 1
            yield fields

    def _part(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        return {name: fields.get(name) for name in self._names}


def check_kept(names: Sequence[str], fields: Mapping[str, Any], source: str) -> None:
    """Make sure that an input has the wanted fields.

    Raises:
        InputError: It lacks one.
    """
    for name in names:
        if name not in fields:
            raise InputError(f"has no field {show(name)} to keep", source=source, remedy=suggest(name, fields))
