"""One factory opens journals by path or URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from aurora_swarm.errors import UsageError
from aurora_swarm.journal.null import NullJournal
from aurora_swarm.journal.open import open_journal
from aurora_swarm.journal.sqlite import SqliteJournal
from aurora_swarm.values.record import Record


async def test_none_keeps_nothing() -> None:
    journal = await open_journal(None)
    assert isinstance(journal, NullJournal)
    await journal.append(Record("key", b"payload"))
    assert dict(await journal.find(["key"])) == {}
    assert journal.statistics().written == 0
    await journal.aclose()


@pytest.mark.parametrize("form", ["{}", "sqlite://{}"])
async def test_a_path_and_a_sqlite_url_name_the_same_file(tmp_path: Path, form: str) -> None:
    journal = await open_journal(form.format(tmp_path / "run.journal"))
    assert isinstance(journal, SqliteJournal)
    await journal.aclose()
    assert [file.name for file in tmp_path.iterdir()] == ["run.journal"]


async def test_a_relative_url_starts_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    await (await open_journal("sqlite://run.journal")).aclose()
    assert (tmp_path / "run.journal").is_file()


@pytest.mark.parametrize("place", ["redis://localhost:port", "postgres://host/db", "", "sqlite://", "nul\0nul"])
async def test_other_places_are_refused_with_a_remedy(place: str) -> None:
    with pytest.raises(UsageError) as caught:
        await open_journal(place)
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["with space", "per%20cent", "question?mark", "hash#tag", "ümläut", "a:b"])
async def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    for expected in (0, 1):
        journal = await open_journal(tmp_path / name)
        assert journal.statistics().records == expected
        await journal.append(Record("key", b"payload"))
        await journal.aclose()
    assert [file.name for file in tmp_path.iterdir()] == [name]
