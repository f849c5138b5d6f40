"""Downloads while they are sent: files that go meanwhile, and how many are under way."""

import asyncio
import io
import zipfile
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient
from starlette.types import Message, Scope

from app.access.links import Links
from app.finetune.download_routes import AT_ONCE, Sending, TooManyDownloads, download_routes
from app.finetune.downloads import PART, PATH, Download


@pytest.fixture
def made(tmp_path: Path) -> Download:
    files = []
    for name in ("weights", "words"):
        (tmp_path / name).write_bytes(name.encode() * PART)
        files.append((name, tmp_path / name, (tmp_path / name).stat().st_mtime_ns))
    return Download("lin", "made.zip", tuple(files))


def test_what_is_deleted_or_replaced_meanwhile_is_sent_whole_and_not_given_for_another(made: Download) -> None:
    under_way = made.stream()
    begun = next(under_way)
    for _, file, _ in made.files:
        file.unlink()
    with zipfile.ZipFile(io.BytesIO(b"".join([begun, *under_way]))) as packed:
        assert {name: packed.read(name) for name in packed.namelist()} == {
            name: name.encode() * PART for name, _, _ in made.files
        }
    for _, file, _ in made.files:
        file.write_bytes(b"another checkpoint")
    with pytest.raises(FileNotFoundError):
        next(made.stream())


def test_a_few_are_under_way_at_a_time_for_each_owner(made: Download) -> None:
    sending = Sending()
    first, *others = [sending.parts(made) for _ in range(AT_ONCE)]
    assert all(next(parts) for parts in (first, *others))
    with pytest.raises(TooManyDownloads):
        next(sending.parts(made))
    assert next(sending.parts(Download("eve", made.name, made.files)))
    first.close()
    assert next(sending.parts(made))


def test_who_hangs_up_gives_the_place_back(made: Download) -> None:
    links: Links[Download] = Links(PATH + "?key={key}")
    link = links.make(made)
    app = Starlette(routes=download_routes(links, lambda _: None))
    path, _, query = link.partition("?")
    asked = {"method": "GET", "path": f"/{path}", "query_string": query.encode(), "headers": [], "root_path": ""}
    scope: Scope = {"type": "http", "asgi": {"spec_version": "2.4"}, **asked}

    async def receive() -> Message:
        return {"type": "http.request"}

    async def hang_up(message: Message) -> None:
        if message.get("body"):
            raise OSError

    kept = []
    for _ in range(AT_ONCE + 1):
        with pytest.raises(ClientDisconnect) as caught:
            asyncio.run(app(dict(scope), receive, hang_up))
        kept.append(caught)  # and with it whatever was at work
    assert TestClient(app).get(link).status_code == 200
    made.files[0][1].unlink()
    assert TestClient(app).get(link).status_code == 404
