"""Tools that read files beneath a root: `Tool.read_file` and `Tool.list_dir`."""

from __future__ import annotations

import codecs
import hashlib
import os
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from aurora_swarm.errors import ToolDefinitionError
from aurora_swarm.tools.beneath import RefusedPathError, names_in, opened_file
from aurora_swarm.tools.definition import Tool
from aurora_swarm.tools.stamps import described, is_settled

Read = Callable[..., str]


class ReadArguments(BaseModel):
    """Parameters of ``read_file``."""

    model_config = ConfigDict(extra="forbid")
    path: str = Field(description="The file, relative to the folder that may be read.", max_length=1000)


class ListArguments(BaseModel):
    """Parameters of ``list_dir``."""

    model_config = ConfigDict(extra="forbid")
    path: str = Field(".", description="The folder, relative to the one that may be read.", max_length=1000)


class FileTool(Tool[..., str]):
    """A tool that reads beneath a root. Use `Tool.read_file` and `Tool.list_dir`, or copies of them.

    Args:
        function: Reads, given root, characters and the model's path.
        name: What the model calls it.
        description: What it does, for the model.
        arguments: Its parameters.
        root: The folder that may be read; None for the current one at the time of the call.
        max_chars: Characters of a file that the model is shown.
    """

    is_quick = True

    def __init__(
        self,
        function: Read,
        *,
        name: str,
        description: str,
        arguments: type[BaseModel],
        root: Path | None = None,
        max_chars: int = 20_000,
    ) -> None:
        super().__init__(
            function, name=name, description=description, arguments=arguments, effect="pure", max_chars=max_chars
        )
        self.root = root

    def beneath(self, root: str | os.PathLike[str], *, max_chars: int | None = None) -> FileTool:
        """A copy that reads beneath another root.

        Args:
            root: An existing folder.
            max_chars: Characters of a file that the model is shown; as before when None.

        Raises:
            ToolDefinitionError: The root is no folder, or `max_chars` is not above 0.
        """
        folder = Path(root).absolute()
        if not folder.is_dir():
            raise ToolDefinitionError(f"{self.name}: {folder} is no folder", remedy="give a folder that exists")
        copy = FileTool(
            self.function,
            name=self.name,
            description=self.description,
            arguments=self.arguments,
            root=folder,
            max_chars=self.max_chars if max_chars is None else max_chars,
        )
        return copy if not self.grants else _granted(copy, self.grants)

    def call_arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What the function is called with: the model's arguments, and what the user set."""
        return {**values, "root": self.root or Path.cwd(), "max_chars": self.max_chars}

    def identity(self) -> Hashable:
        """The root, too: the same path beneath another root is another file."""
        return self.name, self.root or Path.cwd(), self.max_chars

    def determinant(self) -> bytes:
        """What determines an answer; the root too, because the same path beneath another root is another file."""
        return super().determinant() + os.fsencode(self.root or Path.cwd())

    def stamp(self) -> bytes:
        """Which files are granted, and what is in them, as far as it is read.

        A changed file is never answered for from an old record; one that was only touched, or copied, is.
        """
        granted = self.grants.get("path")
        if granted is None or isinstance(granted, str):
            return super().stamp()
        return msgspec.json.encode([(path, self._content(path)) for path in granted])

    def resource(self, arguments: Mapping[str, Any]) -> str | None:
        """State of the file that a call would read; None for what cannot be read, is a folder, or changed just now."""
        try:
            with opened_file(self.root or Path.cwd(), str(arguments["path"])) as descriptor:
                state = os.fstat(descriptor)
        except (RefusedPathError, KeyError):
            return None
        return described(state) if is_settled(state) else None

    def _content(self, path: str) -> str:
        try:
            with opened_file(self.root or Path.cwd(), path) as descriptor:
                data = _read(descriptor, 4 * (self.max_chars + 1))
                return f"{os.fstat(descriptor).st_size}:{hashlib.sha256(data).hexdigest()}"
        except RefusedPathError:
            return ""


def _granted(tool: FileTool, grants: Mapping[str, Any]) -> FileTool:
    limited = tool.limit(**grants)
    assert isinstance(limited, FileTool)
    return limited


def read_file(path: str, root: Path, max_chars: int) -> str:
    """The beginning of a text file beneath a root, with a note where it is not all of it or not UTF-8.

    There is no parameter for where to begin: a small model fills in whatever it may, and begins anywhere.

    Args:
        path: The file.
        root: The folder that may be read.
        max_chars: Characters at most; the notes come on top.

    Raises:
        RefusedPathError: It may not be read.
    """
    with opened_file(root, path) as descriptor:
        # Four bytes are the most that UTF-8 takes for a character; one more character tells whether there is more.
        data = _read(descriptor, 4 * (max_chars + 1))
        whole = os.fstat(descriptor).st_size
    text, is_utf8 = _decoded(data, is_whole=len(data) >= whole)
    notes = [] if is_utf8 else ["[not UTF-8: unreadable bytes are shown as \N{REPLACEMENT CHARACTER}]"]
    if len(text) > max_chars or len(data) < whole:
        notes.append(f"[cut after {min(len(text), max_chars)} characters; the file has {whole} bytes]")
    return "\n".join([text[:max_chars], *notes])


def _decoded(data: bytes, *, is_whole: bool) -> tuple[str, bool]:
    """The text, and whether it is UTF-8; a character that is cut off at the end of a part is left out."""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(data, final=is_whole), True
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace"), False


def list_dir(root: Path, max_chars: int, path: str = ".") -> str:
    """The names in a folder beneath a root, one per line.

    Args:
        root: The folder that may be read.
        max_chars: Not used; the pool cuts what is too long.
        path: The folder.

    Raises:
        RefusedPathError: It may not be read.
    """
    del max_chars
    return "\n".join(names_in(root, path)) or "(empty)"


def _read(descriptor: int, size: int) -> bytes:
    pieces = []
    while size > 0 and (piece := os.read(descriptor, min(size, 2**20))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


READ_FILE = FileTool(
    read_file, name="read_file", description="Returns the beginning of a text file.", arguments=ReadArguments
)
LIST_DIR = FileTool(list_dir, name="list_dir", description="Lists the names in a folder.", arguments=ListArguments)
