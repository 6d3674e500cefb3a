"""Where results go: a file that a killed run leaves usable, or standard output.

A results file has one JSON object per line. Lines are written as results finish, each with one system call, so that
what is there is whole; a run that ends well puts them into the order of its inputs.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import struct
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import msgspec

from aurora_swarm.errors import InputError, StorageError
from aurora_swarm.values.outcome import AgentResult

_COPY_BYTES = 2**20
_INDEX = re.compile(rb'\{"index": ?(\d+),')
_PLACE = struct.Struct("=QQ")


class Results(Protocol):
    """Takes results as they finish."""

    def write(self, result: AgentResult[Any], kept: Mapping[str, Any] | None = None) -> None:
        """Write one result, with the fields of its input that are kept.

        Raises:
            StorageError: It could not be written; its index is in `unsaved`.
        """
        ...

    def finish(self) -> None:
        """The run ended well: no result is missing.

        Raises:
            StorageError: What is written could not be put into order or made durable; it is all still there.
        """
        ...

    def close(self) -> None:
        """Let go. May be called twice."""
        ...


def open_results(output: Path | None, *, kept: bool) -> Results:
    """Where results go.

    Args:
        output: The results file; None for standard output.
        kept: Whether results that are in the file already are kept elsewhere, or may go.

    Raises:
        InputError: The file cannot be written, or it holds results that would be lost.
    """
    if output is None:
        return ResultsStream(sys.stdout.fileno(), "standard output")
    return ResultsFile(output, kept=kept)


def line_of(result: AgentResult[Any], kept: Mapping[str, Any] | None = None) -> bytes:
    """A result as a line of a results file, its end of line included.

    Args:
        result: The result.
        kept: Fields of its input that the line repeats.
    """
    data = result.as_dict()
    data["error"] = {"kind": result.error.kind, "message": str(result.error)} if result.error else None
    data["latency_s"] = round(result.latency_s, 6)
    if result.ok:
        del data["text"]  # the output says it already
    own = {"input": kept} if kept is not None else {}
    fields = {"index": data.pop("index")} | own | {name: data.pop(name) for name in ("ok", "output", "error")} | data
    try:
        return msgspec.json.encode(fields) + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair, which UTF-8 has no bytes for
        return json.dumps(fields).encode() + b"\n"


class ResultsStream:
    """Results on an open file that is only written to.

    Args:
        descriptor: Where to; stays open.
        name: What errors call it.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._name = name

    def write(self, result: AgentResult[Any], kept: Mapping[str, Any] | None = None) -> None:
        """Write one line."""
        try:
            _write_all(self._descriptor, line_of(result, kept))
        except OSError as error:
            raise _storage_error(error, self._name, result.index) from error

    def finish(self) -> None:
        """Everything is written already."""

    def close(self) -> None:
        """The descriptor is not ours."""


