"""Inputs: files of records, one `dict` per agent, read as they are needed.

Every reader holds one record at a time, whatever the size of the file; only ``.json`` is read whole,
because a list has no end before its last byte. What is wrong is raised when it is reached, with file,
line and column; whether the file is there at all is known at once.
"""

from __future__ import annotations

import csv
import io
import itertools
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import msgspec

from aurora_swarm.errors import InputError
from aurora_swarm.inputs.files import (
    UTF8_MARK,
    UTF8_REMEDY,
    UTF16_MARKS,
    StrPath,
    describe,
    read_text,
    show,
    suggest,
    undecodable,
    unreadable,
)
from aurora_swarm.inputs.jsontext import explain_json

InputFormat = Literal["jsonl", "json", "csv", "tsv", "txt", "folder"]
InputRecord = dict[str, Any]

_BY_SUFFIX: dict[str, InputFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "txt",
}
# What counts within half a second: lines are split in C, cells are not.
_COUNTED_LINES_BYTES = 2**27
_COUNTED_RECORDS_BYTES = 2**22


def read_inputs(
    path: StrPath,
    *,
    format: InputFormat | None = None,  # noqa: A002 - the word that users know
    pattern: str = "*",
    stdin: BinaryIO | None = None,
) -> Iterator[InputRecord]:
    """Inputs from a file, a folder or standard input, one after the other.

    ======================= ==========================================================================
    ``.jsonl``, ``.ndjson`` one JSON object per line
    ``.json``               a list of objects
    ``.csv``, ``.tsv``      a header, then a row per input: text by column name
    ``.txt``                a text per line: ``{"text": ..., "line": n}``
    a folder                its files by name: ``{"path": ..., "name": ..., "text": ...}``
    ``-``                   standard input: JSON objects if its first line is one, else lines of text
    ======================= ==========================================================================

    Blank lines are skipped. An empty file is a valid run of nothing, except a table without a header.

    Args:
        path: What to read.
        format: How to read it; by default the suffix decides.
        pattern: Which files of a folder, as a glob (``**/*.md`` for those in folders below, too). Only
            regular files count, and hidden ones only when the pattern starts with a dot.
        stdin: What ``-`` stands for; by default the standard input of the process.

    Returns:
        An iterator that reads while it is advanced, in the order of the source.

    Raises:
        InputError: At once when there is no such file or no reader for it; from the iterator, with line and
            column, for text that is not UTF-8, malformed JSON or CSV, or a record that is not an object.
    """
    if str(path) == "-":
        return _read_stdin(stdin or sys.stdin.buffer, format)
    kind = _format_of(path, format)
    if kind == "folder":
        return _read_folder(_files_of(path, pattern))
    if Path(path).is_file():
        _open(path).close()  # raises now what the first step of the iterator would raise later
    return _read_file(path, kind)


def count_inputs(path: StrPath, *, format: InputFormat | None = None, pattern: str = "*") -> int | None:  # noqa: A002
    """How many inputs `read_inputs` would yield, for a progress bar.

    Args:
        path: As in `read_inputs`.
        format: As in `read_inputs`.
        pattern: As in `read_inputs`.

    Returns:
        Their number; None when counting would take long, needs a pipe to be read, or meets an error, which
        `read_inputs` will raise in its place.
    """
    if str(path) == "-":
        return None
    try:
        kind = _format_of(path, format)
        if kind == "folder":
            return len(_files_of(path, pattern))
        size = Path(path).stat().st_size if Path(path).is_file() else _COUNTED_LINES_BYTES + 1
        if kind in ("jsonl", "txt") and size <= _COUNTED_LINES_BYTES:
            with _open(path) as file:
                first = file.readline().removeprefix(UTF8_MARK)
                return bool(first.strip()) + sum(map(bool, map(bytes.strip, file)))
        return sum(1 for _ in _read_file(path, kind)) if size <= _COUNTED_RECORDS_BYTES else None
    except (InputError, OSError):
        return None


