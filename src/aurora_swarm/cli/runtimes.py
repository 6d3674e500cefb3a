"""What a specification may name to lead its agents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aurora_swarm.agents.coding import OpenCode


def runtime_of(given: Mapping[str, Any] | None) -> OpenCode | None:
    """The runtime that a specification names, with its settings; None where it names none.

    Raises:
        UsageError: A setting cannot be used.
    """
    if given is None:
        return None
    from aurora_swarm.agents.coding import OpenCode  # noqa: PLC0415 - start-up is light

    return OpenCode(**{key: value for key, value in given.items() if key != "name"})
