"""run_gradio.py and python -m app as a person starts them: own process, packaged model, no fakes."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from gradio_client import Client

from tests.real_server import running, start

if TYPE_CHECKING:
    from playwright.sync_api import Browser

GREEDY = {"temperature": 0, "max_new_tokens": 24}
FRANCE = "What is the capital of France?"


@pytest.fixture(scope="module")
def data(packaged_folder: Path) -> Path:
    """A data folder with the packaged model converted already, as at a second start."""
    return packaged_folder.parents[1]


@pytest.fixture(scope="module")
def address(data: Path) -> Iterator[str]:
    with running(data) as server:
        yield server.address
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0


def test_it_says_that_it_lives(address: str) -> None:
    assert httpx.get(f"{address}/healthz", timeout=60).json()["status"] == "ok"


def test_two_at_once_and_one_stops(address: str) -> None:
    first, second = Client(address, verbose=False), Client(address, verbose=False)
    long = first.submit("Tell me a long story.", temperature=0, max_new_tokens=2000, api_name="/chat")
    for _ in long:
        break
    short = second.submit(FRANCE, **GREEDY, api_name="/chat")
    long.cancel()
    assert short.result(60) == "The capital of France is Paris."
    deadline = time.monotonic() + 20  # 2,000 tokens would take longer
    while chat_model(first)["leases"]:
        assert time.monotonic() < deadline, "the stopped answer still holds its model"
    assert first.predict(FRANCE, **GREEDY, api_name="/chat") == "The capital of France is Paris."


def chat_model(client: Client) -> dict[str, Any]:
    ledger = client.predict(api_name="/models")
    return next(model for model in ledger["models"] if model["name"] == "smollm2-135m")


def test_the_ledger_says_what_is_held(address: str) -> None:
    client = Client(address, verbose=False)
    assert client.predict(FRANCE, **GREEDY, api_name="/chat")  # it is loaded then
    entry = chat_model(client)
    assert (entry["kind"], entry["state"], entry["device"]) == ("chat", "ready", "cpu")
    assert 200 < entry["mib"] < 600  # by the number format that suits the processor
    assert client.predict(api_name="/models")["used_mib"] >= entry["mib"]


def test_a_wrong_model_is_named_in_the_answer(address: str) -> None:
    with pytest.raises(Exception, match="nonsense"):
        Client(address, verbose=False).predict(FRANCE, model="nonsense", api_name="/chat")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "tpu"], "device cannot be tpu: auto, cuda, mps, cpu"),
        (["--model", "no-such-model"], "no model named no-such-model"),
    ],
)
def test_a_wrong_start_ends_with_one_sentence(arguments: list[str], said: str, tmp_path: Path) -> None:
    started = start("run_gradio.py", "--data", str(tmp_path), *arguments)
    printed, _ = started.communicate(timeout=120)
    assert started.returncode == 2
    assert said in printed
    assert "Traceback" not in printed


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    started = start("run_gradio.py", "--data", str(tmp_path / "data"), "--model", str(tmp_path))
    printed, _ = started.communicate(timeout=120)
    assert started.returncode == 2
    assert "config.json" in printed
    assert "Traceback" not in printed


def test_the_same_in_a_terminal(data: Path) -> None:
    chat = start("-m", "app", "chat", "--temperature", "0", "--", "--data", str(data), "--device", "cpu")
    printed, _ = chat.communicate(f"{FRANCE}\nexit\n", timeout=120)
    assert chat.returncode == 0
    assert "The capital of France is Paris." in printed


def test_the_doctor_tells_what_the_machine_offers(data: Path) -> None:
    doctor = start("-m", "app", "doctor", "--", "--data", str(data), "--device", "cpu")
    printed, _ = doctor.communicate(timeout=120)
    assert doctor.returncode == 0
    assert "device cpu" in printed
    assert "sandbox: " in printed


@pytest.mark.browser
def test_a_foreign_page_in_a_visitor_s_browser_uploads_nothing(address: str, chromium: "Browser") -> None:
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
    with page.expect_navigation(url=f"{address}/"):
        page.evaluate("address => { location.href = address }", f"{address}/")
    page.locator("html[data-studio-ready]").wait_for(state="attached")
    context.close()
