"""Conversations of logins on the server: whose they are, what is written meanwhile, what stays of what was deleted."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.access.identity import Login
from app.chat.history_routes import history_routes
from app.chat.storage import Changed, History, HistoryFull, NotARecord
from app.chat.storage_schema import NewerHistory

ADA, LIN = Login("ada"), Login("lin")


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    made = History(tmp_path / "chat" / "history.db", mib=1)
    yield made
    made.close()


@pytest.fixture
def client(history: History) -> TestClient:
    """The routes, for whoever the header names."""
    routes = history_routes(history, lambda request: request.headers.get("who"))
    return TestClient(Starlette(routes=routes), headers={"accept-language": "en"})


def talk(name: str, *said: str, **more: Any) -> dict[str, Any]:
    turns = [
        {"id": f"{name}{at}", "role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(said)
    ]
    return {"id": name, "title": said[0], "turns": turns, "updated": 5.0} | more


def test_two_devices_write_one_conversation_and_neither_overwrites_the_other(history: History) -> None:
    first = history.write(ADA, "conversation", "a", talk("a", "one"), 0)
    second = history.write(ADA, "conversation", "a", talk("a", "one", "two", pinned=True), first)
    with pytest.raises(Changed) as other:
        history.write(ADA, "conversation", "a", talk("a", "one", "three"), first)
    assert other.value.record["turns"][1]["content"] == "two" and other.value.record["revision"] == second
    revision, changed = history.briefs(ADA, "conversation", first)
    assert revision == second
    assert changed == [{"id": "a", "title": "one", "folder": "", "pinned": True, "updated": 5.0, "revision": second}]
    assert history.briefs(ADA, "conversation", second) == (second, [])


def test_nobody_else_sees_changes_finds_or_shares_it(client: TestClient, history: History) -> None:
    place, ada, lin = "/history/conversation/a", {"who": "ada"}, {"who": "lin"}
    assert client.put(place, json=talk("a", "a secret"), headers=ada).status_code == 200
    assert client.post("/history/found", headers=ada, json={"words": "SECRET"}).json() == [
        {"id": "a", "excerpt": "a secret a secret"}
    ]
    assert client.post("/history/found", headers=lin, json={"words": "secret"}).json() == []
    assert client.get("/history/conversation", headers=lin).json()["records"] == []
    assert client.get(place, headers=lin).json() is None
    assert client.put(f"{place}/link", json=talk("a", "x"), headers=lin).status_code == 422
    client.delete(place, headers=lin)
    assert client.put(place, json=talk("a", "his own"), headers=lin).status_code == 200
    kept = history.read(ADA, "conversation", "a")
    assert kept and kept["title"] == "a secret"
    for method, path in (("GET", place), ("PUT", place), ("DELETE", place), ("GET", "/history/conversation")):
        assert client.request(method, path, json={}).json() == {"error": "Log in first."}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[]", 422),
        (b'{"id": "b"}', 422),
        (b'{"id": "a", "turns": [3]}', 422),
        (b'{"id": "a", "title": "\\ud83d"}', 422),
        (b'{"id": "a", "x": NaN}', 422),
        (b'{"id": "a", "x": "' + b"x" * (9 * 2**20) + b'"}', 413),
        (b'{"id": "a", "x": "' + b"x" * 2**20 + b'"}', 413),
    ],
)
def test_what_is_no_conversation_or_too_much_gets_a_sentence(client: TestClient, body: bytes, status: int) -> None:
    sent = {"who": "ada", "content-type": "application/json"}
    answer = client.put("/history/conversation/a", content=body, headers=sent)
    assert answer.status_code == status
    assert answer.json()["error"].endswith(".")


def test_the_size_is_limited_for_each_login_and_what_shrinks_is_taken(history: History) -> None:
    long = "x" * 600_000
    revision = history.write(ADA, "conversation", "a", talk("a", "one", long[:400_000]), 0)
    with pytest.raises(HistoryFull, match="1 MB"):
        history.write(ADA, "conversation", "b", talk("b", "two", long), 0)
    history.write(LIN, "conversation", "b", talk("b", "two", long[:400_000]), 0)
    history.write(ADA, "conversation", "a", talk("a", "one"), revision)
    with pytest.raises(NotARecord):
        history.write(ADA, "strange", "c", {"id": "c"}, 0)


def test_deletion_leaves_nothing_of_the_text_on_the_disk(history: History, tmp_path: Path) -> None:
    revision = history.write(ADA, "conversation", "a", talk("a", "title", "password of the safe " * 900), 0)
    history.write(ADA, "conversation", "a", talk("a", "title", "password of the safe"), revision)
    key = history.share(ADA, "a", talk("a", "title", "password of the safe"))
    history.delete(ADA, "conversation", "a")
    assert history.shared(key) is None
    assert history.read(ADA, "conversation", "a") == {
        "id": "a",
        "gone": True,
        "turns": [],
        "revision": history.briefs(ADA, "conversation", 1)[0],
    }
    assert history.briefs(ADA, "conversation")[1] == []
    for file in (tmp_path / "chat").iterdir():
        assert b"password" not in file.read_bytes(), file
    assert (tmp_path / "chat" / "history.db").stat().st_mode & 0o077 == 0


def test_a_share_link_shows_that_moment_alone_until_it_is_withdrawn(client: TestClient) -> None:
    ada, place = {"who": "ada"}, "/history/conversation/a"
    answer = "**Bold** <script>alert(1)</script> ![](http://far/x.png) [go](javascript:alert(1))"
    told = talk("a", "<i>why</i>", answer, settings={"system": "be secret"})
    told["turns"][1] |= {"reasoning": "thought in secret", "sources": [{"text": "secret passage"}]}
    revision = client.put(place, json=told, headers=ada).json()["revision"]
    key = client.put(f"{place}/link", json=told, headers=ada).json()["key"]
    client.put(f"{place}?revision={revision}", json=talk("a", "why", "later words"), headers=ada)
    assert client.get(f"{place}/link", headers=ada).json() == {"key": key}
    page = client.get(f"/shared/{key}")
    assert "<strong>Bold</strong>" in page.text and "&lt;i&gt;why&lt;/i&gt;" in page.text
    for hidden in ("<script", "<img", 'javascript:alert(1)"', "secret", "later words", "ada"):
        assert hidden not in page.text, hidden
    assert client.get(f"/shared/{key[:-1]}").status_code == 404
    again = client.put(f"{place}/link", json=told, headers=ada).json()["key"]
    assert client.get(f"/shared/{key}").status_code == 404
    client.delete(f"{place}/link", headers={"who": "lin"})
    assert client.get(f"/shared/{again}").status_code == 200
    client.delete(f"{place}/link", headers=ada)
    assert "not any more" in client.get(f"/shared/{again}").text
    assert client.get(f"{place}/link", headers=ada).json() == {"key": None}


def test_a_data_folder_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    History(file).close()
    History(file).close()  # once more is no other schema
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(NewerHistory):
        History(file)