def _format_of(path: StrPath, given: InputFormat | None) -> InputFormat:
    source = str(path)
    try:
        is_folder = stat.S_ISDIR(Path(path).stat().st_mode)
    except (OSError, ValueError) as exc:
        raise unreadable(exc, source, InputError) from exc
    if given is not None and given not in get_args(InputFormat):
        remedy = suggest(str(given), get_args(InputFormat))
        raise InputError(f"{show(str(given))} is not a format", source=source, remedy=remedy)
    if given is not None and is_folder != (given == "folder"):
        found = "a folder" if is_folder else "not a folder"
        raise InputError(f"{found}, but the format is {given}", source=source, remedy="leave the format out")
    kind: InputFormat | None = "folder" if is_folder else given or _BY_SUFFIX.get(Path(path).suffix.lower())
    if kind is None:
        remedy = f"name the format: {', '.join(get_args(InputFormat)[:-1])}"
        raise InputError(f"nothing is known to read {show(Path(path).suffix)} files", source=source, remedy=remedy)
    return kind


def _open(path: StrPath) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except (OSError, ValueError) as exc:
        raise unreadable(exc, str(path), InputError) from exc


def _read_file(path: StrPath, kind: InputFormat) -> Iterator[InputRecord]:
    with _open(path) as file:
        yield from _READERS[kind](_lines(file, str(path)), str(path))


def _read_stdin(stdin: BinaryIO, given: InputFormat | None) -> Iterator[InputRecord]:
    source = "standard input"
    if given is not None and given not in _READERS:
        problem = f"standard input cannot be read as {show(given)}"
        raise InputError(problem, source=source, remedy=suggest(given, _READERS))
    lines = _lines(stdin, source)
    kind: str | None = given
    if kind is None:
        first = next(((number, line) for number, line in lines if line.strip()), (0, b""))
        lines = itertools.chain([first], lines)
        kind = "jsonl" if first[1].lstrip().startswith(b"{") else "txt"
    yield from _READERS[kind](lines, source)


def _lines(file: BinaryIO, source: str) -> Iterator[tuple[int, bytes]]:
    """Numbered lines, blank ones included, without a byte order mark."""
    try:
        for number, line in enumerate(file, 1):
            if number == 1 and line.startswith(UTF16_MARKS):
                raise InputError("UTF-16 text, not UTF-8", source=source, remedy=UTF8_REMEDY.format("UTF-16"))
            yield number, line.removeprefix(UTF8_MARK) if number == 1 else line
    except OSError as exc:
        raise unreadable(exc, source, InputError) from exc


