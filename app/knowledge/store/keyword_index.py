"""FTS5 keyword index of a collection, and its renewal where an older version of the program wrote it."""

import json
import sqlite3
from collections.abc import Callable, Iterable

VERSION = 1  # of how texts become words; kept in the file as `user_version`
COLUMNS = "heading, content, tokenize=\"porter unicode61 remove_diacritics 2 categories 'L* N* Co M*'\""
CREATE = f"CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5({COLUMNS})"
Segmented = Callable[[str, str], tuple[str, str] | None]
Renewed = Iterable[tuple[str, str, int, int, int]]  # heading, content; the passage's id, version and number


def create(connection: sqlite3.Connection) -> None:
    """Make the index of a new collection; that of an older one stays as it is and is searched until it is renewed."""
    is_new = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'words'").fetchone() is None
    connection.execute(CREATE)
    if is_new:
        connection.execute(f"PRAGMA user_version = {VERSION}")


def is_old(connection: sqlite3.Connection) -> bool:
    """Whether an older version wrote it."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0]) < VERSION


def renewed(connection: sqlite3.Connection, segmented: Segmented) -> list[tuple[str, str, int, int, int]]:
    """Keywords of those passages that `segmented` reads otherwise than before; None says that one is as it was."""
    found = []
    for key, version, number, heading, content in connection.execute(
        "SELECT id, version, number, heading, content FROM passages"
    ):
        keywords = segmented(" ".join(json.loads(heading)), content)
        if keywords is not None:
            found.append((*keywords, key, version, number))
    return found


def replace(connection: sqlite3.Connection, rows: Renewed) -> None:
    """Take the old index over into a new one with these keywords, within the caller's transaction.

    A passage that was replaced meanwhile has its own keywords already.
    """
    connection.execute(f"CREATE VIRTUAL TABLE renewed USING fts5({COLUMNS})")
    connection.execute("INSERT INTO renewed (rowid, heading, content) SELECT rowid, heading, content FROM words")
    connection.executemany(
        "UPDATE renewed SET heading = ?1, content = ?2 WHERE rowid = ?3"
        " AND EXISTS (SELECT 1 FROM passages WHERE id = ?3 AND version = ?4 AND number = ?5)",
        rows,
    )
    connection.execute("DROP TABLE words")
    connection.execute("ALTER TABLE renewed RENAME TO words")
    connection.execute(f"PRAGMA user_version = {VERSION}")