class ResultsFile:
    """Results in a file.

    The file is touched only once there is a result, so a run that cannot start destroys nothing.

    Args:
        path: The file; a symbolic link is followed.
        kept: See `open_results`.

    Raises:
        InputError: See `open_results`.
    """

    def __init__(self, path: Path, *, kept: bool) -> None:
        self._name = str(path)
        self._path, self._is_new, self._descriptor = _open(path)
        self._is_regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        self._last = -1
        self._is_ordered = True
        self._end = 0
        self._started = False
        if self._size() and not kept:
            os.close(self._descriptor)
            raise InputError(
                "holds results already, and there is no journal beside it to resume from",
                source=self._name,
                remedy="give another --output, the --journal of that run, or --overwrite to replace the file",
            )

    def write(self, result: AgentResult[Any], kept: Mapping[str, Any] | None = None) -> None:
        """Write one line at the end; a line that does not fit whole is taken back."""
        line = line_of(result, kept)
        try:
            self._start()
            _write_all(self._descriptor, line)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            raise _storage_error(error, self._name, result.index) from error
        self._is_ordered = self._is_ordered and result.index > self._last
        self._last = result.index
        self._end += len(line)

    def finish(self) -> None:
        """Put the lines into the order of the inputs: a reader sees the old order or the new one, never a part."""
        try:
            self._start()
            if self._is_regular and not self._is_ordered:
                self._replace()
            elif self._is_regular:
                os.fsync(self._descriptor)
        except OSError as error:
            raise _storage_error(error, self._name, None) from error

    def close(self) -> None:
        """Close the file; one that we made and that got no result is removed."""
        if self._descriptor < 0:
            return
        os.close(self._descriptor)
        self._descriptor = -1
        if self._is_new and not self._started:
            self._path.unlink(missing_ok=True)

    def _size(self) -> int:
        return os.fstat(self._descriptor).st_size if self._is_regular else 0

    def _start(self) -> None:
        if not self._started:
            self._started = True
            if self._is_regular:
                os.ftruncate(self._descriptor, 0)

    def _replace(self) -> None:
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb", buffering=_COPY_BYTES) as file:
                for line in in_order(self._descriptor, self._path.parent):
                    file.write(line)
                file.flush()
                os.fchmod(file.fileno(), stat.S_IMODE(os.fstat(self._descriptor).st_mode))
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except BaseException:  # Ctrl-C too: nothing half-written is left behind
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(self._path.parent)


def in_order(descriptor: int, folder: Path) -> Iterator[bytes]:
    """The lines of a results file by index, one in memory at a time, however many there are.

    Args:
        descriptor: The file; every line in it is one that `line_of` made.
        folder: Where the places of the lines are kept meanwhile, in a file without a name: 16 bytes for each.
    """
    with (
        tempfile.TemporaryFile(dir=folder) as places,
        os.fdopen(os.dup(descriptor), "rb", buffering=_COPY_BYTES) as lines,
    ):
        lines.seek(0)
        start = 0
        for line in lines:
            found = _INDEX.match(line)
            assert found is not None
            os.pwrite(places.fileno(), _PLACE.pack(start, len(line)), int(found[1]) * _PLACE.size)
            start += len(line)
        while entry := places.read(_PLACE.size):
            place, length = _PLACE.unpack(entry)
            if length:  # an index without a result leaves a hole
                yield os.pread(descriptor, length, place)


def _open(path: Path) -> tuple[Path, bool, int]:
    """The file behind links, whether it is new, and its descriptor."""
    try:
        real = path.resolve()
        is_new = not real.exists()
        return real, is_new, os.open(real, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL in the name
        number = error.errno if isinstance(error, OSError) else None
        reason = error.strerror if isinstance(error, OSError) else error
        problem = f"results cannot be written there: {reason}"
        raise InputError(problem, source=str(path), remedy=_REMEDIES.get(number, _OTHER)) from error


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _storage_error(error: OSError, name: str, index: int | None) -> StorageError:
    return StorageError(
        f"results cannot be written any more: {error.strerror}",
        path=name,
        unsaved=() if index is None else (index,),
        remedy=_REMEDIES.get(error.errno, _OTHER),
    )


_OTHER = "give another --output"
_REMEDIES: dict[int | None, str] = {
    errno.ENOENT: "create the folder first, or give another --output",
    errno.ENOTDIR: "a part of the path is a file; give another --output",
    errno.EISDIR: "it is a folder; name a file in it",
    errno.EACCES: "make it writable for the user that runs this, or give another --output",
    errno.EPERM: "make it writable for the user that runs this, or give another --output",
    errno.EROFS: "the file system is read-only; give another --output",
    errno.ENOSPC: "free some space and run the same command again, or give another --output",
    errno.EDQUOT: "your quota is used up: free some space and run the same command again, or give another --output",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f) and run the same command again, or give another --output",
    errno.EPIPE: "whoever read the results went away; write them to a file with --output",
}
