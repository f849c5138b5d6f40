"""`run_gradio.py` as a person starts it: processes of their own, no fakes; the address is what the server prints."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from filelock import FileLock

from app.access.accounts import keep_account
from app.access.api_keys import add_key
from app.paths import ROOT
from app.settings import Settings

if TYPE_CHECKING:
    import gradio as gr

    from app.services import Services

ENVIRONMENT = {**os.environ, "LANG": "en_GB.UTF-8", "LC_ALL": "", "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
# answers that are compared letter by letter come from the full weights, not from llama.cpp
FULL_WEIGHTS = ("--device", "cpu", "--dtype", "bfloat16")
LOGINS = [("ada", "her password"), ("lin", "his password")]


@dataclass(frozen=True)
class RealServer:
    """A server that said that it is ready; `key` is Ada's for the API, where there are keys."""

    address: str
    process: "subprocess.Popen[str]"
    data: Path
    key: str = ""


def start(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
    """A Python process in the project's folder; stdout and stderr come together."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**ENVIRONMENT, **environment},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def port_of(process: "subprocess.Popen[Any]") -> int:
    """Where a server that was started at port 0 listens, once it does."""
    seen = psutil.Process(process.pid)
    while True:
        assert process.poll() is None, "the server ended before it listened"
        if ports := [one.laddr.port for one in seen.net_connections("tcp") if one.status == psutil.CONN_LISTEN]:
            return int(ports[0])
        time.sleep(0.05)


@contextmanager
def serving(settings: Settings) -> "Iterator[tuple[str, Services, gr.Blocks]]":
    """The whole server in this process: its address, services and page."""
    from app.services import build_services  # takes its time
    from app.web import ui
    from app.web.server import launch

    services = build_services(settings)
    blocks = ui.build(services)
    try:
        yield launch(blocks, services)[0], services, blocks
    finally:
        blocks.close(verbose=False)
        services.close()


@contextmanager
def running(data: Path, *arguments: str, key: str = "", **environment: str) -> Iterator[RealServer]:
    """A server over `data`, killed at the end if it still runs; what it printed if it does not start."""
    process = start("run_gradio.py", "--port", "0", "--data", str(data), *FULL_WEIGHTS, *arguments, **environment)
    try:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if line.startswith("Ready: "):
                break
        else:
            pytest.fail("".join(printed))
        threading.Thread(target=process.stdout.read, daemon=True).start()  # a full pipe would stop the server
        yield RealServer(line.removeprefix("Ready: ").strip(), process, data, key)
    finally:
        process.kill()
        process.wait()


StudioData = Callable[[str], Path]


@pytest.fixture(scope="session")
def studio_data(packaged_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> StudioData:
    """`studio_data("name")`: a new data folder as a first start leaves it, with the packaged model and the index of the
    samples, which is made once for all workers."""
    own = tmp_path_factory.getbasetemp()
    template = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "first-start"
    with FileLock(template.with_suffix(".lock")):
        if not template.is_dir():
            partial = template.with_suffix(".partial")
            index_samples(partial)
            partial.rename(template)

    def new(name: str) -> Path:
        data = tmp_path_factory.mktemp(name) / "data"
        shutil.copytree(template, data)
        (data / "models").symlink_to(packaged_folder.parent)
        return data

    return new


def index_samples(data: Path) -> None:
    from app.knowledge.wiring import build_knowledge
    from app.models.registry.placement import Placement
    from app.models.registry.registry import ModelRegistry

    registry = ModelRegistry(Placement("cpu", "auto", None, 4000, data), "smollm2-135m")
    service = build_knowledge(Settings(data=data, device="cpu"), registry, start=False)
    service.start().join()
    service.close()
    registry.close()


@pytest.fixture(scope="session")
def login_server(studio_data: StudioData) -> Iterator[RealServer]:
    """One server for the whole session with logins, API keys and MCP, and the packaged model."""
    data = studio_data("login")
    folder = data.parent
    for name, password in LOGINS:
        keep_account(folder / "users", name, password)
    key = add_key(folder / "keys", "ada")
    flags = ("--auth", str(folder / "users"), "--api-keys", str(folder / "keys"), "--mcp")
    with running(data, *flags, key=key) as server:
        yield server
