"""A server with logins and the packaged model, as its own process: who comes in, what is answered, what is refused."""

import io
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from gradio_client import Client

import run_gradio
from app import cli
from app.access.accounts import read_accounts
from app.story.length import Target
from tests.real_server import FULL_WEIGHTS, LOGINS, RealServer
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

GREEDY = {"temperature": 0, "max_new_tokens": 24}
FRANCE = "What is the capital of France?"
PARIS = "The capital of France is Paris."


def client_of(server: RealServer, login: int = 0) -> Client:
    return Client(server.address, verbose=False, auth=LOGINS[login], headers={"accept-language": "en"})


def test_nobody_comes_in_without_the_password(login_server: RealServer) -> None:
    assert httpx.get(f"{login_server.address}/config").status_code == 401
    for name, password in (("ada", "wrong"), ("eve", "her password"), ("ada", "")):
        answer = httpx.post(f"{login_server.address}/login", data={"username": name, "password": password})
        assert answer.status_code in (400, 422)
    assert httpx.get(f"{login_server.address}/healthz", timeout=120).json()["status"] == "ok"


def test_two_at_once_and_one_stops(login_server: RealServer) -> None:
    first, second = client_of(login_server), client_of(login_server, 1)
    long = first.submit("Tell me a long story.", temperature=0, max_new_tokens=7000, api_name="/chat")
    for _ in long:
        break
    short = second.submit(FRANCE, **GREEDY, api_name="/chat")
    long.cancel()
    assert short.result() == PARIS
    wait_for(lambda: not chat_model(first)["leases"], 60)  # 7,000 tokens would take longer
    entry = chat_model(first)
    assert (entry["kind"], entry["state"], entry["device"]) == ("chat", "ready", "cpu")
    assert 200 < entry["mib"] < 600  # by the number format that suits the processor


def chat_model(client: Client) -> dict[str, Any]:
    ledger = client.predict(api_name="/models")
    return next(model for model in ledger["models"] if model["name"] == "smollm2-135m")


def test_the_packaged_model_itself_keeps_the_length_of_a_story(login_server: RealServer) -> None:
    asked = ("A lighthouse keeper finds a letter.", None, 60, "en")
    job = client_of(login_server).submit(*asked, seed=3, api_name="/story")
    assert Target(60, "en").met(job.result())
    assert len(set(job.outputs())) > 5, "it streams"


def test_a_wrong_model_is_named_in_the_answer(login_server: RealServer) -> None:
    with pytest.raises(Exception, match="nonsense"):
        client_of(login_server).predict(FRANCE, model="nonsense", api_name="/chat")


PATHS = [
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
]


@pytest.mark.parametrize("route", ["/gradio_api/file=", "/file=", "/static/", "/gradio_api/file/", "/assets/"])
def test_no_file_of_the_server_comes_out(login_server: RealServer, route: str) -> None:
    with httpx.Client(base_url=login_server.address) as client:
        entered = client.post("/login", data={"username": LOGINS[0][0], "password": LOGINS[0][1]})
        assert entered.json() == {"success": True}
        for path in PATHS:
            answer = client.get(route + path.format(data=login_server.data))
            assert answer.status_code >= 300 or "text/html" in answer.headers["content-type"], path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "tpu"], "device cannot be tpu: auto, cuda, mps, cpu"),
        (["--model", "no-such-model"], "no model named no-such-model"),
        (["--model", "{folder}"], "config.json"),
    ],
)
def test_a_wrong_start_ends_with_one_sentence(
    arguments: list[str],
    said: str,
    tmp_path: "Path",
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LC_ALL", "en_GB.UTF-8")
    data = ["--data", str(tmp_path / "data")]
    assert run_gradio.main([*data, *(argument.format(folder=tmp_path) for argument in arguments)]) == 2
    printed = capsys.readouterr()
    assert said in printed.err and "Traceback" not in printed.err + printed.out


def test_a_person_gets_a_login_in_a_terminal(tmp_path: "Path", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a password\n"))
    assert cli.main(["user", "ada", "--file", str(tmp_path / "users")]) == 0
    assert read_accounts(str(tmp_path / "users")).names() == ["ada"]
    assert "a password" not in (tmp_path / "users").read_text()


def test_the_doctor_tells_what_the_machine_offers(tmp_path: "Path", capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--", "--data", str(tmp_path), "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "device cpu" in printed and "sandbox: " in printed


def test_the_same_in_a_terminal(
    packaged_folder: "Path", monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{FRANCE}\nexit\n"))
    settings = ("--data", str(packaged_folder.parents[1]), *FULL_WEIGHTS)
    assert cli.main(["chat", "--temperature", "0", "--", *settings]) == 0
    assert PARIS in capsys.readouterr().out


@pytest.mark.browser
def test_a_foreign_page_in_a_visitor_s_browser_uploads_nothing(login_server: RealServer, chromium: "Browser") -> None:
    address = login_server.address
    context = chromium.new_context()
    context.set_default_timeout(120_000)  # a whole page on a busy machine
    page = context.new_page()
    page.goto(address.replace("127.0.0.1", "localhost") + "/healthz")  # another site, as browsers see it
    with page.expect_response(f"{address}/gradio_api/upload") as answered:
        page.evaluate(
            """address => {
                const form = new FormData();
                form.append("files", new Blob(["mine"]), "foreign.txt");
                fetch(address + "/gradio_api/upload", {method: "POST", body: form, mode: "no-cors"});
            }""",
            address,
        )
    assert answered.value.status == 403
    with page.expect_navigation(url=f"{address}/") as followed:  # a link is followed
        page.evaluate("address => { location.href = address }", f"{address}/")
    assert followed.value is not None and followed.value.ok
    context.close()
