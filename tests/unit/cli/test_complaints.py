"""How errors are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.cli import main
from aurora_swarm.cli.complaints import ranges, sentences
from aurora_swarm.errors import HostfileError, StorageError, UsageError


def test_an_error_is_a_sentence_and_a_remedy() -> None:
    assert list(sentences(UsageError("it is wrong", remedy="do it right"))) == [
        "error: it is wrong",
        "  try: do it right",
    ]


def test_every_error_of_a_source_has_its_place_and_its_remedy() -> None:
    first = HostfileError("bad port", source="hosts", line=2, column=7, remedy="use 1-65535")
    second = HostfileError("no host", source="hosts", line=5, field="role", remedy="name one")
    assert list(sentences(HostfileError.all_of([first, second]))) == [
        "error: hosts:2:7: bad port",
        "  try: use 1-65535",
        "error: hosts:5: role: no host",
        "  try: name one",
    ]


def test_a_remedy_for_several_errors_in_a_row_is_said_once() -> None:
    errors = [HostfileError("bad", source="hosts", line=line, remedy="mend it") for line in (1, 2)]
    assert list(sentences(HostfileError.all_of(errors))) == [
        "error: hosts:1: bad",
        "error: hosts:2: bad",
        "  try: mend it",
    ]


def test_what_is_unsaved_is_named() -> None:
    error = StorageError("disk full", path="r.jsonl", unsaved=(3, 5, 6, 7), remedy="free some")
    assert "3, 5-7" in list(sentences(error))[1]


@given(st.lists(st.integers(0, 60)))
def test_ranges_name_each_number_and_no_other(numbers: list[int]) -> None:
    named: set[int] = set()
    for part in filter(None, ranges(numbers).split(", ")):
        first, _, last = part.partition("-")
        named |= set(range(int(first), int(last or first) + 1))
    assert named == set(numbers)


def test_an_unforeseen_exception_is_a_sentence(monkeypatch, capfd) -> None:
    def explode(*_: object) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("aurora_swarm.cli.endpoints.chosen_backend", explode)
    monkeypatch.delenv("AURORA_SWARM_DEBUG", raising=False)
    assert main(["endpoints"]) == 1
    said = capfd.readouterr().err
    assert "internal error: ZeroDivisionError: surprise" in said
    assert "please report" in said
    assert "Traceback" not in said


def test_debug_shows_the_traceback(monkeypatch, capfd) -> None:
    def explode(*_: object) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("aurora_swarm.cli.endpoints.chosen_backend", explode)
    monkeypatch.setenv("AURORA_SWARM_DEBUG", "1")
    assert main(["endpoints"]) == 1
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], [], ["map", "--help"], ["--version"]])
def test_help_and_version_are_data(arguments: list[str], capfd) -> None:
    assert main(arguments) == 0
    captured = capfd.readouterr()
    assert captured.out
    assert not captured.err


@pytest.mark.parametrize("command", ["demo", "run", "map", "ask", "local", "wait", "endpoints"])
def test_the_help_of_every_command_has_examples(command: str, capfd) -> None:
    main([command, "--help"])
    assert capfd.readouterr().out.count(f"aurora-swarm {command}") >= 3  # its usage and two examples
