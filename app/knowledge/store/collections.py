"""Catalogue of collections (SQLite): owner, sharing, embedder. Names are only looked up, never used as paths."""

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from app.errors import BadInput, StudioError

SERVER = ""  # owner of what belongs to the server, such as the sample documents; no login is empty
IN_CONVERSATION = "\x1f"  # between person and conversation; stands in no name
USED_S = 60.0  # how exactly the catalogue knows when a collection was last used
_COLUMNS = "id, owner, name, shared, embedder"
NAME = re.compile(r"[^\x00-\x1f/\\]{1,60}")

SCHEMA = """
CREATE TABLE IF NOT EXISTS collections (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL, shared INTEGER NOT NULL, embedder TEXT NOT NULL,
    used REAL NOT NULL, unfinished INTEGER NOT NULL DEFAULT 1, UNIQUE (owner, name))
"""
# For a catalogue of an earlier version; every collection is then looked at once.
ADD_UNFINISHED = "ALTER TABLE collections ADD COLUMN unfinished INTEGER NOT NULL DEFAULT 1"


class NoSuchCollection(StudioError):
    """Also the answer for another's private collection: whether it exists is nobody's business."""

    zh = "没有名为 {name} 的文档集合。请先新建，或选择列表中的一个。"
    en = "There is no collection named {name}. Make one first, or choose one from the list."


class NotYours(StudioError):
    zh = "集合 {name} 是别人共享的，只能提问，不能修改。"
    en = "The collection {name} was shared by somebody else: you can ask it, not change it."


class FileGone(StudioError):
    zh = "这个文件已经不在集合里。"
    en = "This file is no longer in the collection."


class DataInUse(StudioError):
    zh = "数据文件夹 {folder} 正被另一个进程使用。请在页面上操作，或先停止那个进程。"
    en = "The data folder {folder} is in use by another process. Use its page, or stop it first."


class NotOffered(StudioError):
    zh = "这里不能使用向量模型 {name}。可以选：{offered}。"
    en = "The embedding model {name} is not offered here. Choose one of: {offered}."


@dataclass(frozen=True)
class Owner:
    """Who asks. A guest has no login; guest and login of the same name are different people."""

    name: str
    guest: bool = False
    conversation: str = ""  # of the chat, whose documents are nobody's elsewhere

    @property
    def key(self) -> str:
        """How the owner stands in the catalogue."""
        person = f"guest:{self.name}" if self.guest else f"login:{self.name}"
        return f"{person}{IN_CONVERSATION}{self.conversation}" if self.conversation else person


def person_of(key: str) -> str:
    """Whose an owner's key is, the conversation left out."""
    return key.partition(IN_CONVERSATION)[0]


@dataclass(frozen=True)
class Rights:
    """Who may name folders of the server: these logins, and guests where only the server's own people can come in.

    A guest's collections are forgotten when nobody used them for `guest_days`.
    """

    folder_owners: frozenset[str] = frozenset()
    guests_index_folders: bool = False
    guest_days: int = 1


@dataclass(frozen=True)
class CollectionRecord:
    """A collection of the catalogue; `id` is random and names its folder and its vectors."""

    id: str
    owner: str
    name: str
    shared: bool
    embedder: str


class Catalogue:
    """All collections of a data folder. Safe from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._connection() as connection:
            connection.execute(SCHEMA)
            columns = {row[1] for row in connection.execute("PRAGMA table_info(collections)")}
            if "unfinished" not in columns:
                connection.execute(ADD_UNFINISHED)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=60, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()

    def visible(self, owner: Owner) -> list[CollectionRecord]:
        """The owner's own collections by name, then what others share."""
        return self._chosen("WHERE owner = ? OR shared ORDER BY owner != ?, name", owner.key, owner.key)

    def readable(self, owner: Owner, name: str) -> CollectionRecord:
        """The owner's own collection of this name, else a shared one."""
        found = [record for record in self.visible(owner) if record.name == name]
        if not found:
            raise NoSuchCollection(name=name)
        with self._connection() as connection:
            now = time.time()
            connection.execute(
                "UPDATE collections SET used = ? WHERE id = ? AND used < ?", (now, found[0].id, now - USED_S)
            )
        return found[0]

    def writable(self, owner: Owner, name: str) -> CollectionRecord:
        """The owner's own collection of this name."""
        record = self.readable(owner, name)
        if record.owner != owner.key:
            raise NotYours(name=name)
        return record

    def make(self, owner: Owner, name: str, embedder: str, *, shared: bool = False) -> CollectionRecord:
        """The owner's own collection of this name, made if it is not there."""
        name = name.strip()
        if not NAME.fullmatch(name):
            raise BadInput(
                reason_zh="集合名需要 1 到 60 个字，不能有斜杠。",
                reason_en="A collection's name has 1 to 60 characters and no slashes.",
            )
        with self._connection() as connection:
            connection.execute(
                "INSERT INTO collections VALUES (?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO NOTHING",
                (token_hex(16), owner.key, name, shared, embedder, time.time()),
            )
        return self.writable(owner, name)

    def share(self, record: CollectionRecord, shared: bool) -> None:
        """Let everyone read it, or nobody else."""
        with self._connection() as connection:
            connection.execute("UPDATE collections SET shared = ? WHERE id = ?", (shared, record.id))

    def set_embedder(self, record: CollectionRecord, embedder: str) -> None:
        """After its index was rebuilt."""
        with self._connection() as connection:
            connection.execute("UPDATE collections SET embedder = ? WHERE id = ?", (embedder, record.id))

    def forget(self, record: CollectionRecord) -> None:
        """Take it off the list."""
        with self._connection() as connection:
            connection.execute("DELETE FROM collections WHERE id = ?", (record.id,))

    def all(self) -> list[CollectionRecord]:
        """Every collection; for the server's own housekeeping."""
        return self._chosen("")

    def unfinished(self) -> list[CollectionRecord]:
        """Collections with files that a run listed and did not reach."""
        return self._chosen("WHERE unfinished")

    def set_unfinished(self, collection: str, unfinished: bool) -> None:
        """Whether the next start of the server has to look for files that wait."""
        with self._connection() as connection:
            connection.execute("UPDATE collections SET unfinished = ? WHERE id = ?", (unfinished, collection))

    def left_by_guests(self, since: float) -> list[CollectionRecord]:
        """Guests' collections that nobody used since then."""
        return self._chosen("WHERE owner LIKE 'guest:%' AND used < ?", since)

    def left_in_conversations(self, since: float) -> list[CollectionRecord]:
        """Documents of conversations that nobody used since then: a browser may have forgotten them."""
        return self._chosen(f"WHERE owner LIKE '%{IN_CONVERSATION}%' AND used < ?", since)

    def _chosen(self, where: str, *values: object) -> list[CollectionRecord]:
        with self._connection() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM collections {where}", values).fetchall()
        return [_record(row) for row in rows]


def _record(row: tuple[str, str, str, int, str]) -> CollectionRecord:
    return CollectionRecord(row[0], row[1], row[2], bool(row[3]), row[4])
