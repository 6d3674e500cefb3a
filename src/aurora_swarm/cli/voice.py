"""Words to the user: stdout carries data, stderr carries talk."""

from __future__ import annotations

import math
import os
import sys
import unicodedata

from aurora_swarm.errors import StorageError


def say(text: str) -> None:
    """One text to stderr. What the terminal cannot show is escaped; a closed stderr is no error."""
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    try:
        sys.stderr.write(shown(text).encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):  # whoever read it is gone: there is nobody left to tell
        return


def tell(text: str) -> None:
    """One text and a line break to stdout, as UTF-8; on a terminal without control characters.

    Raises:
        StorageError: Standard output does not take it.
    """
    sys.stdout.flush()
    data = memoryview((shown(text) if sys.stdout.isatty() else text).encode("utf-8", "backslashreplace") + b"\n")
    try:
        while data:
            data = data[os.write(sys.stdout.fileno(), data) :]
    except OSError as error:
        raise StorageError(f"cannot be written: {error.strerror}", path="standard output") from error


def shown(text: str) -> str:
    """Text without what could steer a terminal; models and servers may say anything."""
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or unicodedata.category(c)[0] != "C" else " " for c in text)


def one_line(text: str, width: int) -> str:
    """The beginning of a text on one line of at most `width` characters."""
    flat = " ".join(shown(text[: 4 * width]).split())
    return flat if len(flat) <= width and len(text) <= 4 * width else flat[: max(width - 3, 0)] + "..."


def clock(seconds: float) -> str:
    """Seconds as ``1:02:03`` or ``02:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def counted(count: int, word: str) -> str:
    """So many of something: ``1 input``, ``2 inputs``."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def money(usd: float) -> str:
    """US dollars: cents where there are some, else the first two digits that count."""
    if usd >= 1 or usd <= 0:
        return f"${usd:,.2f}"
    return f"${usd:.{1 - math.floor(math.log10(usd))}f}" if usd > 1e-12 else "$0.00"