def _decode(line: bytes, number: int, source: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as exc:
        raise undecodable(exc, source, InputError, line=number) from exc


def _read_jsonl(lines: Iterable[tuple[int, bytes]], source: str) -> Iterator[InputRecord]:
    decode = msgspec.json.Decoder().decode
    for number, line in lines:
        if not line.strip():
            continue
        try:
            record = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            flaw = explain_json(_decode(line, number, source).rstrip("\r\n"))._replace(line=number)
            remedy = "write one whole object per line; a file that is one list needs the format json"
            raise flaw.as_error(InputError, source, remedy) from exc
        if not isinstance(record, dict):
            problem, remedy = f"expected an object, found {describe(record)}", 'write {"name": value, ...}'
            raise InputError(problem, source=source, line=number, remedy=remedy)
        yield record


def _read_json(lines: Iterable[tuple[int, bytes]], source: str) -> Iterator[InputRecord]:
    data = b"".join(line for _, line in lines)
    if not data.strip():
        return
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        flaw = explain_json(_decode_whole(data, source))
        raise flaw.as_error(InputError, source, "one object per line is the format jsonl") from exc
    if not isinstance(value, list):
        remedy = "put the objects into a list: [{...}, {...}]"
        raise InputError(f"expected a list of objects, found {describe(value)}", source=source, remedy=remedy)
    for index, record in enumerate(value):
        if not isinstance(record, dict):
            problem = f"expected an object, found {describe(record)}"
            raise InputError(problem, source=source, field=f"[{index}]", remedy='write {"name": value, ...}')
        yield record


def _decode_whole(data: bytes, source: str) -> str:
    return "".join(_decode(line, number, source) for number, line in enumerate(io.BytesIO(data), 1))


def _read_txt(lines: Iterable[tuple[int, bytes]], source: str) -> Iterator[InputRecord]:
    for number, line in lines:
        if line.strip():
            yield {"text": _decode(line, number, source).rstrip("\r\n"), "line": number}


def _read_csv(lines: Iterable[tuple[int, bytes]], source: str) -> Iterator[InputRecord]:
    return _read_table(lines, source, ",")


def _read_tsv(lines: Iterable[tuple[int, bytes]], source: str) -> Iterator[InputRecord]:
    return _read_table(lines, source, "\t")


def _read_table(lines: Iterable[tuple[int, bytes]], source: str, delimiter: str) -> Iterator[InputRecord]:
    rows = _rows(lines, source, delimiter)
    header = next(rows, None)
    if header is None:
        raise InputError("no header", source=source, line=1, remedy="name the columns in the first line")
    names = [name.strip() for name in header[1]]
    for index, name in enumerate(names):
        if name in names[:index]:
            problem = f"the columns {names.index(name) + 1} and {index + 1} are both named {show(name)}"
            raise InputError(problem, source=source, line=header[0], remedy="give every column a name of its own")
    for line, row in rows:
        if len(row) != len(names):
            problem = f"{len(row)} cell{'s' * (len(row) != 1)}, where the header has {len(names)}"
            remedy = f"quote a cell that holds a {'tab' if delimiter == chr(9) else 'comma'} or a line break"
            raise InputError(problem, source=source, line=line, remedy=remedy)
        yield dict(zip(names, row, strict=True))


def _rows(lines: Iterable[tuple[int, bytes]], source: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with the line that it starts in."""
    # The limit is the module's own, for every reader of the process: raising it hurts nobody.
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader((_decode(line, n, source) for n, line in lines), delimiter=delimiter, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as exc:
            problem, remedy = _explain_csv(str(exc))
            raise InputError(problem, source=source, line=start, remedy=remedy) from exc
        if row is None:
            return
        if row:
            yield start, row


def _explain_csv(message: str) -> tuple[str, str]:
    if "unexpected end" in message:
        return "a quote is opened in this row and never closed", "close it, or double a quote inside quotes"
    if "expected after" in message:
        return "text after a closing quote", 'double a quote inside quotes: "say ""hi"""'
    if "new-line" in message:
        return "a carriage return inside a row", "end lines with LF or CRLF, and quote cells with line breaks"
    return f"malformed row: {message}", "quote cells that hold separators, quotes or line breaks"


def _files_of(folder: StrPath, pattern: str) -> list[Path]:
    root = Path(folder)
    no_pattern = InputError(
        f"{show(pattern)} is not a pattern for files in a folder",
        source=str(folder),
        remedy="write a relative glob such as *.txt or **/*.md",
    )
    if "\0" in pattern or ".." in Path(pattern).parts:
        raise no_pattern
    try:
        os.scandir(root).close()  # a glob passes over a folder that it may not read
        found = [file for file in root.glob(pattern) if file.is_file()]
    except (ValueError, NotImplementedError, IndexError) as exc:
        raise no_pattern from exc
    except OSError as exc:
        raise unreadable(exc, str(folder), InputError) from exc
    hidden_too = pattern.startswith(".")
    return sorted(f for f in found if hidden_too or not any(p.startswith(".") for p in f.relative_to(root).parts))


def _read_folder(files: list[Path]) -> Iterator[InputRecord]:
    for file in files:
        if not str(file).isprintable() and any("\ud800" <= character <= "\udfff" for character in str(file)):
            raise InputError("a file name that is not UTF-8", source=ascii(str(file)), remedy="rename the file")
        yield {"path": str(file), "name": file.name, "text": read_text(file, InputError, limit_bytes=None)}


_READERS: dict[str, Callable[[Iterable[tuple[int, bytes]], str], Iterator[InputRecord]]] = {
    "jsonl": _read_jsonl,
    "json": _read_json,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "txt": _read_txt,
}
