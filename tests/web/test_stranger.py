"""A stranger's tour of a public server: every route, endpoint and event, with chosen session hashes and odd bodies."""

import base64
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio_client import Client, handle_file
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from app.paths import ROOT
from app.services import Services
from app.settings import Settings, read_settings
from app.web.gradio_guard import guard_gradio
from app.web.gradio_sessions import NEW_OF_ADDRESS, SessionClaims, TooManySessions
from tests.real_server import StudioData, serving
from tests.test_pictures import png_header
from tests.waiting import wait_for

ODD: list[Any] = [
    *({}, [], 3, None, "x"),
    {"data": []},
    {"data": [], "fn_index": 99_999, "session_hash": "a"},
    {"data": [], "fn_index": -1, "session_hash": "a"},
    {"data": [], "fn_index": 10**30, "session_hash": "a"},
    {"data": [], "fn_index": "0", "session_hash": "a"},
    {"data": [], "fn_index": True, "session_hash": "a"},
    {"data": "x", "fn_index": 0, "session_hash": "a"},
    {"data": {}, "fn_index": 0, "session_hash": "a"},
    *({"data": [], "fn_index": 0, "session_hash": odd} for odd in (5, ["x"], "", "a" * 5000, "a b", "server\n")),
    {"data": [], "fn_index": 0, "session_hash": "a", "trigger_id": "x"},
    {"data": [], "fn_index": 0, "session_hash": "a", "batched": True, "event_data": {"a": [1]}},
]
ODD_REQUESTS: list[tuple[str, bytes]] = [
    ("x", b""),
    ("..%2f..%2f..%2fetc%2fpasswd", b"{}"),
    ("%00", b"[1]"),
    ("%ff%fe", b"\xff\xfe"),
    ("a" * 3000, b"a=1&b=%00"),
    ("%3Cscript%3E", b"--x\r\n\r\n"),
]
RAW = [
    b"",
    b"\xff\xfe",
    b"{",
    b"[" * 100_000,
    b'{"data": ["\\ud83d"]}',
    b'{"data": [NaN], "fn_index": 0}',
    b'{"data": [1e999]}',
]
WAYS = ("call", "call/v2", "run")
NAMES = ["queue/join", "cancel", "reset", *(f"{way}/{name}" for way in WAYS for name in ("chat", "no"))]
CLOSED = [
    *("/monitoring", "/monitoring/summary", "/gradio_api/runs", "/gradio_api/run-history/buckets", "/pwa_icon/9"),
    *("/gradio_api/deep_link?session_hash=a", "/gradio_api/vibe-code/", "/gradio_api/dev/reload", "/metrics"),
    *("/gradio_api/proxy=http://127.0.0.1/", "/gradio_api/stream/a/b/1/playlist.m3u8"),
]
NESTED = [[[None, {"a": [-1]}]]]
PATHS = ("Traceback", str(ROOT), "site-packages", 'File "')
Public = tuple[str, Services, gr.Blocks]


@pytest.fixture(scope="module")
def public(studio_data: StudioData) -> Iterator[Public]:
    """A server that is open to strangers, behind a proxy of this machine."""
    data = studio_data("public")
    with serving(Settings(data=data, device="cpu", public=True, port=0)) as public:
        services = public[1]
        assert services.better is None and services.files is None, "what changes this machine is for its own people"
        yield public


@pytest.fixture
def address(public: Public) -> str:
    return public[0]


def event(address: str, number: int, data: list[Any], session: str, **headers: str) -> str:
    """What a page's event shows, called by its number."""
    body = {"fn_index": number, "data": data, "session_hash": session, "trigger_id": None}
    joined = httpx.post(f"{address}/gradio_api/queue/join", json=body, headers=headers)
    if joined.status_code != 200:
        return joined.text
    query = {"session_hash": session}
    with httpx.stream("GET", f"{address}/gradio_api/queue/data", params=query, headers=headers, timeout=120) as told:
        return "".join(line for line in told.iter_lines() if '"process_completed"' in line)


