"""Workspaces of the agent's pages: limits on their number, idle clean-up, and each task's files."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from app.access.client_address import ClientAddresses
from app.agent.errors import AlreadyRunning, NoFile, OwnSessionsSpent, TooManySessions
from app.agent.kept_files import KeptFiles, relative
from app.agent.sandbox.storage import read_plainly
from app.errors import StudioError

if TYPE_CHECKING:  # they need Lagent, which takes seconds to import, and Linux
    from app.agent.conversation import Conversation
    from app.agent.sandbox.session import Session

_REMEMBERED_PAGES = 1000


@dataclass
class Workspace:
    """A page's conversation with its sandbox session and files; `running` is held while a task is under way, `claims`
    counts its tasks and uploads as they begin."""

    conversation: "Conversation"
    kept: KeptFiles
    visitor: str
    claims: int = 0
    last_used: float = field(default_factory=time.monotonic)
    running: threading.Lock = field(default_factory=threading.Lock)
    resting: bool = False

    @property
    def session(self) -> "Session":
        return self.conversation.session

    @property
    def present(self) -> list[tuple[str, Path]]:
        """The files in the session's folder with their names there, newest last."""
        return relative(self.session.folder, self.session.files())

    def add_file(self, source: Path, name: str) -> str:
        added = self.session.add_file(source, name)
        self.kept.uploaded(added, added.name)
        return added.name

    def read_file(self, task: int, name: str) -> bytes:
        found = self.kept.of(task).copies if task else dict(self.present)
        if name not in found:
            raise NoFile(reason_zh="", reason_en="")
        return read_plainly(found[name])

    @contextmanager
    def at_work(self) -> "Iterator[Conversation]":
        """Its conversation, for one task at a time; what the task wrote is its own from then on."""
        if not self.running.acquire(blocking=False):
            raise AlreadyRunning
        try:
            self.resting = False
            try:
                yield self.conversation
            finally:
                if past := self.conversation.past:
                    self.kept.keep(past[-1].number, self.present)
                    self.kept.forget(before=past[0].number)
        finally:
            self.last_used = time.monotonic()
            self.running.release()

    def rest(self) -> None:
        """Give the interpreter's memory back, unless a task is under way; talk and files stay."""
        if self.resting or not self.running.acquire(blocking=False):
            return
        try:
            self.resting = True
            self.session.reset()
            if self.conversation.past:
                self.conversation.tell("rested")
        finally:
            self.running.release()

    def close(self) -> None:
        self.conversation.stop()
        self.session.close()
        self.kept.close()


class Workspaces:
    """One for each page, at most `most`, and at most half of them for one visitor or network.

    One that was idle for long rests while its page is open, and goes where it is not, or where the place is needed.
    """

    def __init__(
        self, open_session: "Callable[[], Session]", most: int, idle_seconds: float, addresses: ClientAddresses
    ) -> None:
        self._open_session = open_session
        self._most = most
        self._idle_seconds = idle_seconds
        self._addresses = addresses
        self._held: dict[str, Workspace] = {}
        self._gave_way: OrderedDict[str, None] = OrderedDict()  # pages that are yet to be told so
        self._lock = threading.Lock()

    def get(self, session: str) -> Workspace | None:
        return self._held.get(session)

    def claim(self, session: str, visitor: str) -> Workspace:
        """The page's workspace. Raises TooManySessions or OwnSessionsSpent where a new one has no place."""
        from app.agent.conversation import Conversation

        with self._lock:
            if session not in self._held:
                self._find_place(visitor)
                opened = self._open_session()
                beside = opened.folder.with_name(f"{opened.folder.name}-kept")
                conversation = Conversation(opened)
                if session in self._gave_way:
                    del self._gave_way[session]
                    conversation.tell("gave_way")
                self._held[session] = Workspace(conversation, KeptFiles(beside, opened.limits), visitor)
            workspace = self._held[session]
            workspace.claims += 1
            return workspace

    def drop(self, session: str, claims: int | None = None) -> None:
        """All that the page had goes; where `claims` are given, unless it was claimed another number of times."""
        with self._lock:
            workspace = self._held.get(session)
            if workspace is None or claims not in (None, workspace.claims):
                return
            del self._held[session]
        workspace.close()

    def clear_idle(self, is_open: Callable[[str], bool]) -> None:
        """`is_open` tells of a page whether somebody has it open."""
        for session, workspace in list(self._held.items()):
            if not self._is_idle(workspace):
                continue
            if is_open(session):
                workspace.rest()
            else:
                self.drop(session)

    def close(self) -> None:
        for session in list(self._held):
            self.drop(session)

    def _find_place(self, visitor: str) -> None:
        """Nobody takes more than half of the places, by whatever many names."""
        half, network = max(1, self._most // 2), self._addresses.of(visitor)
        holders = list(self._held.items())
        mine = [holder for holder in holders if visitor and holder[1].visitor == visitor]
        near = [holder for holder in holders if network and self._addresses.of(holder[1].visitor) == network]
        bounds: list[tuple[list[tuple[str, Workspace]], int, StudioError]] = [
            (holders, self._most, TooManySessions(limit=self._most)),
            (mine, half, OwnSessionsSpent(limit=half)),
            (near, half, OwnSessionsSpent(limit=half)),
        ]
        for held, most, refusal in bounds:
            there = [(session, workspace) for session, workspace in held if session in self._held]
            if len(there) >= most and not self._give_way(there):
                raise refusal

    def _give_way(self, holders: list[tuple[str, Workspace]]) -> bool:
        """Whether one of them was idle for long, so that its place is free now."""
        idle = [(workspace.last_used, session) for session, workspace in holders if self._is_idle(workspace)]
        if not idle:
            return False
        session = min(idle)[1]
        self._held.pop(session).close()
        self._gave_way[session] = None
        if len(self._gave_way) > _REMEMBERED_PAGES:
            self._gave_way.popitem(last=False)
        return True

    def _is_idle(self, workspace: Workspace) -> bool:
        return workspace.last_used < time.monotonic() - self._idle_seconds and not workspace.running.locked()
