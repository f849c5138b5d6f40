"""SQLite store of one collection: files, texts, passages, FTS5 keyword index, and the journal for crash recovery.

A version is one parsed state of a file. Its vectors live elsewhere, so two stores must agree: a journal row means «the
vectors of this version are to be removed». It is written before they are stored and erased in the same transaction
that makes the passages visible; replacing a version writes one for the old vectors. Whatever moment a process is
killed at, removing the journalled vectors makes both stores equal again.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal

from app.errors import BadInput
from app.knowledge.ingest.chunking import Passage
from app.knowledge.ingest.documents import Text
from app.knowledge.store import keyword_index
from app.knowledge.store.snapshot import Snapshot

FileState = Literal["waiting", "ready", "failed"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    id INTEGER PRIMARY KEY, origin TEXT NOT NULL, path TEXT NOT NULL, state TEXT NOT NULL, version INTEGER,
    hash TEXT NOT NULL DEFAULT '', stamp TEXT NOT NULL DEFAULT '', passages INTEGER NOT NULL DEFAULT 0,
    reason_zh TEXT NOT NULL DEFAULT '', reason_en TEXT NOT NULL DEFAULT '',
    note_zh TEXT NOT NULL DEFAULT '', note_en TEXT NOT NULL DEFAULT '', UNIQUE (origin, path));
CREATE TABLE IF NOT EXISTS journal (version INTEGER PRIMARY KEY AUTOINCREMENT, passages INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS texts (version INTEGER PRIMARY KEY, content TEXT NOT NULL, markup TEXT, page_starts TEXT);
CREATE TABLE IF NOT EXISTS passages (
    id INTEGER PRIMARY KEY, version INTEGER NOT NULL, number INTEGER NOT NULL, start INTEGER NOT NULL,
    stop INTEGER NOT NULL, page INTEGER, heading TEXT NOT NULL, content TEXT NOT NULL, UNIQUE (version, number));
CREATE TABLE IF NOT EXISTS added (file INTEGER PRIMARY KEY, metadata TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS files_by_version ON files (version);
"""
ADD_NOTES = """
ALTER TABLE files ADD COLUMN note_zh TEXT NOT NULL DEFAULT '';
ALTER TABLE files ADD COLUMN note_en TEXT NOT NULL DEFAULT '';
"""


@dataclass(frozen=True)
class FileRecord:
    """A file of a collection: where it came from, how its indexing went, and what was not read of it."""

    id: int
    origin: str
    path: str
    state: FileState
    version: int | None
    hash: str
    stamp: str
    passages: int
    reason_zh: str
    reason_en: str
    note_zh: str = ""
    note_en: str = ""


@dataclass(frozen=True)
class Prepared:
    """A parsed file, split and with its keywords segmented: (heading, content) for each passage."""

    file_id: int
    hash: str
    stamp: str
    text: Text
    passages: Sequence[Passage]
    keywords: Sequence[tuple[str, str]]


IDLE_CONNECTIONS = 2  # kept open between uses; each holds up to three files
_FILE = "id, origin, path, state, version, hash, stamp, passages, reason_zh, reason_en, note_zh, note_en"


