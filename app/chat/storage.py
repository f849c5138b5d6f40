"""Server-side chat history: conversations, presets, drafts and share links of logins in SQLite (SQLAlchemy Core)."""

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from re import IGNORECASE, escape, search, sub
from secrets import token_urlsafe
from typing import Any

from sqlalchemy import Connection, Delete, RowMapping, create_engine, delete, event, func, insert, select, update

from app.access.identity import Login
from app.chat.storage_schema import migrate, prepare, records, shares
from app.errors import BadInput
from app.files import first_words

KINDS = ("conversation", "preset", "draft")
LARGEST_RECORD = 8 * 2**20
MOST_RECORDS = 20_000  # of one login
LONGEST_ID, LONGEST_NAME = 64, 60
GONE_S = 7 * 86_400  # an open page of another device hears of a deletion for so long
AROUND = 60  # characters of an excerpt before and after what was found


class HistoryFull(BadInput):
    status = 413
    zh = "您在服务器上的对话已占满 {limit} MB，这次的改动没有保存。请删除一些对话，或先导出再删除。"
    en = (
        "Your conversations fill the {limit} MB that you have on this server, so this change was not stored."
        " Delete some; export them first if you want to keep them."
    )


class RecordTooLarge(HistoryFull):
    zh = "这个对话超过了 {limit} MB，无法再保存。请新建一个对话。"
    en = "This conversation is larger than {limit} MB and cannot be stored any more. Begin a new one."


class TooManyRecords(HistoryFull):
    zh = "您在服务器上已有 {limit} 个对话，这次的改动没有保存。请删除一些。"
    en = "You have {limit} conversations on this server, so this change was not stored. Delete some."


class NotARecord(BadInput):
    status = 422
    zh = "这不是可以保存的对话。请刷新页面后再试。"
    en = "This is no conversation that can be stored. Reload the page and try again."


class Changed(BadInput):
    """Somebody else wrote the record meanwhile; `record` is what is there now."""

    status = 409
    zh = "另一个页面已修改了这个对话，请刷新页面。"
    en = "Another page has changed this conversation. Reload the page."

    def __init__(self, record: Mapping[str, Any]) -> None:
        super().__init__()
        self.record = record


@dataclass(frozen=True)
class Shared:
    """What a share link shows."""

    title: str
    turns: tuple[dict[str, Any], ...]


