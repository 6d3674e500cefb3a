"""Words to the user."""

from __future__ import annotations

import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.cli.voice import one_line, say, shown, tell


@given(st.text())
def test_what_is_shown_cannot_steer_a_terminal(text: str) -> None:
    assert not [c for c in shown(text) if c not in "\n\t" and unicodedata.category(c)[0] == "C"]


def test_ordinary_text_is_shown_unchanged() -> None:
    text = "Grüße\n\t½ \u05e9\u05dc\u05d5\u05dd"
    assert shown(text) == text


@given(st.text(), st.integers(3, 80))
def test_one_line_is_one_line_of_its_width(text: str, width: int) -> None:
    line = one_line(text, width)
    assert len(line) <= width
    assert "\n" not in line


def test_say_escapes_what_the_terminal_has_no_letter_for(monkeypatch) -> None:
    stderr = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr("sys.stderr", stderr)
    say("Grüße")
    assert stderr.buffer.getvalue() == b"Gr\\xfc\\xdfe\n"


def test_say_outlives_a_stderr_that_is_gone(monkeypatch) -> None:
    stderr = io.StringIO()
    stderr.close()
    monkeypatch.setattr("sys.stderr", stderr)
    say("anybody there?")


@pytest.mark.parametrize("text", ["plain", "half a pair \ud800"])
def test_tell_writes_utf_8(text: str, capfd) -> None:
    tell(text)
    assert capfd.readouterr().out == text.encode("utf-8", "backslashreplace").decode() + "\n"
