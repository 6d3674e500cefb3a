"""The results file: what is there is whole, in order at the end, and never silently lost."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from aurora_swarm.cli.results import ResultsFile, ResultsStream, line_of
from aurora_swarm.errors import ConnectError, InputError, InvalidOutputError, StorageError
from aurora_swarm.values.outcome import AgentResult


def result(index: int, output: object = "x") -> AgentResult[object]:
    return AgentResult(index=index, key=f"k{index}", ok=True, output=output, error=None, text="raw")


def failure(index: int) -> AgentResult[object]:
    error = ConnectError("refused", endpoint="http://node1:8000")
    return AgentResult(index=index, key="k", ok=False, output=None, error=error, text="last words")


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def write_many(file: ResultsFile) -> None:
    for index in range(100):
        file.write(result(index, "x" * 100))


@contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_line_has_what_a_reader_needs() -> None:
    data = json.loads(line_of(result(3, {"a": 1})))
    assert data["index"] == 3
    assert data["ok"] is True
    assert data["output"] == {"a": 1}
    assert data["error"] is None
    assert {"key", "usage", "attempts", "turns", "tool_calls", "latency_s", "endpoint", "resumed"} <= data.keys()


def test_the_text_is_kept_only_where_there_is_no_output() -> None:
    assert "text" not in json.loads(line_of(result(0)))
    assert json.loads(line_of(failure(0)))["text"] == "last words"


def test_an_error_is_its_kind_and_its_sentence() -> None:
    assert json.loads(line_of(failure(0)))["error"] == {"kind": "connect", "message": "http://node1:8000: refused"}


def test_the_last_text_of_an_invalid_answer_is_there_once() -> None:
    error = InvalidOutputError("no JSON", text="blah")
    data = json.loads(line_of(AgentResult(index=0, key="k", ok=False, output=None, error=error, text="blah")))
    assert data["error"] == {"kind": "invalid_output", "message": "no JSON"}
    assert data["text"] == "blah"


def test_a_model_is_written_as_plain_data() -> None:
    class Answer(BaseModel):
        name: str

    assert json.loads(line_of(result(0, Answer(name="x"))))["output"] == {"name": "x"}


def test_half_a_surrogate_pair_does_not_stop_a_run() -> None:
    assert json.loads(line_of(result(0, "a\ud800b")))["output"] == "a\ud800b"


def test_results_are_readable_while_the_run_goes_on(tmp_path: Path) -> None:
    file = ResultsFile(tmp_path / "r.jsonl", kept=False)
    file.write(result(1))
    file.write(result(0))
    assert [line["index"] for line in lines(tmp_path / "r.jsonl")] == [1, 0]
    file.close()


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(12)), texts=st.lists(st.text(max_size=50), min_size=12, max_size=12))
def test_a_finished_run_is_in_the_order_of_its_inputs(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], texts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("results") / "r.jsonl"
    file = ResultsFile(path, kept=False)
    for index in order:
        file.write(result(index, texts[index]))
    file.finish()
    file.close()
    assert [(line["index"], line["output"]) for line in lines(path)] == list(enumerate(texts))
    assert [entry.name for entry in path.parent.iterdir()] == ["r.jsonl"]


def test_a_process_that_is_killed_leaves_every_result_that_it_had(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    program = (
        "import os, pathlib, sys\n"
        "from aurora_swarm.cli.results import ResultsFile\n"
        "from aurora_swarm.values.outcome import AgentResult\n"
        "file = ResultsFile(pathlib.Path(sys.argv[1]), kept=False)\n"
        "for i in range(50):\n"
        "    file.write(AgentResult(index=i, key='k', ok=True, output='x', error=None))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == -9
    assert [line["index"] for line in lines(path)] == list(range(50))


def test_results_that_nothing_else_keeps_are_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text("precious\n")
    with pytest.raises(InputError, match="holds results already") as caught:
        ResultsFile(path, kept=False)
    assert "--overwrite" in caught.value.remedy
    assert path.read_text() == "precious\n"


def test_a_run_that_does_not_start_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text("earlier\n")
    ResultsFile(path, kept=True).close()
    assert path.read_text() == "earlier\n"


def test_a_run_that_does_not_start_leaves_no_file(tmp_path: Path) -> None:
    file = ResultsFile(tmp_path / "r.jsonl", kept=False)
    file.close()
    file.close()
    assert not list(tmp_path.iterdir())


def test_a_run_over_nothing_leaves_an_empty_file(tmp_path: Path) -> None:
    file = ResultsFile(tmp_path / "r.jsonl", kept=False)
    file.finish()
    file.close()
    assert (tmp_path / "r.jsonl").read_bytes() == b""


def test_kept_results_are_replaced_with_the_first_new_one(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text("earlier\n")
    file = ResultsFile(path, kept=True)
    file.write(result(0))
    file.finish()
    file.close()
    assert [line["index"] for line in lines(path)] == [0]


def test_a_link_keeps_pointing_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "real.jsonl").touch(mode=0o600)
    link = tmp_path / "link.jsonl"
    link.symlink_to("real.jsonl")
    file = ResultsFile(link, kept=False)
    file.write(result(1))
    file.write(result(0))
    file.finish()
    file.close()
    assert link.is_symlink()
    assert [line["index"] for line in lines(tmp_path / "real.jsonl")] == [0, 1]
    assert stat.S_IMODE((tmp_path / "real.jsonl").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder, "Is a directory"),
        (lambda folder: folder / "missing" / "r.jsonl", "No such file"),
        (lambda folder: Path(f"{folder}/a\0b"), "null"),
    ],
)
def test_a_place_that_takes_no_file_is_refused_before_the_run(tmp_path: Path, make, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        ResultsFile(make(tmp_path), kept=False)
    assert caught.value.place
    assert "--output" in caught.value.remedy or "file in it" in caught.value.remedy


def test_a_full_disk_names_what_is_unsaved() -> None:
    file = ResultsFile(Path("/dev/full"), kept=False)
    with pytest.raises(StorageError, match=r"/dev/full: .*No space left") as caught:
        file.write(result(7))
    file.close()
    assert caught.value.unsaved == (7,)
    assert "free some space" in caught.value.remedy


def test_a_line_that_does_not_fit_is_taken_back_whole(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    file = ResultsFile(path, kept=False)
    with file_size_limit(1000), pytest.raises(StorageError, match="File too large") as caught:
        write_many(file)
    (lost,) = caught.value.unsaved
    file.close()
    assert [line["index"] for line in lines(path)] == list(range(lost))
    assert lost > 0


def test_lines_stay_as_they_came_when_there_is_no_room_to_order_them(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    file = ResultsFile(path, kept=False)
    file.write(result(1, "x" * 500))
    file.write(result(0, "x" * 500))
    with file_size_limit(600), pytest.raises(StorageError, match="File too large"):
        file.finish()
    file.close()
    assert [line["index"] for line in lines(path)] == [1, 0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.jsonl"]


def test_a_reader_that_goes_away_is_an_error_with_a_remedy() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = ResultsStream(writing, "standard output")
    with pytest.raises(StorageError, match=r"standard output: .*Broken pipe") as caught:
        stream.write(result(0))
    os.close(writing)
    assert "--output" in caught.value.remedy
