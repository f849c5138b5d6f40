"""Child process of llama.cpp's server, with a random API key; a crash ends the child alone."""

import json
import logging
import os
import secrets
import selectors
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import psutil

from app.errors import ModelError
from app.process import DEFAULTS

log = logging.getLogger(__name__)
WORKER = Path(__file__).with_name("worker.py")
START_SECONDS = 600.0  # a large file from a slow disk
END_SECONDS = 10.0
CACHE_TYPES = {"16bit": (1, 2.0), "8bit": (8, 34 / 32)}  # ggml's number of the type, bytes per number
OURS = ("PUYU_", "HF_TOKEN")  # of the environment, nothing that llama.cpp needs


class LlamaMissing(ModelError):
    zh = "运行 GGUF 模型 {name} 需要 Python 包 xllamacpp，它没有安装好。请运行 make run 重新安装。"
    en = "GGUF models such as {name} need the Python package xllamacpp, which is not installed. Run `make run`."


class LlamaRefused(ModelError):
    zh = "llama.cpp 无法加载 {name}；原因写在服务器日志里。文件可能不完整，或它的结构尚不受支持。"
    en = (
        "llama.cpp could not load {name}; the server's log says why. The file may be incomplete or of a kind that is"
        " not supported yet."
    )


@dataclass(frozen=True)
class ServerOptions:
    """`slots`: answers at once; `cache_tokens`: room for keys and values of all of them together."""

    file: str
    slots: int
    cache_tokens: int
    cache_type: int
    gpu_layers: int
    threads: int


@lru_cache
def has_gpu_support() -> bool:
    """Whether the installed build of llama.cpp can use a GPU of this machine. Asked in a process of its own."""
    asked = "import xllamacpp as x; print(any(d['type'] != x.ggml_backend_dev_type(0) for d in x.get_device_info()))"
    found = subprocess.run([sys.executable, "-P", "-c", asked], capture_output=True, text=True, check=False, timeout=60)
    return found.stdout.strip() == "True"


def environment() -> dict[str, str]:
    """For the child: nothing of ours, and threads that do not spin long, which a busy machine would make crawl."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(OURS)}
    return {"GOMP_SPINCOUNT": DEFAULTS["GOMP_SPINCOUNT"]} | kept


class ServerProcess:
    """One child at a time; `start` again after it has died."""

    def __init__(self, name: str, options: ServerOptions) -> None:
        self.name = name
        self.options = options
        self.key = secrets.token_urlsafe(32)
        self.url = ""
        self._child: subprocess.Popen[str] | None = None
        self._log: IO[bytes] | None = None

    def start(self) -> None:
        """Wait until it listens. Raises LlamaMissing or LlamaRefused."""
        if find_spec("xllamacpp") is None:
            raise LlamaMissing(name=self.name)
        self.end()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed by `end`
        self._child = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment(),
        )
        try:
            self._hand_over(self._child)
            self.url = self._listening_at(self._child)
        except BaseException:
            self.end()
            raise

    def ends_within(self, seconds: float) -> bool:
        """Whether there is no child any more, at once or after at most `seconds`."""
        try:
            if self._child is not None:
                self._child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    @property
    def pid(self) -> int:
        return self._child.pid if self._child else 0

    @property
    def mib(self) -> int:
        """What the child holds in memory now."""
        try:
            return round(psutil.Process(self.pid).memory_info().rss / 2**20)
        except psutil.Error:
            return 0

    def end(self) -> None:
        """End the child; its memory is free when this returns."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait(timeout=END_SECONDS)
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()
        if self._log is not None:
            self._log.close()
            self._log = None

    def log_tail(self) -> str:
        """The end of what it wrote to its log."""
        if self._log is None:
            return ""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - 2000))
        return self._log.read().decode("utf-8", "replace").strip()

    def _hand_over(self, child: subprocess.Popen[str]) -> None:
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps(asdict(self.options) | {"key": self.key}) + "\n")
            child.stdin.flush()
        except OSError as error:
            raise self._refused() from error

    def _listening_at(self, child: subprocess.Popen[str]) -> str:
        assert child.stdout is not None
        deadline = time.monotonic() + START_SECONDS
        with selectors.DefaultSelector() as ready:
            ready.register(child.stdout, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0 and ready.select(left):
                line = child.stdout.readline()
                if line.startswith("listening "):
                    return line.removeprefix("listening ").strip()
                if not line:
                    break
        raise self._refused()

    def _refused(self) -> LlamaRefused:
        log.warning("llama.cpp did not load %s: %s", self.name, self.log_tail())
        refused = LlamaRefused(name=self.name)
        refused.add_note(self.log_tail())
        return refused
