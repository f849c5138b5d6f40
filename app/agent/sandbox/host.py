"""Sandbox host: start and restart the fork server, open sessions from it."""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO

from app.agent.sandbox import storage
from app.agent.sandbox.channel import ReplyError
from app.agent.sandbox.child import Child, ChildEndedError
from app.agent.sandbox.limits import Limits
from app.agent.sandbox.session import Session
from app.paths import ROOT

NOBODY = 65534
_START_SECONDS = 600.0  # six on a free machine, minutes on one with many busy programs; one that dies is told at once
_SESSION_SECONDS = 10.0
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from app.agent.sandbox.parent import main;"
    " main(int(sys.argv[2]), sys.argv[3])"
)


class SandboxError(Exception):
    """The fork server or a child could not be started; the text says why, in the kernel's words."""


class Sandbox:
    """One fork server and the sessions forked from it.

    Without files sessions can open nothing. A bare sandbox has the standard library only and starts at once.
    """

    def __init__(self, folder: Path, limits: Limits | None = None, with_files: bool = True, bare: bool = False) -> None:
        self.limits = limits or Limits()
        self.with_files = with_files
        self._bare = bare
        self._base = folder
        self._place: Path | None = None
        self._lock = threading.Lock()
        self._parent: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._log: IO[bytes] | None = None

    def start(self) -> None:
        """Start the fork server now instead of at the first session."""
        with self._lock:
            self._running_channel()

    def open(self) -> Session:
        """A new session with an empty folder of its own."""
        with self._lock:
            self._running_channel()
            assert self._place is not None
            folder = self._place / secrets.token_hex(16)
        owner = NOBODY if os.getuid() == 0 else None
        folder.mkdir(mode=0o700)
        if owner is not None:
            os.chown(folder, owner, owner)
        try:
            return Session(folder, self.limits, owner, self._start_child)
        except BaseException:
            storage.remove(folder)
            raise

    def close(self) -> None:
        """End the parent, and with it every session."""
        with self._lock:
            self._stop_parent()
            if self._place is not None:
                storage.remove(self._place)
                self._place = None

    def _start_child(self, folder: Path) -> Child:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        output, printing = os.pipe()
        request = {
            "folder": str(folder),
            "with_files": self.with_files,
            "user": NOBODY,
            "limits": asdict(self.limits),
        }
        try:
            process = self._fork(json.dumps(request).encode(), [theirs.fileno(), printing])
        except BaseException:
            ours.close()
            os.close(output)
            raise
        finally:
            theirs.close()
            os.close(printing)
        child = Child(ours, output, process, self.limits)
        _await_ready(child)
        return child

    def _fork(self, request: bytes, descriptors: list[int]) -> int:
        """Ask the parent for a child; once more with a new parent if the old one is gone."""
        with self._lock:
            for attempt in (1, 2):
                channel = self._running_channel()
                try:
                    channel.settimeout(_SESSION_SECONDS)
                    socket.send_fds(channel, [request], descriptors)
                    _, received, _, _ = socket.recv_fds(channel, 64, 1)
                    if received:
                        return received[0]
                except OSError as error:
                    if attempt == 2:
                        raise SandboxError(f"the fork server does not answer: {error}") from error
                self._stop_parent()
            raise SandboxError("the fork server ended while starting a session")

    def _running_channel(self) -> socket.socket:
        if self._channel is None or self._parent is None or self._parent.poll() is not None:
            self._stop_parent()
            self._start_parent()
        assert self._channel is not None
        return self._channel

    def _start_parent(self) -> None:
        place = self._place = self._place or _own_place(self._base)
        settings = place.parent / "matplotlib"
        settings.mkdir(exist_ok=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the parent
        complete = not self.with_files or not _everyone_may_read(Path(os.path.realpath(os.__file__)))
        extent = "bare" if self._bare else "complete" if complete else "usual"
        command = [sys.executable, "-I", "-c", _BOOT, str(ROOT), str(theirs.fileno())]
        self._parent = subprocess.Popen(
            [*command, extent],
            env=_environment(settings),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        ours.settimeout(_START_SECONDS)
        self._channel = ours
        words = ""
        try:
            if ours.recv(16) == b"ready":
                return
            self._log.seek(0)
            words = self._log.read()[-800:].decode("utf-8", "replace").strip()
        except TimeoutError:  # what its libraries have said meanwhile is not why
            words = f"the fork server was not ready after {_START_SECONDS:.0f} s"
        except OSError as error:
            words = str(error)
        self._stop_parent()
        raise SandboxError(words or "the fork server did not start")

    def _stop_parent(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._parent is not None:
            self._parent.kill()
            self._parent.wait()
            self._parent = None
        if self._log is not None:
            self._log.close()
            self._log = None


def _await_ready(child: Child) -> None:
    deadline = time.monotonic() + _SESSION_SECONDS
    reason = "a session did not start"
    try:
        while time.monotonic() < deadline:
            reply = child.wait(0, 0.5)
            if reply is not None and not reply.error:
                return
            if reply is not None:
                reason = reply.error.splitlines()[-1]
                break
    except (ChildEndedError, ReplyError):
        reason = "a session ended while it was being locked"
    child.end()
    raise SandboxError(reason)


def _environment(settings: Path) -> dict[str, str]:
    """What the parent, and so every child, sees: nothing of the server's."""
    offset = -time.localtime().tm_gmtoff // 60
    sign = "-" if offset < 0 else ""
    return {
        "LANG": "C.UTF-8",
        "TZ": f"<LOCAL>{sign}{abs(offset) // 60}:{abs(offset) % 60:02d}",
        "MPLCONFIGDIR": str(settings),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }


def _own_place(base: Path) -> Path:
    """A folder for this server's sessions that their user can reach, cleared of dead servers' leftovers."""
    if os.getuid() == 0 and not _everyone_may_read(base):
        base = Path(tempfile.gettempdir()) / "puyu-agent"
    base.mkdir(parents=True, exist_ok=True)
    for left in base.glob("sessions-*"):
        number = left.name.partition("-")[2].partition("-")[0]
        if number.isdigit() and not Path(f"/proc/{number}").exists():
            with contextlib.suppress(OSError):
                storage.remove(left)
    place = base / f"sessions-{os.getpid()}-{secrets.token_hex(4)}"
    place.mkdir(mode=0o711)
    return place


def _everyone_may_read(path: Path) -> bool:
    """Whether a user without any rights of his own could reach `path`."""
    path = path.resolve()
    existing = next(place for place in (path, *path.parents) if place.exists())
    return all(place.stat().st_mode & 0o001 for place in (existing, *existing.parents) if place.is_dir())
