"""Small files, read whole and replaced whole; and how what was found in them is put into words."""

from __future__ import annotations

import difflib
import json
import os
import re
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from aurora_swarm.errors import InputError, StorageError

StrPath = str | os.PathLike[str]
InputErrorT = TypeVar("InputErrorT", bound=InputError)

UTF8_MARK = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
UTF8_REMEDY = "save it as UTF-8, for example: iconv -f {} -t UTF-8 OLD > NEW"
_SHOWN_CHARS = 60


def read_text(path: StrPath, error: type[InputErrorT], *, limit_bytes: int | None, errors: str = "strict") -> str:
    """Read a UTF-8 file; a byte order mark is dropped.

    Args:
        path: The file.
        error: What to raise.
        limit_bytes: A larger file is refused, so that a wrong path never fills the memory; None takes any.
        errors: How undecodable bytes are treated, as in `bytes.decode`.

    Raises:
        InputError: As `error`: the file is missing, unreadable, a folder, too large, or not UTF-8.
    """
    source = str(path)
    try:
        with Path(path).open("rb") as file:
            data = file.read(-1 if limit_bytes is None else limit_bytes + 1)
    except (OSError, ValueError) as exc:
        raise unreadable(exc, source, error) from exc
    if limit_bytes is not None and len(data) > limit_bytes:
        limit_mib = limit_bytes // 2**20
        raise error(f"larger than {limit_mib} MiB", source=source, remedy="check that this is the file you mean")
    if data.startswith(UTF16_MARKS):
        raise error("UTF-16 text, not UTF-8", source=source, remedy=UTF8_REMEDY.format("UTF-16"))
    try:
        return data.decode("utf-8", errors).removeprefix("\ufeff")
    except UnicodeDecodeError as exc:
        raise undecodable(exc, source, error, line=data.count(b"\n", 0, exc.start) + 1) from exc


def unreadable(exc: OSError | ValueError, source: str, error: type[InputErrorT]) -> InputErrorT:
    """The error for a file that the system does not let us read."""
    match exc:
        case FileNotFoundError():
            problem, remedy = "no such file or folder", "check the path; a relative one starts where you are now"
        case IsADirectoryError():
            problem, remedy = "a folder, not a file", "name the file in it"
        case PermissionError():
            problem, remedy = "permission denied", "make it readable for the user that runs this"
        case OSError():
            problem, remedy = f"cannot be read: {exc.strerror or exc}", "check the path"
        case _:
            source, problem, remedy = show(source), f"not a path: {exc}", "check the path"
    return error(problem, source=source, remedy=remedy)


def undecodable(exc: UnicodeDecodeError, source: str, error: type[InputErrorT], *, line: int) -> InputErrorT:
    """The error for bytes that are not UTF-8; the column counts characters."""
    data = bytes(exc.object)
    start = data.rfind(b"\n", 0, exc.start) + 1
    return error(
        f"byte 0x{data[exc.start]:02x} is not UTF-8",
        source=source,
        line=line,
        column=len(data[start : exc.start].decode("utf-8", "replace")) + 1,
        remedy=UTF8_REMEDY.format("LATIN1"),
    )


def replace_file(path: StrPath, data: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new one, never a part.

    A symbolic link keeps pointing to its target, whose content is replaced. Durable on return.

    Raises:
        StorageError: The system refused; what was there before is untouched.
    """
    temporary: Path | None = None
    try:
        target = Path(path).resolve()
        # The process and the thread in the name: two writers never share a temporary file.
        temporary = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    except (OSError, ValueError, RuntimeError) as exc:  # RuntimeError: resolve() on a loop of links
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        reason = exc.strerror if isinstance(exc, OSError) else None
        raise StorageError(
            f"cannot be written: {reason or exc}", path=str(path), remedy="check the folder, its permissions and space"
        ) from exc


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def show(text: str) -> str:
    """Text from a file as an error may quote it: short, escaped, without credentials."""
    whole = without_credentials(text[: 20 * _SHOWN_CHARS])
    cut = whole if len(whole) <= _SHOWN_CHARS else whole[:_SHOWN_CHARS] + "..."
    return ascii(cut) if not cut.isprintable() else repr(cut)


def without_credentials(text: str) -> str:
    """A text without what stands before an ``@``, which may be a user's name and password."""
    return re.sub(r"[^/\s]*@", "***@", text)


def describe(value: object) -> str:
    """A value of JSON, YAML or TOML in a few words."""
    match value:
        case str():
            return f"the text {show(value)}"
        case None | bool() | float():
            return json.dumps(value)
        case int():
            return str(value) if abs(value) < 10**_SHOWN_CHARS else "a huge number"
        case list():
            return "a list"
        case dict():
            return "an object"
    return f"a {type(value).__name__}"


def suggest(word: str, known: Iterable[str]) -> str:
    """``did you mean 'x'? known are: ...``, or an empty string when nothing is known."""
    names = sorted(known)
    if not names:
        return ""
    match = difflib.get_close_matches(word[: 2 * _SHOWN_CHARS], names, n=1)
    listed = ", ".join(show(name) for name in names[:20]) + (", ..." if len(names) > 20 else "")
    return (f"did you mean {show(match[0])}? " if match else "") + f"known: {listed}"
