"""The seam to where work is placed: this process, several, or a cluster. It knows nothing of what the work is."""

from __future__ import annotations

from typing import Protocol


class Engine(Protocol):
    """Keeps copies of a worker alive until their work is done.

    A worker is an importable function, ``package.module:function``, that takes one text, works until nothing is left to
    do, and returns. It is idempotent: it may be killed at any moment and begun again, anywhere, also while a copy that
    was thought dead still runs. It gives nothing back; what it does is in a store that its argument names.
    """

    async def keep(self, function: str, argument: str, copies: int) -> None:
        """Run copies of a worker until each has returned.

        A copy that dies is begun again, after a pause that grows while it dies at once; without a limit of its own, for
        as long as any copy lives or can be begun. Cancelling ends all copies, and waits until they are gone.

        Args:
            function: The worker.
            argument: Given to each copy.
            copies: How many.

        Raises:
            EngineError: Nothing can be begun at all: the function cannot be imported there, or the cluster is gone.
        """

    async def aclose(self) -> None:
        """End what is left and let go of the cluster. May be called twice."""