@pytest.mark.parametrize("name", NAMES)
def test_odd_bodies_are_refused_in_a_sentence(address: str, name: str) -> None:
    with httpx.Client(base_url=address, timeout=120) as client:
        for body in [*(json.dumps(odd).encode() for odd in ODD), *RAW]:
            answer = client.post(f"/gradio_api/{name}", content=body, headers={"content-type": "application/json"})
            assert answer.status_code < 500, (body[:200], answer.text)
            assert not any(mark in answer.text for mark in PATHS), body[:200]


def test_what_no_page_uses_is_closed(address: str) -> None:
    assert {path: httpx.get(address + path).status_code for path in CLOSED} == dict.fromkeys(CLOSED, 404)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_every_route_answers_odd_paths_and_bodies(public: Public, method: str) -> None:
    address, _, blocks = public
    own = {str(route.path) for route in blocks.app.routes if getattr(route, "path", "")}
    templates = sorted(own | set(blocks.app.openapi()["paths"]))
    assert {"/healthz", "/v1/chat/completions", "/gradio_api/upload"} <= set(templates)
    with httpx.Client(base_url=address, timeout=120) as client:
        for template, (odd, body) in itertools.product(templates, ODD_REQUESTS):
            path = re.sub("{[^}]*}", odd, template)
            with client.stream(method, path, params={"session_hash": odd, "v": odd}, content=body) as answer:
                streams = answer.headers.get("content-type", "").startswith("text/event-stream")
                told = "" if streams or answer.status_code == 200 else answer.read().decode(errors="replace")
                assert answer.status_code < 500, (path, answer.status_code, told)
                assert not any(mark in told for mark in PATHS), (path, told)


@pytest.mark.parametrize("odd", [None, {"path": "/etc/passwd"}, 10**18, NESTED], ids=lambda odd: repr(odd)[:20])
def test_every_event_answers_a_stranger_by_its_number(address: str, odd: Any) -> None:
    """An odd value in place of all inputs: whatever comes of it is told in a sentence, and nothing shows a path."""
    with httpx.Client(base_url=address, timeout=120) as client:
        functions = client.get("/config").json()["dependencies"]
        asked = [function for function in functions if function["backend_fn"]]
        assert len(asked) > 100
        for function in asked:
            told_plainly(client, function["api_name"], [odd] * len(function["inputs"]), fn_index=function["id"])


@pytest.mark.parametrize(
    "odd", [float("nan"), -1, 10**18, 10**40, "x" * 100_000, NESTED], ids=lambda odd: repr(odd)[:20]
)
def test_every_endpoint_answers_odd_values_in_one_place(address: str, odd: Any) -> None:
    """As above by name, the other inputs being right, so that each is looked at."""
    right = {"string": "x", "number": 1, "integer": 1, "boolean": True, "array": []}
    with httpx.Client(base_url=address, timeout=120) as client:
        endpoints = client.get("/gradio_api/info").json()["named_endpoints"]
        assert {"/chat", "/ask", "/search", "/story"} <= set(endpoints)
        for name, about in endpoints.items():
            usual = [
                one["parameter_default"] if one["parameter_has_default"] else right.get(one["type"].get("type"))
                for one in about["parameters"]
            ]
            for place in range(len(usual)):
                told_plainly(client, name.strip("/"), [*usual[:place], odd, *usual[place + 1 :]])


@pytest.mark.parametrize(("language", "told"), [("zh-CN", "文件请先上传"), ("de", "Upload files first")])
def test_a_file_that_is_no_upload_is_refused_in_a_sentence_over_the_queue_too(
    address: str, language: str, told: str
) -> None:
    with httpx.Client(base_url=address, headers={"accept-language": language}, timeout=120) as client:
        data = ["mine", [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}]]
        event = client.post("/gradio_api/call/index", json={"data": data}).json()["event_id"]
        answer = client.get(f"/gradio_api/call/index/{event}").text
    assert "event: error" in answer and told in json.loads(answer.rpartition("data: ")[2])["error"]


def told_plainly(client: httpx.Client, name: str, data: list[Any], **more: Any) -> None:
    """An answer, or a sentence: no internal error, no traceback, no path."""
    content = json.dumps({"data": data, "session_hash": "server:it", **more})  # with NaN, which is no JSON
    headers = {"content-type": "application/json", "accept-language": "en"}
    answer = client.post(f"/gradio_api/run/{name}", content=content, headers=headers)
    assert answer.status_code < 500, (name, str(data)[:200], answer.text)
    told = answer.json()
    assert "data" in told if answer.status_code == 200 else told["error"], (name, answer.text)
    assert not any(mark in answer.text for mark in (*PATHS, "internal error")), (name, str(data)[:200], answer.text)


