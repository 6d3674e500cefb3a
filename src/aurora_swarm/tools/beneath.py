"""Opening what lies beneath a root, and nothing else.

Each component is opened relative to its parent's descriptor without following links, so that no name, and no change
of the tree while it is walked, leads outside.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from aurora_swarm.tools.refusal import RefusedError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a FIFO waits for a writer that may never come.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class RefusedPathError(RefusedError):
    """A path that may not be opened, or is not there; the text is written for the model."""


@contextmanager
def opened_file(root: Path, path: str) -> Iterator[int]:
    """A descriptor of a regular file beneath a root, closed afterwards.

    Args:
        root: The folder that may be read; links in its own path are followed.
        path: Relative to the root, or absolute and beneath it.

    Raises:
        RefusedPathError: It leads outside, through a link, to something that is no regular file, or nowhere.
    """
    parts = _parts(root, path)
    if not parts:
        raise RefusedPathError(f"{path!r} is a folder")
    with _opened(root, parts[:-1], path) as folder:
        # Asked before it is opened too, because merely opening a device can have an effect.
        if not _is_regular(parts[-1], folder, path):
            raise RefusedPathError(f"{path!r} is not a regular file")
        descriptor = _open(parts[-1], _FILE, folder, path)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise RefusedPathError(f"{path!r} is not a regular file")
            yield descriptor
        finally:
            os.close(descriptor)


def names_in(root: Path, path: str) -> list[str]:
    """The names in a folder beneath a root, sorted; folders end in a slash, links and devices are left out.

    Raises:
        RefusedPathError: As for `opened_file`, for folders.
    """
    with _opened(root, _parts(root, path), path) as folder, os.scandir(folder) as entries:
        names = [
            entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")
            for entry in entries
            if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)
        ]
    return sorted(names)


def _parts(root: Path, path: str) -> tuple[str, ...]:
    if "\0" in path:
        raise RefusedPathError("a path holds no NUL")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise RefusedPathError("a path holds no lone surrogate") from None
    pure = PurePosixPath(path)
    if pure.is_absolute():
        for base in (root.absolute(), root.resolve()):
            if pure.is_relative_to(base.as_posix()):
                pure = pure.relative_to(base.as_posix())
                break
        else:
            raise RefusedPathError(f"{path!r} is outside of what may be read")
    if ".." in pure.parts:
        raise RefusedPathError(f"{path!r} is refused: no .. in a path")
    return pure.parts


@contextmanager
def _opened(root: Path, parts: tuple[str, ...], path: str) -> Iterator[int]:
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise RefusedPathError(f"the root cannot be read: {error.strerror}") from error
    try:
        for part in parts:
            below = _open(part, _FOLDER, descriptor, path)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _is_regular(name: str, folder: int, path: str) -> bool:
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except OSError as error:
        raise RefusedPathError(f"{path!r}: {_REASONS.get(error.errno or 0, error.strerror)}") from error
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)  # a link is refused by name when it is opened


def _open(name: str, flags: int, folder: int, path: str) -> int:
    try:
        return os.open(name, flags, dir_fd=folder)
    except OSError as error:
        raise RefusedPathError(f"{path!r}: {_REASONS.get(error.errno or 0, error.strerror)}") from error


_REASONS = {
    errno.ENOENT: "there is no such file",
    errno.ENOTDIR: "it is not a folder, or it is a link, which is not followed",
    errno.ELOOP: "it is a link, which is not followed",
    errno.ENXIO: "it is not a regular file",
    errno.EACCES: "it may not be read",
    errno.ENAMETOOLONG: "the name is too long",
}
