"""Which files pass for GGUF."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aurora_swarm.errors import ModelUnavailableError
from aurora_swarm.local.weights import check_gguf

HEAD = b"GGUF" + (3).to_bytes(4, "little") + (2).to_bytes(8, "little") + (5).to_bytes(8, "little")


def file_of(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    return str(path)


def test_a_file_with_the_head_of_a_gguf_passes(tmp_path: Path) -> None:
    given_path = file_of(tmp_path, HEAD + b"rest")
    assert check_gguf(given_path) == Path(given_path)


def test_a_tilde_is_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file_of(tmp_path, HEAD)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert check_gguf("~/model.gguf") == tmp_path / "model.gguf"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no GGUF file"),
        (b"PK\x03\x04" + bytes(40), "no GGUF file"),
        (HEAD[:23], "cut short"),
        (b"GGUF" + bytes(40), "damaged"),
        (b"GGUF" + (3).to_bytes(4, "big") + bytes(40), "damaged"),
    ],
    ids=["empty", "zip", "cut", "version 0", "big-endian"],
)
def test_other_content_is_refused_with_the_path_and_a_remedy(tmp_path: Path, content: bytes, said: str) -> None:
    path = file_of(tmp_path, content)
    with pytest.raises(ModelUnavailableError, match=said) as caught:
        check_gguf(path)
    assert path in str(caught.value)
    assert caught.value.remedy


def test_a_missing_file_tells_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match="No such file") as caught:
        check_gguf(str(tmp_path / "none.gguf"))
    assert "AURORA_SWARM_LOCAL_MODEL" in caught.value.remedy


def test_a_folder_and_a_pipe_are_refused_without_opening_them(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ModelUnavailableError, match="no regular file"):
            check_gguf(str(path))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@example(name="~nobody", content=b"")
@given(name=st.text(min_size=1, max_size=20), content=st.binary(max_size=40))
def test_no_name_and_no_bytes_end_in_another_error(tmp_path: Path, name: str, content: bytes) -> None:
    for text in (name, file_of(tmp_path, content)):
        try:
            check_gguf(text)
        except ModelUnavailableError:
            continue
