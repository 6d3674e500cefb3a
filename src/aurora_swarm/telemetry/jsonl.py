"""Events as lines of a JSON file."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec

from aurora_swarm.errors import StorageError
from aurora_swarm.values.event import AgentEnded, Event
from aurora_swarm.values.outcome import AgentResult

_LOGGER = logging.getLogger(__name__)
_FLUSH_S = 1.0
_BUFFER_BYTES = 1 << 18
_OF_RESULT = (
    *("index", "key", "ok", "attempts", "turns", "tool_calls", "tools_executed", "repaired", "resumed"),
    *("in_doubt", "ttft_s"),
)


class JsonlSink:
    """Appends one JSON object per event to a file: ``event``, ``at`` (seconds since 1970) and the event's fields.

    Prompts and answers are not in it, nor anything that is sent in a header. Lines are buffered and written at the
    latest with the first event after a second, and on `close`. When the disk refuses, one warning is logged and
    nothing more is written.

    Args:
        path: The file; created where it is missing, appended to where not.
        now: Seconds since 1970.

    Raises:
        StorageError: The file cannot be opened.
    """

    def __init__(self, path: str | Path, *, now: Callable[[], float] = time.time) -> None:
        self._path = Path(path)
        self._now = now
        self._flushed_at = now()
        try:
            self._file = self._path.open("a", encoding="ascii", buffering=_BUFFER_BYTES)
        except (OSError, ValueError) as error:
            problem = getattr(error, "strerror", None) or str(error)
            remedy = "name a file in a folder that you may write to"
            raise StorageError(problem.lower(), path=str(path), remedy=remedy) from error

    def emit(self, event: Event) -> None:
        """Add a line."""
        if self._file.closed:
            return
        at = self._now()
        fields = _of_result(event.result) if isinstance(event, AgentEnded) else msgspec.structs.asdict(event)
        line = json.dumps({"event": type(event).__struct_config__.tag, "at": at, **fields})
        try:
            self._file.write(line + "\n")
            # Either way: a clock that was set back must not keep lines in the buffer.
            if abs(at - self._flushed_at) >= _FLUSH_S:
                self._file.flush()
                self._flushed_at = at
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Write what is buffered. May be called twice."""
        try:
            self._file.close()
        except OSError as error:
            self._give_up(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _give_up(self, error: OSError) -> None:
        _LOGGER.warning("%s: %s; no more events are written", self._path, error)
        with contextlib.suppress(OSError):
            self._file.close()


def _of_result(result: AgentResult[object]) -> dict[str, Any]:
    """What a result tells without its text."""
    error = result.error
    return {
        **{name: getattr(result, name) for name in _OF_RESULT},
        "usage": msgspec.structs.asdict(result.usage),
        "latency_s": result.latency_s,
        "endpoint": result.endpoint,
        "error": {"kind": error.kind, "message": str(error)} if error else None,
    }
