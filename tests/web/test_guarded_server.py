"""A server with logins, as its own process: who comes in, which files come out, and how it ends."""

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gradio_client import Client

from tests.real_server import RealServer, running, start
from tests.web.test_real_server import FRANCE, GREEDY


def client_of(server: RealServer) -> Client:
    return Client(server.address, verbose=False, auth=("ada", "her password"))


def logged_in(server: RealServer) -> httpx.Client:
    client = httpx.Client(base_url=server.address)
    answer = client.post("/login", data={"username": "ada", "password": "her password"})
    assert answer.json() == {"success": True}
    return client


@pytest.fixture(scope="module")
def server(packaged_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    users = tmp_path_factory.mktemp("accounts") / "users"
    made = start("-m", "app", "user", "ada", "--file", str(users))
    made.communicate("her password\n", timeout=60)
    assert made.returncode == 0
    with running(packaged_folder.parents[1], "--auth", str(users)) as server:
        yield server


def test_nobody_comes_in_without_the_password(server: RealServer) -> None:
    assert httpx.get(f"{server.address}/config").status_code == 401
    for name, password in (("ada", "wrong"), ("lin", "her password"), ("ada", "")):
        answer = httpx.post(f"{server.address}/login", data={"username": name, "password": password})
        assert answer.status_code in (400, 422)
    assert httpx.get(f"{server.address}/healthz").status_code == 200


def test_who_logs_in_is_served(server: RealServer) -> None:
    assert client_of(server).predict(FRANCE, **GREEDY, api_name="/chat") == "The capital of France is Paris."


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../../../../../etc/passwd",
        "..%2f..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/run_gradio.py",
        "run_gradio.py",
        "app/settings.py",
        "./README.md",
        "{data}/models",
        "{data}/models/smollm2-135m/config.json",
        "file:///etc/passwd",
        "/proc/self/environ",
        "~/.bash_history",
        "http://127.0.0.1/",
    ],
)
def test_no_file_of_the_server_comes_out(server: RealServer, path: str) -> None:
    client = logged_in(server)
    for route in ("/gradio_api/file=", "/file=", "/static/", "/gradio_api/file/", "/assets/", "/theme.css/../"):
        answer = client.get(route + path.format(data=server.data))
        assert answer.status_code >= 300 or "text/html" in answer.headers["content-type"], route
    client.close()


def test_an_answer_under_way_is_finished_when_the_server_ends(server: RealServer) -> None:
    client = client_of(server)
    job = client.submit(FRANCE, temperature=0, max_new_tokens=64, api_name="/chat")
    for _ in job:
        break
    server.process.send_signal(signal.SIGTERM)
    assert job.result(60) == "The capital of France is Paris."
    assert server.process.wait(60) == 0