class Database:
    """Safe from several threads; readers see whole versions only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        self._closed = False
        with self._connection() as connection:
            keyword_index.create(connection)
            connection.executescript(SCHEMA)
            if "note_zh" not in {row[1] for row in connection.execute("PRAGMA table_info(files)")}:
                connection.executescript(ADD_NOTES)

    def close(self) -> None:
        """Close the idle connections now, and those in use when they are given back."""
        self._closed = True
        while True:
            try:
                self._idle.get_nowait().close()
            except Empty:
                return

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._idle.get_nowait()
        except Empty:
            connection = sqlite3.connect(self._path, timeout=60, check_same_thread=False, isolation_level=None)
            connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA mmap_size=1073741824;")
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        if self._closed or self._idle.qsize() >= IDLE_CONNECTIONS:
            connection.close()
        else:
            self._idle.put(connection)

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """One consistent view of the index, for all legs of a search."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            yield Snapshot(connection)
            connection.execute("COMMIT")

    def renew_keywords(self, segmented: keyword_index.Segmented) -> bool:
        """Bring an older version's keyword index up to date; searches and indexing go on. Whether there was need."""
        with self._connection() as connection:
            if not keyword_index.is_old(connection):
                return False
            rows = keyword_index.renewed(connection, segmented)
        with self._change() as connection:
            keyword_index.replace(connection, rows)
        return True

    def files(self, origin: str | None = None) -> list[FileRecord]:
        """All files, or those of one origin, by path."""
        where, values = ("WHERE origin = ?", (origin,)) if origin is not None else ("", ())
        with self._connection() as connection:
            rows = connection.execute(f"SELECT {_FILE} FROM files {where} ORDER BY path, origin", values)
            return [FileRecord(*row) for row in rows]

    def has_waiting(self) -> bool:
        """Whether a listed file has not been reached."""
        with self._connection() as connection:
            return connection.execute("SELECT 1 FROM files WHERE state = 'waiting' LIMIT 1").fetchone() is not None

    def announce(self, origin: str, paths: Iterable[str]) -> None:
        """List files that are about to be indexed; those known already keep their state and content."""
        with self._change() as connection:
            connection.executemany(
                "INSERT INTO files (origin, path, state) VALUES (?, ?, 'waiting') ON CONFLICT DO NOTHING",
                ((origin, path) for path in paths),
            )

    def set_metadata(self, metadata: Mapping[int, dict[str, Any]]) -> None:
        """Keep what a program said about documents that are no files. Raises BadInput for what is no JSON."""
        try:
            rows = [(file_id, json.dumps(value)) for file_id, value in metadata.items()]
        except (TypeError, ValueError) as error:
            raise BadInput(reason_zh="元数据必须是 JSON。", reason_en="Metadata must be JSON.") from error
        with self._change() as connection:
            connection.executemany("INSERT OR REPLACE INTO added (file, metadata) VALUES (?, ?)", rows)

    def metadata(self, file_ids: Iterable[int]) -> dict[int, dict[str, Any]]:
        """What was said about those of the files that are documents added by a program."""
        wanted = set(file_ids)
        with self._connection() as connection:
            rows = connection.execute("SELECT file, metadata FROM added").fetchall()
        return {file_id: json.loads(value) for file_id, value in rows if file_id in wanted}

    def touch(self, file_id: int, stamp: str) -> None:
        """The file's content was looked at and is what the index has seen already."""
        with self._change() as connection:
            connection.execute(
                "UPDATE files SET stamp = ?, state = CASE reason_en WHEN '' THEN 'ready' ELSE 'failed' END"
                " WHERE id = ?",
                (stamp, file_id),
            )

    def wait_again(self, origin: str, path: str) -> None:
        """A new upload took this file's place on disk and is not parsed yet."""
        with self._change() as connection:
            connection.execute(
                "INSERT INTO files (origin, path, state) VALUES (?, ?, 'waiting')"
                " ON CONFLICT DO UPDATE SET state = 'waiting', stamp = ''",
                (origin, path),
            )

    def fail(self, file_id: int, digest: str, stamp: str, reason: tuple[str, str]) -> None:
        """List the file with its reason (zh, en). An older version that was parsed stays searchable."""
        with self._change() as connection:
            connection.execute(
                "UPDATE files SET state='failed', hash=?, stamp=?, reason_zh=?, reason_en=? WHERE id = ?",
                (digest, stamp, *reason, file_id),
            )

    def begin(self, batch: Sequence[Prepared]) -> list[int]:
        """Journal new versions before their vectors are stored."""
        with self._change() as connection:
            return [
                int(
                    connection.execute("INSERT INTO journal (passages) VALUES (?)", (len(new.passages),)).lastrowid or 0
                )
                for new in batch
            ]

    def publish(self, batch: Sequence[Prepared], versions: Sequence[int]) -> dict[int, int]:
        """Make the versions visible in place of the old ones, at once. Returns version -> passages to clear."""
        with self._change() as connection:
            retired: dict[int, int] = {}
            for new, version in zip(batch, versions, strict=True):
                retired |= _retire(connection, new.file_id)
                _insert(connection, new, version)
            connection.executemany("DELETE FROM journal WHERE version = ?", [(version,) for version in versions])
            return retired

    def remove(self, file_ids: Iterable[int]) -> dict[int, int]:
        """Take files out of the index. Returns version -> passages whose vectors are to be cleared."""
        with self._change() as connection:
            retired: dict[int, int] = {}
            for file_id in file_ids:
                retired |= _retire(connection, file_id)
                connection.execute("DELETE FROM files WHERE id = ?", (file_id,))
                connection.execute("DELETE FROM added WHERE file = ?", (file_id,))
            return retired

    def journal(self) -> dict[int, int]:
        """Versions whose vectors are to be removed, with their numbers of passages."""
        with self._connection() as connection:
            return dict(connection.execute("SELECT version, passages FROM journal"))

    def cleared(self, versions: Iterable[int]) -> None:
        """Their vectors are gone."""
        with self._change() as connection:
            connection.executemany("DELETE FROM journal WHERE version = ?", [(version,) for version in versions])

    def text(self, file_id: int) -> Text | None:
        """The converted text that a file's passages point into."""
        with self._connection() as connection:
            row = connection.execute(
                "SELECT content, markup, page_starts FROM texts JOIN files USING (version) WHERE id = ?", (file_id,)
            ).fetchone()
        return Text(row[0], row[1], tuple(json.loads(row[2]))) if row else None

    def embeddable(self) -> list[tuple[tuple[int, int], int, str]]:
        """Key, file and text to embed of every passage."""
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT p.version, p.number, f.id, p.heading, p.content FROM passages p"
                " JOIN files f ON f.version = p.version ORDER BY p.id"
            ).fetchall()
        return [((row[0], row[1]), row[2], under_heading(json.loads(row[3]), row[4])) for row in rows]

    def vector_keys(self) -> set[tuple[int, int]]:
        """What the vector store should hold, no more and no less."""
        with self._connection() as connection:
            return set(connection.execute("SELECT version, number FROM passages"))


