"""Read transaction for one search: passages by keyword (BM25) and by key."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

RATED = 5000  # passages that one keyword search computes a score for, the rarest word's always
_PASSAGE = "p.version, p.number, f.id, f.path, p.start, p.stop, p.page, p.heading, p.content"


@dataclass(frozen=True)
class StoredPassage:
    """A passage as it lies in the index."""

    version: int
    number: int
    file_id: int
    path: str
    start: int
    end: int
    page: int | None
    heading: tuple[str, ...]
    content: str

    @property
    def key(self) -> tuple[int, int]:
        """What names it in both stores."""
        return self.version, self.number


class Snapshot:
    """Reading for one search."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def matching(
        self, words: Sequence[str], limit: int, files: Sequence[int] | None
    ) -> list[tuple[StoredPassage, float]]:
        """The best passages that hold any of the words with their BM25 score, headings counting double."""
        expression = " OR ".join(f'"{word}"' for word in self._telling(words))
        if not expression:
            return []
        chosen = f"AND f.id IN ({','.join(map(str, map(int, files)))})" if files is not None else ""
        rows = self._connection.execute(
            f"SELECT {_PASSAGE}, bm25(words, 2.0, 1.0) AS cost FROM words JOIN passages p ON p.id = words.rowid"
            f" JOIN files f ON f.version = p.version WHERE words MATCH ? {chosen} ORDER BY cost LIMIT ?",
            (expression, limit),
        )
        return [(_stored(row[:-1]), -row[-1]) for row in rows]

    def _telling(self, words: Sequence[str]) -> list[str]:
        """The rarest of the words, as many as few enough passages hold.

        In a large collection a frequent word adds next to nothing to a score, and rating all that hold it takes long.
        """
        frequency, _ = self.frequencies(words)
        kept: list[str] = []
        rated = 0
        for word in sorted((word for word in words if frequency[word]), key=frequency.__getitem__):
            rated += frequency[word]
            if kept and rated > RATED:
                break
            kept.append(word)
        return kept

    def passages(self, keys: Sequence[tuple[int, int]]) -> list[StoredPassage]:
        """Those of the keys that are visible, in their order."""
        found = []
        for key in keys:
            row = self._connection.execute(
                f"SELECT {_PASSAGE} FROM passages p JOIN files f ON f.version = p.version"
                " WHERE p.version = ? AND p.number = ?",
                key,
            ).fetchone()
            if row:
                found.append(_stored(row))
        return found

    def frequencies(self, terms: Iterable[str]) -> tuple[dict[str, int], int]:
        """In how many passages each word stands, and how many passages there are."""
        found = {
            term: int(
                self._connection.execute("SELECT count(*) FROM words WHERE words MATCH ?", (f'"{term}"',)).fetchone()[0]
            )
            for term in terms
        }
        return found, int(self._connection.execute("SELECT count(*) FROM passages").fetchone()[0])


def _stored(row: tuple[Any, ...]) -> StoredPassage:
    version, number, file_id, path, start, end, page, heading, content = row
    return StoredPassage(version, number, file_id, path, start, end, page, tuple(json.loads(heading)), content)
