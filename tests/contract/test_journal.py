"""The SQLite journal keeps the contract of its port."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from aurora_swarm.journal.open import open_journal
from aurora_swarm.testing.journal_contract import Damage, JournalContract, JournalFactory


class TestSqliteJournal(JournalContract):
    @pytest.fixture
    def journal_factory(self, tmp_path: Path) -> JournalFactory:
        return lambda: open_journal(tmp_path / "run.journal")

    @pytest.fixture
    def damage(self, tmp_path: Path) -> Damage:
        def change_payload(key: str) -> None:
            with closing(sqlite3.connect(tmp_path / "run.journal")) as db, db:
                db.execute("UPDATE records SET payload = payload || x'00' WHERE key = CAST(? AS BLOB)", (key,))
                assert db.total_changes == 1

        return change_payload
