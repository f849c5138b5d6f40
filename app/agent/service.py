"""The agent as the pages are given it: a conversation for each visitor, over one sandbox."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from app.agent.errors import AlreadyRunning, FilesOff, FileTooLarge, NoTask, TooManySessions
from app.agent.sandbox.limits import Limits
from app.agent.sandbox.probe import Finding, SandboxUnavailable, probe
from app.agent.steps import Step
from app.models.interface import Registry

if TYPE_CHECKING:  # they need Lagent, which takes seconds to import, and Linux
    from app.agent.conversation import Bounds, Conversation
    from app.agent.sandbox.host import Sandbox
    from app.agent.sandbox.session import Session

log = logging.getLogger(__name__)


@dataclass
class Seat:
    """One visitor's conversation; `running` while a task of his is under way."""

    conversation: "Conversation"
    last_used: float
    running: threading.Lock = field(default_factory=threading.Lock)


class AgentService:
    """Where the sandbox is not available every method raises SandboxUnavailable; `finding` says why."""

    def __init__(
        self,
        registry: Registry,
        data_folder: Path,
        *,
        limits: Limits | None = None,
        most_sessions: int = 20,
        idle_seconds: float = 1800.0,
        finding: Finding | None = None,
    ) -> None:
        self.registry = registry
        self.limits = limits or Limits()
        self.finding = finding or probe()
        self._folder = data_folder / "agent"
        self._most_sessions = most_sessions
        self._idle_seconds = idle_seconds
        self._seats: dict[str, Seat] = {}
        self._lock = threading.Lock()
        self._sandbox: Sandbox | None = None

    @property
    def available(self) -> bool:
        return self.finding.mode != "off"

    @property
    def with_files(self) -> bool:
        return self.finding.mode == "files"

    def warm_up(self) -> None:
        """Start the warm parent in the background, so that the first visitor need not wait for it."""
        if self.available:
            threading.Thread(target=self._start_quietly, name="sandbox-start", daemon=True).start()

    def run(self, visitor: str, task: str, model: str = "", bounds: "Bounds | None" = None) -> Iterator[list[Step]]:
        """Work on `task`: the steps so far, again after every change."""
        from app.agent.conversation import Bounds

        if not task.strip():
            raise NoTask(reason_zh="", reason_en="")
        with self._seat(visitor) as conversation, self.registry.lease(model or self.registry.default_name) as leased:
            yield from conversation.run(task, leased, bounds or Bounds())

    def approve(self, visitor: str, allowed: bool, model: str = "") -> Iterator[list[Step]]:
        """Go on with the code that waits for the visitor's word."""
        with self._seat(visitor) as conversation, self.registry.lease(model or self.registry.default_name) as leased:
            yield from conversation.approve(allowed, leased)

    def stop(self, visitor: str) -> None:
        """End what runs for this visitor, and nothing else."""
        seat = self._seats.get(visitor)
        if seat is not None:
            seat.conversation.stop()

    def reset(self, visitor: str) -> None:
        """Forget this visitor's conversation, variables and files."""
        with self._lock:
            seat = self._seats.pop(visitor, None)
        if seat is not None:
            seat.conversation.stop()
            seat.conversation.session.close()

    def interpret(self, code: str) -> Iterator[list[Step]]:
        """Run code in a session of its own, without a model."""
        from app.agent.conversation import outcome

        session = self._open_session()
        try:
            yield outcome(session.run(code))
        finally:
            session.close()

    def add_file(self, visitor: str, source: Path, name: str) -> str:
        """Put an upload into the visitor's folder; the name that his code finds it by."""
        if not self.with_files:
            raise FilesOff if self.available else self.finding.unavailable()
        mib = source.stat().st_size / (1 << 20)
        if mib > self.limits.file_mib:
            raise FileTooLarge(name=name, mib=f"{mib:.0f}", limit=self.limits.file_mib)
        return self._claim(visitor).conversation.session.add_file(source, name).name

    def files(self, visitor: str) -> list[Path]:
        """What lies in the visitor's folder, newest last."""
        seat = self._seats.get(visitor)
        return seat.conversation.session.files() if seat is not None and self.with_files else []

    def close(self) -> None:
        """End all sessions and delete what is left of them."""
        for visitor in list(self._seats):
            self.reset(visitor)
        if self._sandbox is not None:
            self._sandbox.close()

    @contextmanager
    def _seat(self, visitor: str) -> "Iterator[Conversation]":
        """The visitor's conversation, for one task at a time."""
        seat = self._claim(visitor)
        if not seat.running.acquire(blocking=False):
            raise AlreadyRunning
        try:
            yield seat.conversation
        finally:
            seat.last_used = time.monotonic()
            seat.running.release()

    def _claim(self, visitor: str) -> Seat:
        from app.agent.conversation import Conversation

        self._clear_idle()
        with self._lock:
            seat = self._seats.get(visitor)
            if seat is None:
                if len(self._seats) >= self._most_sessions:
                    raise TooManySessions(limit=self._most_sessions)
                seat = Seat(Conversation(self._open_session(), visitor), time.monotonic())
                self._seats[visitor] = seat
            return seat

    def _clear_idle(self) -> None:
        long_ago = time.monotonic() - self._idle_seconds
        for visitor, seat in list(self._seats.items()):
            if seat.last_used < long_ago and not seat.running.locked():
                self.reset(visitor)

    def _open_session(self) -> "Session":
        from app.agent.sandbox.host import SandboxError

        try:
            return self._running_sandbox().open()
        except SandboxError as error:
            raise SandboxUnavailable(reason_zh=error, reason_en=error) from error

    def _running_sandbox(self) -> "Sandbox":
        if not self.available:
            raise self.finding.unavailable()
        from app.agent.sandbox.host import Sandbox

        if self._sandbox is None:
            self._sandbox = Sandbox(self._folder, self.limits, self.with_files)
        return self._sandbox

    def _start_quietly(self) -> None:
        try:
            self._running_sandbox().start()
        except Exception:
            log.exception("the warm parent of the sandbox did not start")
