"""An installed engine's own server as a child, played by a small server of the same command line."""

import math
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from app.errors import ModelInUse, SettingsError, UnknownModel
from app.models.backends.openai_server.address import EngineLaunch, read_engines
from app.models.backends.openai_server.errors import EngineAway, RequestRefused
from app.models.backends.openai_server.launched_engine import LocalServerEngine
from app.models.backends.openai_server.launched_server import (
    SUPERVISOR,
    EngineDidNotStart,
    EngineNotInstalled,
    arguments,
)
from app.models.interface import Sampling
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry

STAND_IN = """#!{python}
import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ADAPTERS = set()

class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def answer(self, body):
        allowed = self.headers.get("authorization") == "Bearer " + os.environ["VLLM_API_KEY"]
        self.send_response(200 if allowed else 401)
        self.end_headers()
        self.wfile.write(body if allowed else b"{{}}")
    def do_GET(self):
        listed = [{{"id": sys.argv[2], "max_model_len": 512}}]
        listed += [{{"id": name, "parent": sys.argv[2]}} for name in sorted(ADAPTERS)]
        self.answer(json.dumps({{"data": listed}}).encode())
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if b"too hard" in body:
            self.send_error(500)
            return
        asked = json.loads(body)
        if self.path.endswith("load_lora_adapter"):
            print(self.path, asked, flush=True)
            if not os.path.isdir(asked.get("lora_path", "/")):
                self.send_error(400)
                return
            loads = self.path == "/v1/load_lora_adapter"
            ADAPTERS.add(asked["lora_name"]) if loads else ADAPTERS.remove(asked["lora_name"])
            self.answer(b"done")
            return
        if asked["model"] not in (*ADAPTERS, sys.argv[2]):
            self.send_error(404)
            return
        if asked["model"] in ADAPTERS:
            sys.argv[7:] = [asked["model"]]
        chunk = {{"choices": [{{"delta": {{"content": "served " + " ".join(sys.argv[7:])}}, "finish_reason": "stop"}}]}}
        self.answer(b"data: " + json.dumps(chunk).encode() + b"\\n\\ndata: [DONE]\\n\\n")

if "broken" in sys.argv[2]:
    sys.exit("no such checkpoint")
print("listening", os.getpid(), flush=True)
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[6])), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python environment in which `vllm` is installed."""
    folder = tmp_path_factory.mktemp("environment")
    command = folder / "bin" / "vllm"
    command.parent.mkdir()
    command.write_text(STAND_IN.format(python=sys.executable))
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.fixture
def registry(environment: Path, tmp_path: Path) -> Iterator[ModelRegistry]:
    entries = [
        f"big=vllm:some/model@{environment}#--max-model-len=512,--quantization=awq",
        f"served=vllm:smollm2-135m@{environment}#--enable-lora",
        f"broken=vllm:broken@{environment}",
        f"missing=lmdeploy:some/model@{environment}",
    ]
    registry = ModelRegistry(Placement("cpu", "auto", None, 4000, tmp_path), "big", engines=read_engines(entries, {}))
    yield registry
    registry.close()


def engine_of(registry: ModelRegistry) -> LocalServerEngine:
    resident = registry.memory_manager.resident("big")
    assert isinstance(resident, LocalServerEngine)
    return resident


def ask(registry: ModelRegistry, question: str = "Hi") -> str:
    with registry.lease("big") as model:
        assert model.context_tokens == 512
        return "".join(model.stream([{"role": "user", "content": question}], Sampling(max_new_tokens=8)))


def test_it_is_loaded_booked_asked_and_unloaded_like_any_model(registry: ModelRegistry, tmp_path: Path) -> None:
    assert registry.names()[0] == "big"
    assert ask(registry) == "served --max-model-len=512 --quantization=awq"
    (entry,) = registry.ledger().models
    assert (entry.name, entry.kind, entry.state, entry.device, entry.engine) == ("big", "chat", "ready", "cpu", "vllm")
    assert entry.mib > 0 and registry.ledger().used_mib == entry.mib
    server = engine_of(registry).server
    assert httpx.get(f"{server.url}/models").status_code == 401, "nobody else may use it"
    processes = server.processes
    assert not any(server.key in word for process in processes for word in process.cmdline())
    assert "listening" in (tmp_path / "engines" / "big.log").read_text()
    registry.unload("big")
    assert not any(process.is_running() for process in processes)
    assert registry.ledger().models == ()


def test_one_that_falls_is_started_again_and_who_asks_meanwhile_waits(registry: ModelRegistry, tmp_path: Path) -> None:
    ask(registry)
    first = engine_of(registry).server.processes
    for process in first:
        process.kill()
    assert ask(registry).startswith("served")
    assert {process.pid for process in engine_of(registry).server.processes}.isdisjoint(p.pid for p in first)
    assert (tmp_path / "engines" / "big.log.1").is_file()


