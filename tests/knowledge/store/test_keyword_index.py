"""Keyword search in every script, and in collections that an older version of the program indexed."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.knowledge.retrieve.segmenting import query_words, segmented_anew
from app.knowledge.store import keyword_index
from app.knowledge.store.database import Database
from tests.knowledge.conftest import ANN, Start, run

TEXTS = {
    "ru.md": "# Значки\n\nЗначок Ады синий.\n",
    "de.md": "# Türen\n\nDie Tür schließt um neun.\n",
    "ko.md": "# 배지\n\n에이다의 배지는 파란색이다.\n",
    "ar.md": "# قطط\n\nالقط يأكل السمك.\n",
    "hi.md": "# बिल्ली\n\nहिन्दी में लिखा है।\n",
    "hu.md": "# बिल्ली\n\nहिन्दू शब्द अलग है।\n",
    "ja.md": "# 会議\n\nサーバーは火曜日に止まる。\n",
    "th.md": "# ประตู\n\nประตูเปิดเวลาเก้านาฬิกา\n",
    "en.md": "# Boats\n\nThe boat is painted every spring.\n",
    "zh.md": "# 缓存\n\n键值缓存占用显存。\n",
}
ASKED = [
    ("ЗНАЧОК", ["ru.md"]),
    ("schliesst", ["de.md"]),
    ("Tur", ["de.md"]),
    ("배지", ["ko.md"]),
    ("السمك", ["ar.md"]),
    ("हिन्दी", ["hi.md"]),
    ("サーバー", ["ja.md"]),
    ("เปิดเวลา", ["th.md"]),
    ("boat", ["en.md"]),
    ("缓存", ["zh.md"]),
]
BEFORE = re.compile(r"[A-Za-z0-9]+|[\u3400-\u9fff]{2}")  # what was a word, more or less


@pytest.fixture
def index(start: Start, tmp_path: Path) -> Path:
    """The index of a collection that has all the texts."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    service = start()
    run(service.index_folder(ANN, "course", folder))
    service.close()
    return next((tmp_path / "data").rglob("index.db"))


def found(index: Path, asked: str) -> list[str]:
    """The files that the keyword search finds."""
    with closing(Database(index)) as database, database.snapshot() as snapshot:
        return sorted({passage.path for passage, _ in snapshot.matching(query_words(asked), 10, None)})


def make_old(index: Path) -> None:
    """As an older version left it: another tokenizer, no words of other scripts, no version."""
    with closing(sqlite3.connect(index)) as connection:
        rows = connection.execute("SELECT id, content FROM passages").fetchall()
        connection.execute("DROP TABLE words")
        connection.execute("CREATE VIRTUAL TABLE words USING fts5(heading, content, tokenize='porter unicode61')")
        for key, content in rows:
            segmented = " ".join(BEFORE.findall(content.lower()))
            connection.execute("INSERT INTO words (rowid, heading, content) VALUES (?, '', ?)", (key, segmented))
        connection.execute("PRAGMA user_version = 0")
        connection.commit()


@pytest.mark.parametrize(("asked", "files"), ASKED)
def test_words_of_every_script_are_found(index: Path, asked: str, files: list[str]) -> None:
    assert found(index, asked) == files


def test_an_older_collection_is_searched_and_renewed_at_the_start(index: Path, start: Start) -> None:
    make_old(index)
    assert found(index, "boat") == ["en.md"]
    assert found(index, "Значок") == []
    start().start().join()
    for asked, files in ASKED:
        assert found(index, asked) == files
    with closing(Database(index)) as database:
        assert not database.renew_keywords(segmented_anew)


def test_a_passage_that_was_replaced_meanwhile_keeps_its_own_words(index: Path) -> None:
    with closing(sqlite3.connect(index)) as connection:
        key, version, number = connection.execute(
            "SELECT p.id, p.version, p.number FROM passages p JOIN files f USING (version) WHERE f.path = 'en.md'"
        ).fetchone()
        keyword_index.replace(connection, [("", "stale", key, version - 100, number)])
        connection.commit()
    assert found(index, "boat") == ["en.md"]
    assert found(index, "stale") == []


def test_files_are_indexed_and_removed_after_the_renewal(index: Path, start: Start, tmp_path: Path) -> None:
    make_old(index)
    service = start()
    service.start().join()
    (tmp_path / "texts" / "ru.md").write_text("# Значки\n\nНасос сломан.\n", encoding="utf-8")
    run(service.index_folder(ANN, "course", tmp_path / "texts"))
    assert found(index, "Насос") == ["ru.md"]
    assert found(index, "Значок") == []
