"""Start and supervise an installed vLLM, LMDeploy or SGLang server as a child process on a loopback port."""

import logging
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import psutil

from app.errors import ModelError
from app.models.backends.openai_server.address import EngineAddress, EngineLaunch

log = logging.getLogger(__name__)
SUPERVISOR = Path(__file__).with_name("supervise.py")
COMMANDS = {"vllm": "vllm", "lmdeploy": "lmdeploy", "sglang": "python3"}
START_SECONDS = 1800.0  # a large model from a slow disk, with kernels to compile
PROBE_SECONDS = 0.5
END_SECONDS = 15.0
TRIES = 3  # another program may take the port before the server does
ADAPTERS_AT_RUNTIME = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}  # by the key's holder alone
OURS = ("PUYU_",)  # of the environment, nothing that an engine needs


class EngineNotInstalled(ModelError):
    zh = "引擎 {name} 需要的命令 {command} 没有找到。请把 {kind} 装进单独的环境，并写成 {name}={kind}:MODEL@环境路径。"
    en = (
        "The engine {name} needs the command {command}, which was not found. Install {kind} into a Python environment"
        " of its own and name it: {name}={kind}:MODEL@/path/to/environment."
    )


class EngineDidNotStart(ModelError):
    zh = "{kind} 没有启动模型 {name}；原因写在数据文件夹的 engines/{name}.log 里。"
    en = "{kind} did not start the model {name}; engines/{name}.log in the data folder says why."


class LocalServer:
    """One child at a time; `start` again after it has fallen. Its output goes to `log_file`."""

    def __init__(self, name: str, launch: EngineLaunch, log_file: Path, defaults: Mapping[str, str]) -> None:
        self.name = name
        self.launch = launch
        self.key = secrets.token_urlsafe(32)
        self.url = ""
        self._log_file = log_file
        self._defaults = dict(defaults)  # of the environment
        self._child: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Wait until it answers. Raises EngineNotInstalled or EngineDidNotStart."""
        program = self._program()
        for _ in range(TRIES):
            with self._lock:
                self._end_child()
                if self._closed:
                    raise EngineDidNotStart(name=self.name, kind=self.launch.kind)
                port = _free_port()
                self._child = self._spawn([program, *arguments(self.launch, port, self.key)])
            self.url = f"http://127.0.0.1:{port}/v1"
            if self._answers(self._child):
                return
            if "address already in use" not in self.log_tail().lower():
                break
        self._end_child()
        log.error("%s did not start %s: %s", self.launch.kind, self.name, self.log_tail())
        failure = EngineDidNotStart(name=self.name, kind=self.launch.kind)
        failure.add_note(self.log_tail())
        raise failure

    def address(self) -> EngineAddress:
        return EngineAddress(self.name, (self.url,), key=self.key)

    @property
    def has_ended(self) -> bool:
        return self._child is None or self._child.poll() is not None

    @property
    def processes(self) -> list[psutil.Process]:
        """The server and its workers."""
        try:
            return psutil.Process(self._child.pid).children(recursive=True) if self._child else []
        except psutil.Error:
            return []

    @property
    def mib(self) -> int:
        """Main memory of all its processes now."""
        total = 0
        for process in self.processes:
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
        return round(total / 2**20)

    def end(self) -> None:
        """End the child for good."""
        with self._lock:
            self._closed = True
            self._end_child()

    def log_tail(self) -> str:
        try:
            return self._log_file.read_bytes()[-2000:].decode("utf-8", "replace").strip()
        except OSError:
            return ""

    def _program(self) -> str:
        command, place = COMMANDS[self.launch.kind], self.launch.environment
        found = shutil.which(command, path=str(Path(place).expanduser() / "bin")) if place else shutil.which(command)
        if found is None:
            raise EngineNotInstalled(name=self.name, kind=self.launch.kind, command=command)
        return found

    def _spawn(self, command: list[str]) -> "subprocess.Popen[bytes]":
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        if self._log_file.exists():
            self._log_file.replace(self._log_file.with_suffix(".log.1"))
        kept = {key: value for key, value in os.environ.items() if not key.startswith(OURS)}
        with self._log_file.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-P", str(SUPERVISOR), *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._defaults | kept | {"VLLM_API_KEY": self.key} | ADAPTERS_AT_RUNTIME,
            )

    def _answers(self, child: "subprocess.Popen[bytes]") -> bool:
        deadline = time.monotonic() + START_SECONDS
        with httpx.Client(headers={"Authorization": f"Bearer {self.key}"}, timeout=5) as client:
            while time.monotonic() < deadline and child.poll() is None and not self._closed:
                try:
                    if client.get(f"{self.url}/models").status_code == 200:
                        return True
                except httpx.HTTPError:
                    pass
                time.sleep(PROBE_SECONDS)
        return False

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        assert child.stdin is not None
        child.stdin.close()  # the supervisor ends the server, then itself
        try:
            child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def arguments(launch: EngineLaunch, port: int, key: str) -> list[str]:
    """The command line of each engine's server after its program; options of the user come last."""
    where = {
        "vllm": ["serve", launch.model, "--host", "127.0.0.1", "--port", str(port)],
        "lmdeploy": [
            *("serve", "api_server", launch.model, "--server-name", "127.0.0.1"),
            *("--server-port", str(port), "--api-keys", key),
        ],
        "sglang": [
            *("-m", "sglang.launch_server", "--model-path", launch.model),
            *("--host", "127.0.0.1", "--port", str(port), "--api-key", key),
        ],
    }
    return [*where[launch.kind], *launch.options]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
