"""What one visitor may upload in an hour, and what stays of an upload that broke off."""

import os
import time
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from app.access.upload_limits import UploadBudget, UploadsSpent, gate
from tests.waiting import wait_for

MIB = bytes(2**20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "uploads"


def client(folder: Path, mib: int, sweep_s: float = 60) -> TestClient:
    """An application that takes whatever comes, behind the gate; who logs in says so in a header."""

    async def take(request: Request) -> Response:
        return JSONResponse(len(await request.body()))

    route = Route("/gradio_api/upload", take, methods=["POST"])
    app = Starlette(routes=[route], middleware=[gate(mib, lambda request: request.headers.get("login"), sweep_s)])
    app.uploaded_file_dir = str(folder)  # type: ignore[attr-defined]
    return TestClient(app)


def send(to: TestClient, login: str = "", language: str = "en", mib: int = 1) -> httpx.Response:
    headers = {"login": login, "accept-language": language}
    return to.post("/gradio_api/upload", params={"upload_id": "x"}, content=MIB * mib, headers=headers)


def test_an_hour_s_megabytes_are_each_visitor_s_own(folder: Path) -> None:
    server = client(folder, 3)
    assert [send(server, "ada").status_code for _ in range(4)] == [200, 200, 200, 429]
    assert send(server, "lin", mib=3).status_code == 200
    assert send(server, "ada").text.startswith("You may upload 3 MB in an hour")
    assert send(server, "ada", "zh-CN").text.startswith("每小时最多上传 3 MB")
    assert send(server, "", mib=4).status_code == 429
    assert send(server, "").status_code == 200, "an address is a visitor, too"


def test_a_refusal_speaks_the_language_of_the_page(folder: Path) -> None:
    for noted, sentence in (
        ("zh", "每小时最多上传 1 MB"),
        ("en", "You may upload 1 MB"),
        ("fr", "You may upload 1 MB"),
    ):
        server = client(folder, 1)
        server.cookies.set("studio-language", noted)
        assert send(server, "ada", "en-US", mib=2).text.startswith(sentence)


def test_an_upload_that_hides_its_size_is_refused_where_there_is_a_limit(folder: Path) -> None:
    for mib, status in ((1, 411), (0, 200)):
        sent = client(folder, mib).post("/gradio_api/upload", content=iter([MIB, MIB]))
        assert sent.status_code == status


def test_what_was_spent_comes_back() -> None:
    now = [0.0]
    budget = UploadBudget(1, lambda: now[0])
    budget.spend("ada", 2**20)
    with pytest.raises(UploadsSpent, match="60 min"):
        budget.spend("ada", 1)
    now[0] = 3601
    budget.spend("ada", 2**20)


def test_nothing_stays_of_what_broke_off(folder: Path) -> None:
    (folder / "full").mkdir(parents=True)
    (folder / "empty").mkdir()
    old, new, kept = folder / "tmpold", folder / "tmpnew", folder / "full" / "data.csv"
    for path in (old, new, kept):
        path.write_text("x")
    for path in (old, kept, folder / "full", folder / "empty"):
        os.utime(path, (time.time() - 60,) * 2)
    with client(folder, 0, sweep_s=0.01) as server:
        send(server)
        wait_for(lambda: not old.exists() and not (folder / "empty").exists())
    assert new.exists() and kept.exists()
