import csv
import io
import itertools
import json
import os
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.errors import InputError
from aurora_swarm.inputs.records import InputFormat, count_inputs, read_inputs

BOM = b"\xef\xbb\xbf"


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(name: str, data: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return write


def refusal(records: Iterator[dict[str, Any]]) -> InputError:
    with pytest.raises(InputError) as caught:
        list(records)
    return caught.value


@pytest.mark.parametrize(
    ("name", "data", "records"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": {"b": [2]}}\n', [{"a": 1}, {"a": {"b": [2]}}]),
        ("a.ndjson", '\n{"a": "ü🎉"}\r\n\r\n  {"a": null}', [{"a": "ü🎉"}, {"a": None}]),
        ("A.JSONL", BOM + b'{"a": 1}', [{"a": 1}]),
        ("a.json", '[{"a": 1},\n {"a": 2}]', [{"a": 1}, {"a": 2}]),
        ("a.json", BOM + b"[]", []),
        ("a.csv", "a,b\n1,2\n\n3,\n", [{"a": "1", "b": "2"}, {"a": "3", "b": ""}]),
        ("a.csv", BOM + "a, b\r\n{x},🎉\r\n".encode(), [{"a": "{x}", "b": "🎉"}]),
        ("a.csv", 'a,b\n"1,""2""\n3",4\n', [{"a": '1,"2"\n3', "b": "4"}]),
        ("a.csv", ",text\n0,x\n", [{"": "0", "text": "x"}]),
        ("a.csv", "a,b\n", []),
        ("a.tsv", 'a\tb\n1,1\t"x\ty"\n', [{"a": "1,1", "b": "x\ty"}]),
        (
            "a.txt",
            "one\n\n two \r\n\x0cthree",
            [{"text": t, "line": n} for t, n in [("one", 1), (" two ", 3), ("\x0cthree", 4)]],
        ),
        ("a.txt", "", []),
        ("a.jsonl", "\n  \n", []),
        ("a.json", "", []),
    ],
)
def test_reads_what_the_suffix_says(write: Any, name: str, data: str | bytes, records: list[dict[str, Any]]) -> None:
    path = write(name, data)
    assert list(read_inputs(path)) == records
    assert count_inputs(path) == len(records)


def test_a_format_overrules_the_suffix(write: Any) -> None:
    assert list(read_inputs(write("a.csv", '{"a": 1}'), format="jsonl")) == [{"a": 1}]


def test_a_cell_may_be_huge(write: Any) -> None:
    cell = "x" * 1_000_000
    assert list(read_inputs(write("a.csv", f"a\n{cell}\n"))) == [{"a": cell}]


@pytest.mark.parametrize(
    ("name", "data", "place", "problem", "remedy"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": }\n', ":2:7", "malformed JSON: expecting value", "one whole object per line"),
        ("a.jsonl", '{\n  "a": 1\n}\n', ":1:2", "malformed JSON", "format json"),
        ("a.jsonl", "\n[1]\n", ":2", "expected an object, found a list", '{"name": value'),
        ("a.jsonl", '"x"\n', ":1", "expected an object, found the text 'x'", '{"name": value'),
        ("a.jsonl", '{"a": NaN}\n', ":1", "NaN is not a JSON number", "one whole object"),
        ("a.jsonl", '{"a": 1e999}\n', ":1", "out of range", "one whole object"),
        ("a.jsonl", '{"a": "\\ud800"}\n', ":1", "surrogate", "one whole object"),
        ("a.jsonl", '{"a":' * 100_000, ":1", "nested too deeply", "one whole object"),
        ("a.jsonl", b'{"a": 1}\n{"a": "\xc3\xa4\xff"}\n', ":2:9", "byte 0xff is not UTF-8", "iconv"),
        ("a.jsonl", '{"a": 1}\n'.encode("utf-16"), "", "UTF-16 text", "iconv"),
        ("a.json", '[{"a": 1},\n {"a": 2]\n', ":2:9", "malformed JSON: expecting ',' delimiter", "jsonl"),
        ("a.json", '{"a": 1}\n{"a": 2}\n', ":2:1", "malformed JSON: extra data", "jsonl"),
        ("a.json", '{"a": 1}', "", "expected a list of objects, found an object", "[{...}, {...}]"),
        ("a.json", '[{"a": 1}, 2]', ": [1]", "expected an object, found 2", '{"name": value'),
        ("a.json", b'[\n"\xff"]', ":2:2", "byte 0xff is not UTF-8", "iconv"),
        ("a.csv", "", ":1", "no header", "first line"),
        ("a.csv", "\n\n", ":1", "no header", "first line"),
        ("a.csv", "\na,b,a\n", ":2", "columns 1 and 3 are both named 'a'", "name of its own"),
        ("a.csv", 'a,b\n"1\n2",3\n4\n', ":4", "1 cell, where the header has 2", "quote a cell that holds a comma"),
        ("a.tsv", "a\tb\n1\t2\t3\n", ":2", "3 cells, where the header has 2", "quote a cell that holds a tab"),
        ("a.csv", 'a,b\n1,2\n3,"4\n5\n', ":3", "a quote is opened in this row and never closed", "close it"),
        ("a.csv", 'a\n"x"y\n', ":2", "text after a closing quote", "double a quote"),
        ("a.csv", "a,b\r1,2\r", ":1", "a carriage return inside a row", "LF or CRLF"),
        ("a.csv", b"a\n\xe4\n", ":2:1", "byte 0xe4 is not UTF-8", "iconv"),
        ("a.txt", b"ok\n\xc3\xa4b\x80", ":2:3", "byte 0x80 is not UTF-8", "iconv"),
    ],
)
def test_what_is_wrong_is_named_by_place_problem_and_remedy(
    write: Any, name: str, data: str | bytes, place: str, problem: str, remedy: str
) -> None:
    path = write(name, data)
    error = refusal(read_inputs(path))
    assert str(error) == f"{path}{place}: {error.problem}"
    assert problem in error.problem
    assert remedy in error.remedy


def test_records_before_a_mistake_are_yielded(write: Any) -> None:
    records = read_inputs(write("a.jsonl", '{"a": 1}\n{'))
    assert next(records) == {"a": 1}
    with pytest.raises(InputError):
        next(records)


@pytest.mark.parametrize(
    ("name", "kind", "problem"),
    [
        ("none.csv", None, "no such file"),
        ("data.parquet", None, "nothing is known to read '.parquet' files"),
        ("data", None, "nothing is known to read '' files"),
        ("data", "xml", "'xml' is not a format"),
        ("data", "folder", "not a folder, but the format is folder"),
        (".", "csv", "a folder, but the format is csv"),
        ("a\0b.csv", None, "not a path"),
        ("x" * 500 + ".csv", None, "cannot be read: File name too long"),
    ],
)
def test_what_cannot_be_read_at_all_is_said_at_once(
    tmp_path: Path, name: str, kind: InputFormat | None, problem: str
) -> None:
    (tmp_path / "data.parquet").touch()
    (tmp_path / "data").touch()
    with pytest.raises(InputError) as caught:
        read_inputs(tmp_path / name, format=kind)
    assert problem in caught.value.problem
    assert caught.value.remedy
    assert count_inputs(tmp_path / name, format=kind) is None


@pytest.mark.platform
@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_said_at_once(write: Any) -> None:
    path = write("a.csv", "a\n1\n")
    path.chmod(0)
    with pytest.raises(InputError, match="permission denied"):
        read_inputs(path)


def test_a_folder_yields_its_visible_regular_files_by_name(write: Any, tmp_path: Path) -> None:
    write("b.txt", "B\r\n")
    write("a.md", BOM + "ä".encode())
    write(".hidden", b"\xff")
    (tmp_path / "folder").mkdir()
    write("folder/c.md", "C")
    os.mkfifo(tmp_path / "pipe")
    assert list(read_inputs(tmp_path)) == [
        {"path": str(tmp_path / "a.md"), "name": "a.md", "text": "ä"},
        {"path": str(tmp_path / "b.txt"), "name": "b.txt", "text": "B\r\n"},
    ]
    assert count_inputs(tmp_path) == 2
    assert [r["name"] for r in read_inputs(tmp_path, pattern="**/*.md")] == ["a.md", "c.md"]
    assert count_inputs(tmp_path, pattern="**/*.md") == 2


def test_files_of_a_folder_are_opened_when_it_is_their_turn(write: Any, tmp_path: Path) -> None:
    write("a.txt", "A")
    write("b.txt", "old")
    records = read_inputs(tmp_path)
    assert next(records)["text"] == "A"
    write("b.txt", "new")
    assert next(records)["text"] == "new"


def test_a_file_in_a_folder_that_is_not_utf8_is_named(write: Any, tmp_path: Path) -> None:
    path = write("a.txt", b"x\n\xff")
    assert refusal(read_inputs(tmp_path)).place == f"{path}:2:1"


def test_a_file_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with suppress(OSError):  # a file system may refuse the name itself
        Path(os.fsdecode(bytes(tmp_path) + b"/\xff.txt")).touch()
        assert "file name" in refusal(read_inputs(tmp_path)).problem


@pytest.mark.parametrize("pattern", ["", "/etc/*", "a\0b", "../*.txt", "**/../*"])
def test_a_pattern_that_is_none_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(InputError, match="is not a pattern"):
        read_inputs(tmp_path, pattern=pattern)


@pytest.mark.parametrize(
    ("data", "kind", "records"),
    [
        (b'\n{"a": 1}\n{"a": 2}\n', None, [{"a": 1}, {"a": 2}]),
        (b"one\ntwo\n", None, [{"text": "one", "line": 1}, {"text": "two", "line": 2}]),
        (b"{not json}\n", "txt", [{"text": "{not json}", "line": 1}]),
        (b"a,b\n1,2\n", "csv", [{"a": "1", "b": "2"}]),
        (b"", None, []),
        (b"", "jsonl", []),
    ],
)
def test_reads_standard_input(data: bytes, kind: InputFormat | None, records: list[dict[str, Any]]) -> None:
    assert list(read_inputs("-", format=kind, stdin=io.BytesIO(data))) == records


def test_lines_of_standard_input_keep_their_numbers_in_errors() -> None:
    assert refusal(read_inputs("-", stdin=io.BytesIO(b'\n\n{"a": 1}\n{'))).place == "standard input:4:2"


def test_standard_input_is_no_folder_and_has_no_count() -> None:
    assert "cannot be read as 'folder'" in refusal(read_inputs("-", format="folder", stdin=io.BytesIO())).problem
    assert count_inputs("-") is None


def test_a_pipe_is_read_once_and_not_counted(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(b'{"a": 1}\n')
    path = f"/dev/fd/{reading}"
    assert count_inputs(path, format="jsonl") is None
    assert list(read_inputs(path, format="jsonl")) == [{"a": 1}]
    os.close(reading)


def test_a_count_that_meets_a_mistake_is_none(write: Any) -> None:
    assert count_inputs(write("a.csv", "a,b\n1\n")) is None


@pytest.mark.parametrize(
    ("name", "header", "line"),
    [("a.jsonl", "", '{"a": "some text"}\n'), ("a.csv", "a\n", "some text\n"), ("a.txt", "", "some text\n")],
)
def test_memory_does_not_grow_with_the_file(write: Any, name: str, header: str, line: str) -> None:
    path = write(name, header + line * 50_000)
    records = read_inputs(path)
    next(records)
    tracemalloc.start()
    try:
        rest = sum(1 for _ in records)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rest == 49_999
    assert peak_bytes < path.stat().st_size / 4


def open_files() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def test_a_reader_that_is_left_early_closes_its_file(write: Any) -> None:
    before = open_files()
    records = read_inputs(write("a.txt", "one\ntwo\n"))
    next(records)
    assert open_files() == before + 1
    records.close()  # type: ignore[attr-defined]
    assert open_files() == before


text = st.text(st.characters(exclude_categories=["Cs"]))
scalars = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | text
)
objects = st.dictionaries(
    text, st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=4), max_size=3
)


