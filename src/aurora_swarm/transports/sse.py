"""Server-sent events from bytes in pieces of any size."""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"


class SseParser:
    """Feeds on bytes, gives the data of each finished event.

    Lines end in LF, CRLF or CR, wherever the pieces are cut. Several ``data`` lines are one event, joined by LF;
    comments and other fields are skipped. An event that was not ended by an empty line is never given.
    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
    """

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._data: list[bytes] = []
        self._after_cr = False
        self._begun = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that end in `chunk`, in order."""
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if b"\n" not in chunk and b"\r" not in chunk:
            if chunk:
                self._rest.append(chunk)
            return []
        self._after_cr = chunk.endswith(b"\r")
        lines = (b"".join(self._rest) + chunk).splitlines(keepends=True)
        self._rest = [] if lines[-1].endswith((b"\n", b"\r")) else [lines.pop()]
        return [event for line in lines if (event := self._line(line.rstrip(b"\r\n"))) is not None]

    def _line(self, line: bytes) -> bytes | None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BOM)
        if not line:
            event, self._data = self._data, []
            return b"\n".join(event) if event else None
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        return None
