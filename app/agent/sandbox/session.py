"""Sandbox session: run cells with time, output and disk limits; variables live until `reset`."""

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.agent.sandbox import storage
from app.agent.sandbox.channel import Reply, ReplyError
from app.agent.sandbox.child import Child, ChildEndedError
from app.agent.sandbox.limits import Limits
from app.agent.sandbox.shown_paths import without_server_paths

Ending = Literal["done", "failed", "too slow", "stopped", "too much output", "too much disk", "died"]

_LOOK_SECONDS = 0.05
_GRACE_SECONDS = 1.0


@dataclass(frozen=True)
class CellResult:
    """What one cell did. `variables_lost` says that the interpreter had to be started afresh."""

    output: str
    value: str
    error: str
    images: tuple[bytes, ...]
    seconds: float
    ending: Ending
    variables_lost: bool


class Session:
    """Runs cells in a child that `start_child` makes; after a kill the next cell gets a fresh one."""

    def __init__(self, folder: Path, limits: Limits, owner: int | None, start_child: Callable[[Path], Child]) -> None:
        self.folder = folder
        self.limits = limits
        self._owner = owner
        self._start_child = start_child
        self._child: Child | None = start_child(folder)
        self._cell = 0
        self._lock = threading.Lock()
        self._closed = False

    def run(self, code: str, cancelled: Callable[[], bool] = lambda: False) -> CellResult:
        """Run one cell; when `cancelled` turns true, or the time is over, it is interrupted, then killed."""
        with self._lock:
            if self._closed:
                return CellResult("", "", "", (), 0.0, "stopped", True)
            began = time.monotonic()
            self._cell += 1
            child = self._child = self._child or self._start_child(self.folder)
            reply: Reply | None = None
            ending: Ending = "died"
            with contextlib.suppress(ChildEndedError, ReplyError):
                child.ask(self._cell, code.encode("utf-8", "replace").decode())
                reply, ending = self._watch(child, lambda: self._closed or cancelled())
            said = reply or Reply()
            output, value, error = (
                without_server_paths(text, self.folder) for text in (child.text(), said.value, said.error)
            )
            lost = not self._settle(child, reply, ending)
            return CellResult(output, value, error, said.images, time.monotonic() - began, ending, lost)

    def reset(self) -> None:
        """Forget all variables; the files stay."""
        with self._lock:
            self._end_child()

    def add_file(self, source: Path, name: str) -> Path:
        """Put a copy of `source` into the folder under the last part of `name`."""
        target = self.folder / (Path(name).name or "file")
        with contextlib.suppress(FileNotFoundError):
            target.unlink()  # never write through something a cell has put there
        shutil.copyfile(source, target)
        if self._owner is not None:
            os.chown(target, self._owner, self._owner)
        return target

    def files(self) -> list[Path]:
        """The ordinary files in the folder, newest last."""
        return storage.regular_files(self.folder, self.limits.folder_files)

    def close(self) -> None:
        """End the process and delete the folder."""
        self._closed = True
        with self._lock:
            self._end_child()
            storage.remove(self.folder)

    def _watch(self, child: Child, cancelled: Callable[[], bool]) -> tuple[Reply | None, Ending]:
        deadline = time.monotonic() + self.limits.cell_seconds
        ending: Ending = "done"
        next_look = 0.0
        while True:
            reply = child.wait(self._cell, _LOOK_SECONDS)
            if reply is not None:
                return reply, self._judge(reply, ending)
            now = time.monotonic()
            if ending == "done" and (now > deadline or cancelled()):
                ending = "too slow" if now > deadline else "stopped"
                deadline = now + _GRACE_SECONDS
                child.signal(signal.SIGINT)
            elif now > deadline:
                return None, ending
            if child.printed > self.limits.printed_mib << 20:
                return None, "too much output"
            if now >= next_look:
                if self._overfull():
                    return None, "too much disk"
                next_look = now + 10 * (time.monotonic() - now)

    def _judge(self, reply: Reply, ending: Ending) -> Ending:
        if self._overfull():
            return "too much disk"
        if ending != "done":
            return ending
        return "failed" if reply.error else "done"

    def _overfull(self) -> bool:
        usage = storage.measure(self.folder, self.limits.folder_files)
        return usage.entries > self.limits.folder_files or usage.size > self.limits.folder_mib << 20

    def _settle(self, child: Child, reply: Reply | None, ending: Ending) -> bool:
        """Put a child that answered to sleep, so that nothing it left runs on; end any other."""
        if reply is not None and ending != "too much disk":
            child.signal(signal.SIGSTOP)
            return True
        self._end_child()
        if ending == "too much disk":
            storage.remove(self.folder)
            self._make_folder()
        return False

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def _make_folder(self) -> None:
        self.folder.mkdir(mode=0o700)
        if self._owner is not None:
            os.chown(self.folder, self._owner, self._owner)
