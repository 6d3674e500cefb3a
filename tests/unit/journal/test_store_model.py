"""A journal behaves like a dict whose first write wins, whatever is done to it in whatever order."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aurora_swarm.journal.schema import checksum
from aurora_swarm.journal.store import RecordStore

KEYS = st.integers(0, 30).map(lambda n: b"key %d" % n)
PAYLOADS = st.binary(max_size=6_000)


class StoreMachine(RuleBasedStateMachine):
    """Appends, finds, closes, and is killed."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "run.journal"
        self.store = RecordStore(self.path)
        self.model: dict[bytes, bytes] = {}

    @rule(items=st.lists(st.tuples(KEYS, PAYLOADS), min_size=1, max_size=8))
    def append(self, items: list[tuple[bytes, bytes]]) -> None:
        self.store.append([(key, checksum(key, payload), payload) for key, payload in items])
        for key, payload in items:
            self.model.setdefault(key, payload)

    @rule(keys=st.sets(KEYS))
    def find(self, keys: set[bytes]) -> None:
        assert self.store.find(keys) == {key: self.model[key] for key in keys if key in self.model}

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = RecordStore(self.path)
        assert self.store.notes == ()

    @rule()
    def continue_from_what_a_kill_would_leave(self) -> None:
        left = {c: f.read_bytes() for c in ("", "-wal") if (f := Path(f"{self.path}{c}")).exists()}
        self.store.close()
        for companion, data in left.items():
            Path(f"{self.path}{companion}").write_bytes(data)
        self.store = RecordStore(self.path)
        assert self.store.notes == ()

    @invariant()
    def it_counts_what_it_holds(self) -> None:
        done = self.store.statistics()
        assert (done.records, done.quarantined) == (len(self.model), 0)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
