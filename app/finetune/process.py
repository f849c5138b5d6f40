"""Start, find again and end training child processes."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from app.paths import ROOT

LOG = "log.txt"
XTUNER = "app.finetune.xtuner_launcher"
_NOISE = re.compile(r"^\s*$|^\s*(File \"|\^+|~+|Traceback)|Warning|warnings\.warn|^\s{2,}")
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "SYSTEMROOT")


def start_tool(arguments: Sequence[str], folder: Path, module: str = XTUNER) -> subprocess.Popen[bytes]:
    """One XTuner tool, or another module, at work for the run in `folder`; its words go to the run's log."""
    with (folder / LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def environment() -> dict[str, str]:
    """What the child may know: no tokens or passwords of the server, and no network but what a path needs."""
    kept = {key: value for key, value in os.environ.items() if key in _PASSED_ON or key.startswith(("OMP_", "MKL_"))}
    return kept | {
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        "TOKENIZERS_PARALLELISM": "false",
        # as for the server itself: threads that wait spin for a moment only
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "20000"),
    }


def created_at(pid: int) -> float:
    """Start time of a process, 0 when there is none; with the number it names a process for good."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return 0.0


def find(argument: str) -> tuple[int, float] | None:
    """Number and start time of a process that has `argument` on its command line."""
    for found in psutil.process_iter(["cmdline", "create_time"]):
        if argument in (found.info["cmdline"] or ()) and found.status() != psutil.STATUS_ZOMBIE:
            return found.pid, found.info["create_time"]
    return None


def is_alive(pid: int, created: float) -> bool:
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - created) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end(pid: int, created: float, *, kill: bool = False) -> None:
    """Ask a process to stop, or kill it."""
    if is_alive(pid, created):
        process = psutil.Process(pid)
        process.kill() if kill else process.terminate()


def last_words(folder: Path) -> str:
    """The log's last line that tells something, such as the exception of a crash."""
    try:
        text = (folder / LOG).read_bytes()[-20_000:].decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if not _NOISE.search(line)]
    return lines[-1][:500] if lines else ""
