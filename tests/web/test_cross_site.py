"""Other web sites' pages, and host names that only seem to lead to this machine."""

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from app.settings import read_settings
from app.web.cross_site import guard

LOCAL: list[str] = []
LOGINS = ["--host", "0.0.0.0", "--auth", "ada:secret"]
OPEN = ["--host", "0.0.0.0", "--public"]
OWN_PAGE = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}
OTHER_PAGE = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "origin": "https://evil.example"}
NEIGHBOUR = {**OTHER_PAGE, "sec-fetch-site": "same-site", "origin": "http://127.0.0.1:3000"}
LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
KEY = {"authorization": "Bearer ada"}


def ask(started: list[str], method: str, path: str, headers: dict[str, str], host: str = "127.0.0.1") -> httpx.Response:
    async def answer(_: Request) -> Response:
        return PlainTextResponse("served")

    routes = [Route("/{path:path}", answer, methods=["GET", "POST", "OPTIONS"])]
    client = TestClient(Starlette(routes=routes, middleware=guard(read_settings(started, {}))))
    return client.request(method, path, headers={"host": f"{host}:7860", **headers})


@pytest.mark.parametrize("started", [LOCAL, LOGINS])
@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/gradio_api/queue/join", OWN_PAGE, 200),
        ("POST", "/gradio_api/queue/join", OTHER_PAGE, 403),
        ("POST", "/gradio_api/queue/join", NEIGHBOUR, 403),
        ("POST", "/gradio_api/queue/join", {**OTHER_PAGE, **KEY}, 403),
        ("GET", "/gradio_api/file=/somewhere", OTHER_PAGE, 403),
        ("GET", "/", LINK, 200),
        ("GET", "/", {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}, 200),
        ("POST", "/login", LINK, 403),
        ("POST", "/gradio_api/queue/join", {}, 200),
        ("POST", "/v1/chat/completions", OTHER_PAGE, 403),
        ("POST", "/v1/chat/completions", {**OTHER_PAGE, **KEY}, 200),
        ("OPTIONS", "/v1/chat/completions", OTHER_PAGE, 200),
    ],
)
def test_other_sites_pages_reach_nothing(
    started: list[str], method: str, path: str, headers: dict[str, str], status: int
) -> None:
    assert ask(started, method, path, headers).status_code == status


def test_a_page_that_is_not_encrypted_is_known_by_its_origin() -> None:
    def posted(host: str, **headers: str) -> int:
        return ask(LOGINS, "POST", "/gradio_api/queue/join", headers, host).status_code

    assert posted("studio.lan", origin="http://studio.lan:7860") == 200
    assert posted("studio.lan", origin="http://evil.example") == 403
    assert posted("studio.lan", origin="null") == 403
    assert posted("studio.lan", origin="http://[") == 403
    forwarded = {"x-forwarded-host": "studio.example"}
    assert posted("10.0.0.7", origin="https://studio.example", **forwarded) == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost", 200),
        ("[::1]", 200),
        ("puyu.localhost", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("[", 403),
    ],
)
def test_a_server_for_one_machine_goes_by_that_machine_s_names(host: str, status: int) -> None:
    for path in ("/", "/v1/chat/completions"):
        assert ask(LOCAL, "GET", path, {**LINK, **KEY}, host).status_code == status
    assert ask(LOGINS, "GET", "/", LINK, host).status_code == 200
    behind_a_proxy = ["--auth", "ada:secret"]
    assert ask(behind_a_proxy, "GET", "/", LINK, host).status_code == 200


def test_a_page_for_everyone_may_stand_in_other_pages() -> None:
    assert ask(OPEN, "POST", "/gradio_api/queue/join", OTHER_PAGE, "studio.example").status_code == 200


def test_the_refusal_says_what_to_do() -> None:
    refused = ask(LOCAL, "POST", "/gradio_api/upload", {**OTHER_PAGE, "accept-language": "en"})
    assert refused.text.startswith("A page of another web site asked for this")
    api = ask(LOCAL, "GET", "/v1/models", {"accept-language": "en"}, "evil.example").json()["error"]
    assert (api["type"], api["message"].split(":")[0]) == (
        "invalid_request_error",
        "This server is for its own machine only",
    )
    assert ask(LOCAL, "GET", "/", {"accept-language": "zh-CN"}, "evil.example").text.startswith(
        "这台服务器只供本机使用"
    )
