"""Schema of the chat history's database and its migrations: one list of steps, counted by SQLite's user_version."""

from typing import Any

from sqlalchemy import Column, Connection, Float, Integer, MetaData, String, Table

from app.errors import StudioError

known = MetaData()
records = Table(
    "records",
    known,
    Column("owner", String, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("id", String, primary_key=True),
    Column("revision", Integer),
    Column("updated", Float),
    Column("size", Integer),
    Column("brief", String),  # what a list shows, as JSON; empty: deleted
    Column("words", String),  # what is searched
    Column("body", String),
)
shares = Table(
    "shares",
    known,
    Column("key", String, primary_key=True),
    Column("owner", String),
    Column("conversation", String),
    Column("size", Integer),
    Column("body", String),
)

# A step is never changed once it was released: a new one is added at the end.
STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE records (
            owner VARCHAR NOT NULL, kind VARCHAR NOT NULL, id VARCHAR NOT NULL, revision INTEGER NOT NULL,
            updated FLOAT NOT NULL, size INTEGER NOT NULL, brief VARCHAR NOT NULL, words VARCHAR NOT NULL,
            body VARCHAR NOT NULL, PRIMARY KEY (owner, kind, id))""",
        "CREATE INDEX records_by_revision ON records (owner, revision)",
        """CREATE TABLE shares (
            "key" VARCHAR NOT NULL PRIMARY KEY, owner VARCHAR NOT NULL, conversation VARCHAR NOT NULL,
            size INTEGER NOT NULL, body VARCHAR NOT NULL)""",
        "CREATE INDEX shares_by_conversation ON shares (owner, conversation)",
    ),
)


class NewerHistory(StudioError):
    zh = "数据文件夹里的对话由更新的版本写成（{found}，本版本到 {known}）。请使用更新的版本，或换一个数据文件夹。"
    en = (
        "The conversations in the data folder were written by a newer version ({found}, this one knows {known})."
        " Use that version, or another data folder."
    )


def migrate(connection: Connection) -> None:
    """Bring a database, new or of an earlier version, to the present schema. Raises NewerHistory."""
    found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if found > len(STEPS):
        raise NewerHistory(found=found, known=len(STEPS))
    for step in STEPS[found:]:
        for statement in step:
            connection.exec_driver_sql(statement)
    connection.exec_driver_sql(f"PRAGMA user_version = {len(STEPS)}")


def prepare(connection: Any, _: object) -> None:
    """A new connection of sqlite3: deleted text is overwritten, `holds` finds a word in whatever case."""
    for pragma in ("journal_mode=WAL", "secure_delete=ON", "synchronous=NORMAL", "busy_timeout=5000"):
        connection.execute(f"PRAGMA {pragma}")
    connection.create_function("holds", 2, lambda text, word: word in text.casefold(), deterministic=True)
