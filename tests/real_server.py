"""`run_gradio.py` and `python -m app` as a person starts them: processes of their own, no fakes."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.paths import ROOT
from tests.conftest import free_port

ENVIRONMENT = {**os.environ, "LANG": "en_GB.UTF-8", "LC_ALL": "", "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class RealServer:
    """A server that said that it is ready."""

    address: str
    process: "subprocess.Popen[str]"
    data: Path


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


@contextmanager
def running(data: Path, *arguments: str, **environment: str) -> Iterator[RealServer]:
    """A server over `data` on a free port, killed at the end if it still runs; what it printed if it does not start."""
    port = free_port()
    where = ("--port", str(port), "--data", str(data), "--device", "cpu")
    process = start("run_gradio.py", *where, *arguments, **environment)
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
        yield RealServer(f"http://127.0.0.1:{port}", process, data)
    finally:
        process.kill()
        process.wait()
