"""The server as a person starts it: packaged models, Chroma, the sample documents; and the data folder it holds."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client, handle_file

from tests.conftest import free_port
from tests.real_server import ENVIRONMENT, ROOT, running, start

pytestmark = pytest.mark.timeout(280)


@pytest.fixture(scope="module")
def data(packaged_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of its own with the model converted already."""
    folder = tmp_path_factory.mktemp("studio")
    (folder / "models").symlink_to(packaged_folder.parent)
    return folder


def index(data: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "app", "index", "notes", str(folder), "--", "--data", str(data), "--device", "cpu"],
        cwd=ROOT,
        env=ENVIRONMENT,
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("course")
    (folder / "week1.md").write_text("# Quarks\n\nA proton holds two up quarks and one down quark.\n")
    (folder / "bad.docx").write_bytes(b"nothing")
    return folder


@pytest.fixture(scope="module")
def indexed(data: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    """The folder indexed in a terminal before the server starts."""
    return index(data, folder)


@pytest.fixture(scope="module")
def address(data: Path, indexed: "subprocess.CompletedProcess[str]") -> Iterator[str]:
    assert "added" in indexed.stdout
    with running(data) as server:
        yield server.address
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(100) == 0


@pytest.fixture(scope="module")
def client(address: str) -> Client:
    return Client(address, verbose=False, headers={"accept-language": "en-US"})


def test_a_folder_indexed_in_a_terminal_is_on_the_page(
    indexed: "subprocess.CompletedProcess[str]", client: Client
) -> None:
    assert indexed.stdout.splitlines() == [
        "1 added, 0 updated, 0 unchanged, 0 removed, 1 failed; 1 passages.",
        "  bad.docx: The file is damaged or encrypted.",
    ]
    assert indexed.returncode == 1
    (hit,) = client.predict("notes", "What is a proton made of?", api_name="/search")
    assert (hit["source"], hit["heading"]) == ("week1.md", "Quarks")


def test_while_the_server_runs_nobody_else_writes_its_index(address: str, data: Path, folder: Path) -> None:
    assert address
    told = index(data, folder)
    assert told.returncode == 1
    assert "is in use by another process" in told.stderr
    assert "Traceback" not in told.stderr
    second = start("run_gradio.py", "--port", str(free_port()), "--data", str(data), "--device", "cpu")
    said, _ = second.communicate(timeout=120)
    assert second.returncode == 2
    assert "is in use by another process" in said
    assert "Traceback" not in said


def test_the_samples_answer_at_once_with_the_packaged_models(client: Client) -> None:
    until = time.monotonic() + 120
    while not found(client, "why are safetensors considered safer"):
        assert time.monotonic() < until, "the samples were not indexed"
        time.sleep(0.5)
    answer, passages, checks = client.predict("Why are safetensors considered safer?", temperature=0, api_name="/ask")
    assert passages[0]["source"] == "en/model-files.md"
    assert answer
    assert any("without running anything" in quote["text"] for quote in checks["quotes"])
    refused, none, _ = client.predict("Who won the football world cup in 1998?", api_name="/ask")
    assert refused == "The documents do not say this. Try other words, or add a document that covers it."
    assert none == []


def found(client: Client, query: str) -> bool:
    try:
        hits = client.predict("samples", query, 3, api_name="/search")
    except Exception as error:
        assert "no collection" in str(error)
        return False
    return any(hit["source"] == "en/model-files.md" for hit in hits)


def test_the_memory_of_the_embedder_is_on_the_account(client: Client) -> None:
    ledger = client.predict(api_name="/models")
    (entry,) = [entry for entry in ledger["models"] if entry["kind"] == "embedder"]
    assert (entry["name"], entry["state"], entry["mib"]) == ("multilingual-e5-small-4bit", "ready", 72)


def test_an_upload_is_searchable_and_another_program_does_not_see_it(
    client: Client, address: str, tmp_path: Path
) -> None:
    (tmp_path / "own.md").write_text("# Tides\n\nThe moon pulls the sea and makes the tides.\n")
    done = client.predict("mine", [handle_file(tmp_path / "own.md")], api_name="/index")
    assert done["added"] == 1
    assert client.predict("mine", "what makes the tides", api_name="/search")[0]["source"] == "own.md"
    headers = {"accept-language": "en-US", "x-studio-visitor": "another-program-with-its-own-token"}
    other = Client(address, verbose=False, headers=headers)
    with pytest.raises(Exception, match="no collection named mine"):
        other.predict("mine", "what makes the tides", api_name="/search")