@pytest.mark.timeout(120)
def test_an_answer_that_fails_in_a_server_that_is_well_waits_for_no_other(registry: ModelRegistry) -> None:
    ask(registry)
    engine_of(registry).noticed_s = math.inf  # who waited for a fall would wait until the test's own timeout
    with pytest.raises(EngineAway):
        ask(registry, "This is too hard")
    assert ask(registry).startswith("served")


def test_it_ends_with_its_parent(registry: ModelRegistry) -> None:
    ask(registry)
    supervisor = engine_of(registry).server.processes[0].parent()
    assert supervisor is not None and supervisor.ppid() == os.getpid() and str(SUPERVISOR) in supervisor.cmdline()
    endless = "import signal; print('up', flush=True); signal.pause()"
    command = [sys.executable, "-P", SUPERVISOR, sys.executable, "-c", endless]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as alike:
        assert alike.stdin is not None and alike.stdout is not None and alike.stdout.readline() == "up\n"
        [served] = psutil.Process(alike.pid).children()
        alike.stdin.close()  # as when the process that holds the other end is gone
        psutil.wait_procs([served])
        assert not served.is_running()


def test_it_is_given_the_adapters_of_its_model_and_they_are_withdrawn(registry: ModelRegistry, tmp_path: Path) -> None:
    def told(name: str) -> str:
        with registry.lease(name, "ann") as model:
            return "".join(model.stream([{"role": "user", "content": "Hi"}], Sampling(max_new_tokens=8)))

    folder = tmp_path / "adapter"
    folder.mkdir()
    registry.add_adapter("smollm2-135m+mine", folder, "ann")
    registry.add_adapter("smollm2-135m+gone", tmp_path / "nowhere", "ann")
    assert {"served+mine", "served+gone"} <= {*registry.names("ann")} and "big+mine" not in registry.names("ann")
    assert told("served") == "served --enable-lora"
    assert told("served+mine") == "served mine"
    with pytest.raises(RequestRefused):
        told("served+gone")
    server = registry.memory_manager.resident("served")
    assert isinstance(server, LocalServerEngine)
    for process in server.server.processes:
        process.kill()
    assert told("served+mine") == "served mine", "the server that takes its place is given it anew"
    with registry.lease("served+mine", "ann"), pytest.raises(ModelInUse):
        registry.remove_adapter("smollm2-135m+mine")
    registry.remove_adapter("smollm2-135m+mine")
    assert "unload_lora_adapter" in (tmp_path / "engines" / "served.log").read_text()
    assert "served+mine" not in registry.names("ann")


def test_another_visitor_s_adapter_is_not_there_by_an_engine_either(environment: Path, tmp_path: Path) -> None:
    engines = read_engines([f"served=vllm:smollm2-135m@{environment}#--enable-lora"], {})
    placement = Placement("cpu", "auto", None, 4000, tmp_path)
    registry = ModelRegistry(placement, "smollm2-135m", engines=engines, private=True)
    try:
        registry.add_adapter("smollm2-135m+mine", tmp_path, "ann")
        assert "served+mine" in registry.names("ann") and "served+mine" not in registry.names("bob")
        with pytest.raises(UnknownModel), registry.lease("served+mine", "bob"):
            pass
        with registry.lease("served+mine", "ann") as model:
            assert model.name == "served+mine"
    finally:
        registry.close()


def test_what_does_not_start_says_why(registry: ModelRegistry, tmp_path: Path) -> None:
    with pytest.raises(EngineDidNotStart, match=r"engines/broken\.log"), registry.lease("broken"):
        pass
    assert "no such checkpoint" in (tmp_path / "engines" / "broken.log").read_text()
    with pytest.raises(EngineNotInstalled, match="lmdeploy"), registry.lease("missing"):
        pass
    assert {entry.state for entry in registry.ledger().models} == {"failed"}


def test_each_engine_has_its_own_command_line() -> None:
    for kind, model_at in (("vllm", 1), ("lmdeploy", 2), ("sglang", 3)):
        words = arguments(EngineLaunch(kind, "some/model", "", ("--x=1",)), 4321, "key")
        assert words[model_at] == "some/model" and "127.0.0.1" in words and "4321" in words and words[-1] == "--x=1"


@pytest.mark.parametrize("entry", ["big=vllm:", "a b=vllm:m", "big=vllm:--trust-remote-code"])
def test_what_is_no_launch_is_refused(entry: str) -> None:
    with pytest.raises(SettingsError):
        read_engines([entry], {})