class History:
    """Each login's own records: every query names its owner. Safe from several threads.

    `mib` 0 is no limit. Deleted text is overwritten, in the file and in its log.
    """

    def __init__(self, file: Path, mib: int = 0) -> None:
        self._mib = mib
        self._lock = threading.Lock()
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
        self._engine = create_engine(f"sqlite:///{file}", hide_parameters=True)  # an error is logged, no text with it
        event.listen(self._engine, "connect", prepare)
        with self._transaction() as connection:
            migrate(connection)

    def close(self) -> None:
        self._engine.dispose()

    def briefs(self, owner: Login, kind: str, since: int = 0) -> tuple[int, list[dict[str, Any]]]:
        """What has changed after revision `since`, and the revision now. Deleted ones are there as `gone`."""
        own = (records.c.owner == owner) & (records.c.kind == kind)
        wanted = select(records.c.id, records.c.revision, records.c.updated, records.c.brief)
        with self._transaction() as connection:
            rows = connection.execute(wanted.where(own, records.c.revision > since)).mappings().all()
        listed = [_brief_of(row) for row in rows if since or row["brief"]]
        return max([since, *(row["revision"] for row in rows)]), listed

    def read(self, owner: Login, kind: str, name: str) -> dict[str, Any] | None:
        """A record with its revision; of a deleted one only that it is gone."""
        with self._transaction() as connection:
            return _record(_row(connection, owner, kind, name))

    def write(self, owner: Login, kind: str, name: str, body: Mapping[str, Any], revision: int) -> int:
        """Store `body` over the record of that revision (0: none yet); its new revision.

        Raises NotARecord, RecordTooLarge, HistoryFull, or Changed where the record is another by now.
        """
        brief, text = _checked(kind, name, body)
        if len(text) > LARGEST_RECORD:
            raise RecordTooLarge(limit=LARGEST_RECORD // 2**20)
        words = _words(body) if kind == "conversation" else ""
        size = len(text) + len(words.encode()) + len(brief.encode())
        with self._transaction() as connection:
            row = _row(connection, owner, kind, name)
            if (row["revision"] if row else 0) != revision:
                raise Changed(_record(row) or {"id": name, "gone": True, "turns": [], "revision": 0})
            self._make_room(connection, owner, size - (row["size"] if row else 0))
            values = {"size": size, "brief": brief, "words": words, "body": text}
            return _put(connection, owner, kind, name, values)

    def delete(self, owner: Login, kind: str, name: str) -> None:
        """Take a record away with its share link; nothing of its text stays in the file."""
        with self._transaction() as connection:
            if _row(connection, owner, kind, name):
                _put(connection, owner, kind, name, {"size": 0, "brief": "", "words": "", "body": ""})
                if kind == "conversation":
                    connection.execute(_link_of(owner, name))
            old = (records.c.brief == "") & (records.c.updated < time.time() - GONE_S)
            connection.execute(delete(records).where(old))
        self._scrub()

    def search(self, owner: Login, words: str) -> list[dict[str, str]]:
        """Conversations that hold every word, each with an excerpt around the first."""
        wanted = words.casefold().split()[:20]
        if not wanted:
            return []
        holds = [func.holds(records.c.words, word) for word in wanted]
        found = select(records.c.id, records.c.words).where(records.c.owner == owner, records.c.brief != "", *holds)
        with self._engine.connect() as connection:  # beside what is written: it reads all words of this owner
            rows = connection.execute(found).mappings().all()
        return [{"id": row["id"], "excerpt": _excerpt(row["words"], wanted[0])} for row in rows]

    def share(self, owner: Login, conversation: str, shown: Mapping[str, Any]) -> str:
        """A random key that opens what is `shown` of a conversation now, until it is withdrawn or made anew.

        Raises NotARecord, HistoryFull.
        """
        turns = shown.get("turns")
        if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
            raise NotARecord
        kept = {"title": first_words(str(shown.get("title", ""))), "turns": [_shown(turn) for turn in turns]}
        body, key = json.dumps(kept), token_urlsafe(24)
        with self._transaction() as connection:
            row = _row(connection, owner, "conversation", conversation)
            if not row or not row["brief"]:
                raise NotARecord
            connection.execute(_link_of(owner, conversation))
            self._make_room(connection, owner, len(body))
            values = {"key": key, "owner": owner, "conversation": conversation, "size": len(body), "body": body}
            connection.execute(insert(shares).values(values))
        return key

    def share_of(self, owner: Login, conversation: str) -> str | None:
        """The key of a conversation's link."""
        own = (shares.c.owner == owner) & (shares.c.conversation == conversation)
        with self._transaction() as connection:
            return connection.execute(select(shares.c.key).where(own)).scalar()

    def withdraw(self, owner: Login, conversation: str) -> None:
        """The conversation's link opens nothing from now on."""
        with self._transaction() as connection:
            connection.execute(_link_of(owner, conversation))
        self._scrub()

    def shared(self, key: str) -> Shared | None:
        """What the link with this key shows."""
        with self._transaction() as connection:
            body = connection.execute(select(shares.c.body).where(shares.c.key == key)).scalar()
        kept = json.loads(body) if body else None
        return Shared(kept["title"], tuple(kept["turns"])) if kept else None

    def _make_room(self, connection: Connection, owner: Login, more: int) -> None:
        """Raises HistoryFull. What makes a record smaller is always taken."""
        if more <= 0:
            return
        count, used = connection.execute(
            select(func.count(), func.coalesce(func.sum(records.c.size), 0)).where(records.c.owner == owner)
        ).one()
        linked = connection.execute(
            select(func.coalesce(func.sum(shares.c.size), 0)).where(shares.c.owner == owner)
        ).scalar_one()
        if count >= MOST_RECORDS:
            raise TooManyRecords(limit=MOST_RECORDS)
        if self._mib and used + linked + more > self._mib * 2**20:
            raise HistoryFull(limit=self._mib)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._lock, self._engine.begin() as connection:
            yield connection

    def _scrub(self) -> None:
        """Empty the write-ahead log, which still holds pages as they were."""
        with self._lock, self._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _link_of(owner: Login, conversation: str) -> Delete:
    return delete(shares).where(shares.c.owner == owner, shares.c.conversation == conversation)


def _row(connection: Connection, owner: Login, kind: str, name: str) -> RowMapping | None:
    own = (records.c.owner == owner) & (records.c.kind == kind) & (records.c.id == name)
    return connection.execute(select(records).where(own)).mappings().first()


def _put(connection: Connection, owner: Login, kind: str, name: str, values: dict[str, Any]) -> int:
    """Write the record under a revision that its owner never had before."""
    highest = select(func.coalesce(func.max(records.c.revision), 0)).where(records.c.owner == owner)
    now = time.time()
    revision = max(connection.execute(highest).scalar_one() + 1, int(now * 1e6))
    identity = {"owner": owner, "kind": kind, "id": name}
    fresh = values | {"revision": revision, "updated": now}
    same = (records.c.owner == owner) & (records.c.kind == kind) & (records.c.id == name)
    if not connection.execute(update(records).where(same).values(fresh)).rowcount:
        connection.execute(insert(records).values(identity | fresh))
    return revision


def _record(row: RowMapping | None) -> dict[str, Any] | None:
    if row is None:
        return None
    kept = json.loads(row["body"]) if row["brief"] else {"id": row["id"], "gone": True, "turns": []}
    return kept | {"revision": row["revision"]}


def _brief_of(row: RowMapping) -> dict[str, Any]:
    told = json.loads(row["brief"]) if row["brief"] else {"gone": True}
    return told | {"id": row["id"], "revision": row["revision"]}


def _checked(kind: str, name: str, body: Mapping[str, Any]) -> tuple[str, str]:
    """What a list shows of the record, and the record, both as JSON. Raises NotARecord."""
    if kind not in KINDS or not 0 < len(name) <= LONGEST_ID or body.get("id") != name:
        raise NotARecord
    turns = body.get("turns", [])
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise NotARecord
    title, folder, changed = body.get("title"), body.get("folder"), body.get("updated")
    brief = {
        "title": title[:LONGEST_NAME] if isinstance(title, str) else "",
        "folder": folder[:LONGEST_NAME] if isinstance(folder, str) else "",
        "pinned": body.get("pinned") is True,
        "updated": changed if isinstance(changed, int | float) else 0,
    }
    kept = {key: value for key, value in body.items() if key != "revision"}
    return json.dumps(brief), json.dumps(kept, allow_nan=False)


def _words(body: Mapping[str, Any]) -> str:
    told = [body.get("title"), *(turn.get("content") for turn in body.get("turns", []))]
    return "\n".join(part for part in told if isinstance(part, str))


def _shown(turn: Mapping[str, Any]) -> dict[str, Any]:
    """Of a turn what its reader is to see: no thinking, no passages of documents, no settings."""
    pictures = turn.get("pictures")
    kept = [one for one in pictures if isinstance(one, str)] if isinstance(pictures, list) else []
    return {"role": str(turn.get("role", "")), "content": str(turn.get("content", "")), "pictures": kept}


def _excerpt(text: str, word: str) -> str:
    """A line of text around a word."""
    found = search(escape(word), text, IGNORECASE)
    start, end = (max(0, found.start() - AROUND // 2), found.end() + AROUND) if found else (0, AROUND)
    line = " ".join(text[start:end].split())
    return sub(r"^\S{0,12} ", "", line) if start else line  # not from the middle of a word