def under_heading(heading: Sequence[str], content: str) -> str:
    """What is embedded: the passage under its headings, so that a short one still says what it is about."""
    return "\n".join([" > ".join(heading), content]).strip()


def _retire(connection: sqlite3.Connection, file_id: int) -> dict[int, int]:
    row = connection.execute("SELECT version, passages FROM files WHERE id = ?", (file_id,)).fetchone()
    if row is None or row[0] is None:
        return {}
    version, count = row
    connection.execute("DELETE FROM words WHERE rowid IN (SELECT id FROM passages WHERE version = ?)", (version,))
    connection.execute("DELETE FROM passages WHERE version = ?", (version,))
    connection.execute("DELETE FROM texts WHERE version = ?", (version,))
    connection.execute("INSERT INTO journal (version, passages) VALUES (?, ?)", (version, count))
    return {version: count}


def _insert(connection: sqlite3.Connection, new: Prepared, version: int) -> None:
    text = new.text
    connection.execute(
        "INSERT INTO texts VALUES (?, ?, ?, ?)", (version, text.content, text.markup, json.dumps(text.page_starts))
    )
    for number, (passage, keywords) in enumerate(zip(new.passages, new.keywords, strict=True)):
        content = text.content[passage.start : passage.end]
        heading = json.dumps(passage.heading, ensure_ascii=False)
        row = connection.execute(
            "INSERT INTO passages (version, number, start, stop, page, heading, content) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (version, number, passage.start, passage.end, passage.page, heading, content),
        ).lastrowid
        connection.execute("INSERT INTO words (rowid, heading, content) VALUES (?, ?, ?)", (row, *keywords))
    connection.execute(
        "UPDATE files SET state='ready', version=?, hash=?, stamp=?, passages=?, reason_zh='', reason_en='',"
        " note_zh=?, note_en=? WHERE id=?",
        (version, new.hash, new.stamp, len(new.passages), *text.note, new.file_id),
    )
