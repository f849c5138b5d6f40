"""Forwarded headers: believed from a trusted proxy, removed from everybody else."""

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from app.access.client_address import address_of
from app.errors import SettingsError
from app.settings import read_settings
from app.web.cross_site import guard
from app.web.proxy_headers import trust_proxies

FORWARDED = {"x-forwarded-for": "8.8.8.8", "x-forwarded-proto": "https", "x-forwarded-host": "studio.example"}


def seen(peer: str, trusted: str, headers: dict[str, str]) -> list[str]:
    """What the application behind it takes for the visitor's address, scheme and host."""

    async def tell(request: Request) -> Response:
        assert request.client is not None
        told = [request.client.host, request.url.scheme, request.headers.get("x-forwarded-host", "")]
        return JSONResponse([*told, request.headers.get("forwarded", "")])

    application = Starlette(routes=[Route("/", tell)], middleware=[trust_proxies(trusted)])
    return list(TestClient(application, client=(peer, 1)).get("/", headers=headers).json())


@pytest.mark.parametrize("trusted", ["10.0.0.2", "10.0.0.0/8", "*", "127.0.0.1, 10.0.0.2"])
def test_a_trusted_proxy_tells_whom_it_asks_for(trusted: str) -> None:
    assert seen("10.0.0.2", trusted, FORWARDED) == ["8.8.8.8", "https", "studio.example", ""]
    standard = {"forwarded": 'for="[2001:db8::7]:4711";proto=https;host=studio.example'}
    assert seen("10.0.0.2", trusted, standard) == ["2001:db8::7", "https", "studio.example", ""]


@pytest.mark.parametrize("peer", ["10.0.0.3", "9.9.9.9"])
def test_nobody_else_is_believed(peer: str) -> None:
    both = {**FORWARDED, "forwarded": "for=8.8.8.8;proto=https"}
    assert seen(peer, "10.0.0.2", both) == [peer, "http", "", ""]
    assert seen(peer, "", both) == [peer, "http", "", ""]


def test_what_a_visitor_adds_before_the_proxy_is_not_believed() -> None:
    made_up = {"x-forwarded-for": "1.1.1.1, 8.8.8.8, 10.0.0.9"}
    assert seen("10.0.0.2", "10.0.0.0/8", made_up)[0] == "8.8.8.8"
    made_up = {"forwarded": "for=1.1.1.1;host=evil.example, for=8.8.8.8;host=studio.example, for=10.0.0.9"}
    assert seen("10.0.0.2", "10.0.0.0/8", made_up)[:3] == ["8.8.8.8", "http", "studio.example"]


def test_a_private_start_is_not_opened_by_a_proxy_that_uses_its_name() -> None:
    async def serve(_: Request) -> Response:
        return Response("served")

    settings = read_settings([], {})
    application = Starlette(
        routes=[Route("/", serve)], middleware=[trust_proxies(settings.trusted_proxies), *guard(settings)]
    )
    client = TestClient(application, base_url="http://127.0.0.1:7860", client=("127.0.0.1", 1))
    assert client.get("/").status_code == 200
    assert client.get("/", headers={"x-forwarded-for": "8.8.8.8"}).status_code == 403


def test_a_household_counts_once() -> None:
    def counted(host: str) -> str:
        return address_of(Request({"type": "http", "client": (host, 1), "headers": []}))

    assert counted("2001:db8::1") == counted("2001:db8::2") != counted("2001:db8:0:1::1")
    assert counted("::ffff:8.8.8.8") == counted("8.8.8.8") != counted("8.8.4.4")


def test_the_name_that_uvicorn_gives_the_setting_works_and_a_typing_error_is_told() -> None:
    assert read_settings([], {"FORWARDED_ALLOW_IPS": "10.0.0.2"}).trusted_proxies == "10.0.0.2"
    with pytest.raises(SettingsError, match="trusted_proxies"):
        read_settings(["--trusted-proxies", "10.0.0.x"], {})
