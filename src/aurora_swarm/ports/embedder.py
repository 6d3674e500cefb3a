"""The seam to whatever turns texts into vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray


class Embedder(Protocol):
    """Turns texts into vectors whose direction says what they mean.

    Attributes:
        name: What vectors of this embedder can be compared by: those of two names cannot. Part of a collection's
            schema.
    """

    name: str

    async def embed(self, texts: Sequence[str]) -> NDArray[float32]:
        """The texts' vectors, shape ``(len(texts), dimensions)``, in the order of the texts.

        Each has length 1; that of a text that says nothing is all zeros.

        Args:
            texts: May be empty.

        Raises:
            CallError: An embeddings endpoint did not answer.
            ModelUnavailableError: Weights cannot be found.
        """

    async def aclose(self) -> None:
        """Release what it holds. May be called twice."""