@given(st.lists(objects, max_size=4))
def test_json_lines_and_lists_come_back(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("json")
    (folder / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "a.json").write_text(json.dumps(records, ensure_ascii=False), "utf-8")
    assert list(read_inputs(folder / "a.jsonl")) == records
    assert list(read_inputs(folder / "a.json")) == records


names = st.lists(text.filter(lambda name: name == name.strip() != ""), min_size=2, max_size=3, unique=True)


@given(
    names.flatmap(
        lambda header: st.tuples(
            st.just(header), st.lists(st.lists(text, min_size=len(header), max_size=len(header)), max_size=4)
        )
    )
)
def test_tables_come_back(tmp_path_factory: pytest.TempPathFactory, table: tuple[list[str], list[list[str]]]) -> None:
    header, rows = table
    folder = tmp_path_factory.mktemp("csv")
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([header, *rows])
        assert list(read_inputs(folder / name)) == [dict(zip(header, row, strict=True)) for row in rows]


@given(
    st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt"]),
    st.binary() | st.text('[]{}",:a1\n\r\t').map(str.encode),
)
def test_any_bytes_are_records_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / name
    path.write_bytes(data)
    with suppress(InputError):
        records = list(itertools.islice(read_inputs(path), 100))
        assert all(isinstance(record, dict) for record in records)
    assert count_inputs(path) in (None, *range(101))


def test_a_large_table_is_not_counted(write: Any) -> None:
    assert count_inputs(write("a.csv", "a\n" + "x" * 5_000_000)) is None
