"""The server as a person starts it: packaged models, Chroma, the sample documents, its data folder, and its end."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client, handle_file

import run_gradio
from app import cli
from tests.real_server import ENVIRONMENT, ROOT, RealServer, StudioData, running
from tests.waiting import wait_for
from tests.web.test_real_server import FRANCE, PARIS


@pytest.fixture(scope="module")
def data(studio_data: StudioData) -> Path:
    return studio_data("studio")


def index(data: Path, folder: Path) -> list[str]:
    return ["index", "notes", str(folder), "--", "--data", str(data), "--device", "cpu"]


@pytest.fixture(scope="module")
def indexed(data: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    """The folder indexed in a terminal before the server starts: a command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "app", *index(data, folder)],
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
def server(data: Path, indexed: "subprocess.CompletedProcess[str]") -> Iterator[RealServer]:
    assert "added" in indexed.stdout
    with running(data) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: RealServer) -> Client:
    return Client(server.address, verbose=False, headers={"accept-language": "en-US"})


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


@pytest.mark.usefixtures("server")
def test_while_the_server_runs_nobody_else_writes_its_index(
    data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LC_ALL", "en_GB.UTF-8")
    assert cli.main(index(data, folder)) == 1
    assert run_gradio.main(["--port", "0", "--data", str(data), "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert said.count("is in use by another process") == 2
    assert "Traceback" not in said


def test_the_samples_answer_at_once_with_the_packaged_models(client: Client) -> None:
    wait_for(lambda: found(client, "why are safetensors considered safer"))
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
    client: Client, server: RealServer, tmp_path: Path
) -> None:
    (tmp_path / "own.md").write_text("# Tides\n\nThe moon pulls the sea and makes the tides.\n")
    done = client.predict("mine", [handle_file(tmp_path / "own.md")], api_name="/index")
    assert done["added"] == 1
    assert client.predict("mine", "what makes the tides", api_name="/search")[0]["source"] == "own.md"
    headers = {"accept-language": "en-US", "x-studio-visitor": "another-program-with-its-own-token"}
    other = Client(server.address, verbose=False, headers=headers)
    with pytest.raises(Exception, match="no collection named mine"):
        other.predict("mine", "what makes the tides", api_name="/search")


def test_at_its_end_the_server_finishes_an_answer_under_way(client: Client, server: RealServer) -> None:
    job = client.submit(FRANCE, temperature=0, max_new_tokens=64, api_name="/chat")
    for _ in job:
        break
    server.process.send_signal(signal.SIGTERM)
    assert job.result() == PARIS
    assert server.process.wait(120) == 0