def test_the_page_is_compressed_for_who_asks_and_event_streams_never(address: str) -> None:
    asked, plain = {"accept-encoding": "gzip"}, {"accept-encoding": "identity"}
    with httpx.Client(base_url=address, timeout=120) as client:
        for path in ("/", "/config"):
            whole = client.get(path, headers=plain)
            assert "content-encoding" not in whole.headers
            packed = client.get(path, headers=asked)
            assert packed.headers["content-encoding"] == "gzip" and "accept-encoding" in packed.headers["vary"].lower()
            assert int(packed.headers["content-length"]) < len(whole.content) / 4
            assert packed.text[:15] == whole.text[:15]
        for path in ("queue/data?session_hash=packed", "heartbeat/packed"):
            with client.stream("GET", f"/gradio_api/{path}", headers=asked) as stream:
                assert stream.headers["content-type"].startswith("text/event-stream")
                assert "content-encoding" not in stream.headers
                assert next(stream.iter_text())


def test_a_name_of_the_server_s_own_gives_a_stranger_nothing(public: Public) -> None:
    address, services, _ = public
    limit = services.registry.meter.allowance.requests_at_once
    assert limit == 2
    services.registry.add_adapter("smollm2-135m+hers", Path("/nowhere"), "ada")
    with httpx.Client(base_url=address) as client:
        for session in ("server:terminal", "server:judging", "ada", "login:ada"):
            body = {"data": [], "session_hash": session}
            event_id = client.post("/gradio_api/call/models", json=body).json()["event_id"]
            told = client.get(f"/gradio_api/call/models/{event_id}", timeout=120).text
            assert "complete" in told and "hers" not in told
    services.registry.remove_adapter("smollm2-135m+hers")


def test_a_session_belongs_to_the_browser_that_opened_it(address: str) -> None:
    own, other = {"cookie": f"studio-visitor={'a' * 32}"}, {"cookie": f"studio-visitor={'b' * 32}"}
    with httpx.Client(base_url=address) as client:
        functions = client.get("/config").json()["dependencies"]
        number = next(f["id"] for f in functions if f["api_name"] == "models")
        assert "process_completed" in event(address, number, [], "herpage", **own)
        for headers in (other, {}):
            assert "another visitor" in event(address, number, [], "herpage", **headers, **{"accept-language": "en"})
            for path in ("queue/data?session_hash=herpage", "heartbeat/herpage"):
                assert client.get(f"/gradio_api/{path}", headers=headers).status_code == 403
            body = {"session_hash": "herpage", "fn_index": number, "event_id": "x"}
            assert client.post("/gradio_api/cancel", json=body, headers=headers).status_code == 403


def test_a_browser_gets_a_cookie_of_its_own_once(address: str) -> None:
    given = httpx.get(address).headers["set-cookie"]
    assert given.startswith("studio-visitor=") and "HttpOnly" in given and "SameSite=Lax" in given
    encrypted = httpx.get(address, headers={"x-forwarded-proto": "https"}).headers["set-cookie"]
    assert "Secure; SameSite=None; Partitioned" in encrypted
    assert "set-cookie" not in httpx.get(address, headers={"cookie": given.split(";")[0]}).headers


def test_a_program_with_a_token_is_the_same_guest_for_its_next_client(address: str, tmp_path: Path) -> None:
    (tmp_path / "tides.md").write_text("# Tides\n\nThe moon pulls the sea.\n")

    def client(token: str) -> Client:
        return Client(address, verbose=False, headers={"x-studio-visitor": token, "accept-language": "en"})

    client("c" * 32).predict("mine", [handle_file(tmp_path / "tides.md")], api_name="/index")
    assert client("c" * 32).predict("mine", "the moon", api_name="/search")[0]["source"] == "tides.md"
    with pytest.raises(Exception, match="no collection named mine"):
        client("d" * 32).predict("mine", "the moon", api_name="/search")
    weak = {"x-studio-visitor": "short", "accept-language": "en"}
    refused = httpx.post(f"{address}/gradio_api/call/models", json={"data": []}, headers=weak)
    assert refused.status_code == 400 and "32 to 200" in refused.text


