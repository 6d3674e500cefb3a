"""The file behind a store, as its one owner sees it. Blocking; one thread at a time.

A database of our own application id, in write-ahead mode, of which every commit is on the disk before it returns. Each
document carries a checksum. A lock beside it is held by the operating system and ends with the process, however that
ends; it is the one that journals use.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import msgspec
import numpy as np

from aurora_swarm.errors import JournalHeldError, StorageError, StoreHeldError
from aurora_swarm.journal.ownership import Ownership
from aurora_swarm.memory.changes import Change, Drops, Kept, Puts, Removes
from aurora_swarm.memory.checking import Vectors
from aurora_swarm.memory.places import Failure, foreign, newer, refuse_place, refused, unwritten
from aurora_swarm.ports.store import Document

APPLICATION_ID = 0x41537673
VERSION = 1
_TABLES = (
    """CREATE TABLE collections (
  key INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, embedder TEXT NOT NULL, fields BLOB NOT NULL,
  dimensions INTEGER)""",
    """CREATE TABLE documents (
  collection INTEGER NOT NULL, id BLOB NOT NULL, text BLOB NOT NULL, metadata BLOB NOT NULL, vector BLOB NOT NULL,
  checksum INTEGER NOT NULL)""",
    "CREATE UNIQUE INDEX documents_by_id ON documents (collection, id)",
)
_ROWS_PER_STATEMENT = (256, 32, 4, 1)

_Row = tuple[int, bytes, bytes, bytes, bytes, int]


class StoreFile:
    """An open file.

    Args:
        path: The file; created when nothing is there. Symbolic links are followed.

    Raises:
        StoreHeldError: Another process holds it, or this one a second time; the holder is named.
        StoreError: The place cannot hold a store, or something else is there.
        StorageError: It cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path))
        try:
            refuse_place(self.path)
            self._ownership = Ownership(self.path.with_name(self.path.name + ".lock"))
        except JournalHeldError as error:
            raise StoreHeldError(
                error.problem, remedy="wait for that process or stop it, or open a store of your own"
            ) from None
        except OSError as error:
            raise refused(self.path, error) from error
        try:
            self._db = self._opened()
        except BaseException:
            self._ownership.release()
            raise

    def load(self) -> Iterator[tuple[Kept, list[Document], Vectors]]:
        """All collections, each with its documents and their vectors, in the order in which they were made.

        Raises:
            StorageError: The file is damaged.
        """
        try:
            for key, name, embedder, fields, dimensions in self._db.execute(
                "SELECT key, name, embedder, fields, dimensions FROM collections ORDER BY key"
            ).fetchall():
                kept = Kept(key, name, embedder, msgspec.json.decode(fields, type=dict[str, str]), dimensions)
                yield kept, *self._documents(kept)
        except (*Failure, msgspec.MsgspecError) as error:
            raise unwritten(self.path, error) from error

    def write(self, changes: Sequence[Change]) -> None:
        """Make changes durable in one transaction, in their order, all or none.

        Raises:
            StorageError: They could not be written.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for change in changes:
                self._change(change)
            self._db.execute("COMMIT")
        except Failure as error:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise unwritten(self.path, error) from error

    def close(self) -> None:
        """Fold the write-ahead log into the file and let go of it."""
        try:
            self._db.close()
        finally:
            self._ownership.release()

    def _opened(self) -> sqlite3.Connection:
        try:
            self.path.touch()
            db = sqlite3.connect(
                f"{self.path.as_uri()}?mode=rw", uri=True, timeout=0.0, isolation_level=None, check_same_thread=False
            )
        except OSError as error:
            raise refused(self.path, error) from error
        try:
            self._prepare(db)
        except Failure as error:
            db.close()
            raise unwritten(self.path, error) from error
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        # Exclusive: no other program can write, and the index of the log stays in memory.
        for pragma in ("locking_mode=EXCLUSIVE", "trusted_schema=OFF", "cell_size_check=ON"):
            db.execute(f"PRAGMA {pragma}").close()
        application, version = (db.execute(f"PRAGMA {p}").fetchone()[0] for p in ("application_id", "user_version"))
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application != APPLICATION_ID and (application or tables):
            raise foreign(self.path)
        if version > VERSION:
            raise newer(self.path, version, VERSION)
        db.execute("PRAGMA journal_mode=WAL").close()
        db.execute("PRAGMA synchronous=FULL").close()
        if not tables:
            self._create(db)

    def _create(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        db.execute(f"PRAGMA user_version={VERSION}")
        for table in _TABLES:
            db.execute(table)
        db.execute("COMMIT")

    def _documents(self, kept: Kept) -> tuple[list[Document], Vectors]:
        documents: list[Document] = []
        vectors: list[bytes] = []
        rows = self._db.execute(
            "SELECT id, text, metadata, vector, checksum FROM documents WHERE collection = ?", (kept.key,)
        )
        for id_, text, metadata, vector, checksum in rows:
            if _checksum(id_, text, metadata, vector) != checksum or len(vector) != 4 * (kept.dimensions or 0):
                raise StorageError(
                    f"document {_decoded(id_)!r} of collection {kept.name!r} is damaged",
                    path=str(self.path),
                    remedy="restore the file from a copy, or move it away and fill a new store",
                )
            documents.append(Document(_decoded(id_), _decoded(text), msgspec.json.decode(metadata)))
            vectors.append(vector)
        matrix = np.frombuffer(b"".join(vectors), dtype="<f4").astype(np.float32)
        return documents, matrix.reshape(len(documents), kept.dimensions or 0)

    def _change(self, change: Change) -> None:
        match change:
            case Kept(key, name, embedder, fields):
                self._db.execute(
                    "INSERT INTO collections (key, name, embedder, fields) VALUES (?, ?, ?, ?)",
                    (key, name, embedder, msgspec.json.encode(fields)),
                )
            case Puts(key, documents, vectors):
                self._put(key, documents, vectors)
            case Removes(key, ids):
                self._db.executemany(
                    "DELETE FROM documents WHERE collection = ? AND id = ?", [(key, _encoded(id_)) for id_ in ids]
                )
            case Drops(key):
                self._db.execute("DELETE FROM documents WHERE collection = ?", (key,))
                self._db.execute("DELETE FROM collections WHERE key = ?", (key,))

    def _put(self, key: int, documents: Sequence[Document], vectors: Sequence[Vectors]) -> None:
        self._db.execute(
            "UPDATE collections SET dimensions = ? WHERE key = ? AND dimensions IS NULL", (vectors[0].shape[1], key)
        )
        rows = (_row(key, document, vector) for document, vector in zip(documents, chain(*vectors), strict=True))
        left = len(documents)
        # Many rows to a statement: the interpreter's lock is given up and taken once for each, and where the event
        # loop is busy it takes milliseconds to get it back.
        for size in _ROWS_PER_STATEMENT:
            for _ in range(left // size):
                values = [value for row in islice(rows, size) for value in row]
                self._db.execute(_insert(size), values)
            left %= size


def _insert(rows: int) -> str:
    marks = ",".join(["(?,?,?,?,?,?)"] * rows)
    columns = "collection, id, text, metadata, vector, checksum"
    return f"INSERT OR REPLACE INTO documents ({columns}) VALUES {marks}"  # noqa: S608 - only marks


def _row(key: int, document: Document, vector: Vectors) -> _Row:
    id_, text = _encoded(document.id), _encoded(document.text)
    metadata, numbers = msgspec.json.encode(dict(document.metadata)), vector.astype("<f4", copy=False).tobytes()
    return key, id_, text, metadata, numbers, _checksum(id_, text, metadata, numbers)


def _checksum(id_: bytes, text: bytes, metadata: bytes, vector: bytes) -> int:
    """CRC-32 over a document; begins with lengths, so that no end can move into the next part."""
    total = zlib.crc32(f"{len(id_)} {len(text)} {len(metadata)} ".encode())
    for part in (id_, text, metadata, vector):
        total = zlib.crc32(part, total)
    return total


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogatepass")