def test_strangers_cannot_make_it_read_folders_or_fetch_repositories(address: str, tmp_path: Path) -> None:
    client = Client(address, verbose=False, headers={"accept-language": "en"})
    for endpoint, inputs in (
        ("/index", {"collection": "c", "files": str(tmp_path)}),
        ("/chat", {"message": "Hi", "model": str(tmp_path)}),
        ("/chat", {"message": "Hi", "model": "somebody/something"}),
    ):
        with pytest.raises(Exception) as refused:
            client.predict(**inputs, api_name=endpoint)
        assert "may" in str(refused.value) or "no model named" in str(refused.value), refused.value


@pytest.mark.parametrize(
    ("language", "steps", "picture"), [("en", "at most 2000", "too large"), ("zh", "最多 2000 步", "太大")]
)
def test_what_a_stranger_may_not_have_is_told_in_the_visitor_s_language(
    address: str, language: str, steps: str, picture: str
) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": f"{number}"}]}
        for number in range(4)
    ]
    shown = {"url": f"data:image/png;base64,{base64.b64encode(png_header(9000, 9000)).decode()}"}
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": shown}]
    with httpx.Client(base_url=address, timeout=120, headers={"accept-language": language}) as client:
        told = client.post("/gradio_api/run/finetune", json={"data": ["mine", "smollm2-135m", rows, 1_000_000, {}]})
        assert told.status_code == 422 and steps in told.json()["error"]
        asked = {"model": "smollm2-135m", "messages": [{"role": "user", "content": parts}]}
        told = client.post("/v1/chat/completions", json=asked)
        assert told.status_code == 400 and picture in told.json()["error"]["message"]


def test_a_thousand_sessions_leave_nothing(public: Public) -> None:
    """Half of them never fetch what they asked for."""
    address, _, blocks = public
    states, queue = blocks.app.state_holder, blocks._queue
    with httpx.Client(base_url=address, timeout=120) as client:
        number = next(f["id"] for f in client.get("/config").json()["dependencies"] if f["api_name"] == "models")
        for visit in range(1000):
            body = {"data": [], "fn_index": number, "session_hash": f"visit{visit}"}
            way = ("run", "call")[visit % 2]
            assert client.post(f"/gradio_api/{way}/models", json=body).status_code == 200
    assert len(states.session_data) <= 2000
    wait_for(lambda: not queue.event_ids_to_events)
    states.sweep(idle_s=0)
    for kept in (states.session_data, queue.pending_messages_per_session, queue.pending_event_ids_session):
        assert not [session for session in kept if session.startswith("visit")]


def test_one_address_begins_so_many_sessions_a_minute() -> None:
    now = 0.0
    claims = SessionClaims(lambda: now)
    for visit in range(NEW_OF_ADDRESS):
        claims.claim(f"s{visit}", "her", "network 8.8.8.8/32")
    claims.claim("s0", "her", "network 8.8.8.8/32")
    with pytest.raises(TooManySessions):
        claims.claim("one more", "her", "network 8.8.8.8/32")
    with pytest.raises(TooManySessions):
        claims.begin("network 8.8.8.8/32")
    claims.claim("another", "him", "network 9.9.9.9/32")
    claims.claim("near", "me", "")
    now = 61.0
    claims.claim("one more", "her", "network 8.8.8.8/32")


@pytest.mark.parametrize(
    ("started", "frames"),
    [
        ([], "frame-ancestors 'self'"),
        (["--auth", "ada:x"], "frame-ancestors 'self'"),
        (["--public"], None),
    ],
)
def test_who_may_show_the_page_inside_their_own(started: list[str], frames: str | None) -> None:
    async def page(_: Request) -> Response:
        return Response("page")

    application = Starlette(
        routes=[Route("/", page)], middleware=[guard_gradio(lambda _: None, read_settings(started, {}))]
    )
    assert TestClient(application).get("/").headers.get("content-security-policy") == frames
