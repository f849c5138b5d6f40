"""Agent service: tasks of a page in a sandbox session of its own, their steps and files."""

import logging
import threading
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.access.client_address import ClientAddresses
from app.access.later import later
from app.access.lifetimes import CLOSED_PAGE_S
from app.agent.errors import FilesOff, FileTooLarge, NoFile, NoTask
from app.agent.kept_files import TaskFiles
from app.agent.sandbox.limits import Limits
from app.agent.sandbox.probe import Finding, SandboxUnavailable, probe
from app.agent.steps import Exchange, Step
from app.agent.tools import SEARCH_TOOL, Tool
from app.agent.workspaces import Workspace, Workspaces
from app.errors import StudioError
from app.models.interface import Registry
from app.models.waiting import while_loading

if TYPE_CHECKING:  # they need Lagent, which takes seconds to import, and Linux
    from app.agent.conversation import Bounds
    from app.agent.mcp_tools import McpTools
    from app.agent.sandbox.host import Sandbox
    from app.agent.sandbox.session import Session

log = logging.getLogger(__name__)


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
        closed_page_seconds: float = CLOSED_PAGE_S,
        finding: Finding | None = None,
        sandbox: "Sandbox | None" = None,
        documents: Callable[[str, str, str], str] | None = None,
        servers: "McpTools | None" = None,
        addresses: ClientAddresses | None = None,
    ) -> None:
        """A `sandbox` that is given is shared with others: it has its own limits and stays open at `close`.

        `documents` gives passages for (visitor, collection or "*" for all, words to look for); `servers` have the
        operator's tools. One visitor, or one of the `addresses`, holds at most half of the sessions. `page_is_open`
        tells of a session whether somebody has its page open.
        """
        self.registry = registry
        self.limits = sandbox.limits if sandbox else limits or Limits()
        self._finding = finding
        self._folder = data_folder / "agent"
        self._idle_seconds = idle_seconds
        self._closed_page_seconds = closed_page_seconds
        self._workspaces = Workspaces(self._open_session, most_sessions, idle_seconds, addresses or ClientAddresses())
        self.page_is_open: Callable[[str], bool] = lambda _: False
        self._closed = threading.Event()
        self._sandbox = sandbox
        self._shared_sandbox = sandbox is not None
        self._documents = documents
        self._servers = servers

    @cached_property
    def finding(self) -> Finding:
        """What the sandbox is worth here: tried when it is first asked for, which most commands never do."""
        return self._finding or probe()

    @property
    def available(self) -> bool:
        return self.finding.mode != "off"

    @property
    def with_files(self) -> bool:
        return self.finding.mode == "files"

    @property
    def with_documents(self) -> bool:
        return self._documents is not None

    @property
    def tool_servers(self) -> tuple[str, ...]:
        """The names of the operator's tool servers, empty where there are none for visitors here."""
        return self._servers.names if self._servers is not None else ()

    def _tools(self, bounds: "Bounds", visitor: str) -> tuple[list[Tool], list[StudioError]]:
        """What the model may use beside Python, and why tools are missing."""
        tools, missing = self._servers.tools() if self._servers is not None and bounds.tools else ([], [])
        if self._documents is not None and bounds.documents:
            find = partial(_find, partial(self._documents, visitor, bounds.documents))
            tools = [
                Tool(SEARCH_TOOL, "passages of the user's documents by words to look for", ("query",), find),
                *tools,
            ]
        return tools, missing

    def warm_up(self) -> None:
        """Start the fork server in the background, so that the first visitor need not wait; watch for idle sessions."""
        if self.available:
            threading.Thread(target=self._start_quietly, name="sandbox-start", daemon=True).start()
            threading.Thread(target=self._watch_idle, name="sandbox-idle", daemon=True).start()

    def run(
        self, session: str, task: str, model: str = "", bounds: "Bounds | None" = None, *, visitor: str = ""
    ) -> Iterator[list[Step]]:
        """Work on `task`: the steps so far, again after every change.

        `session` has the memory, the variables and the files; `visitor` is whose fair share of the model it counts
        against.
        """
        from app.agent.conversation import Bounds

        if not task.strip():
            raise NoTask(reason_zh="", reason_en="")
        name, bounds = model or self.registry.default_name, bounds or Bounds()
        with self._claim(session, visitor).at_work() as conversation:
            yield from self._loading(name, visitor)
            tools, missing = self._tools(bounds, visitor)
            with self.registry.for_visitor(visitor).lease(name) as leased:
                yield from conversation.run(task, leased, bounds, visitor or session, tools, missing)

    def approve(
        self, session: str, allowed: bool, model: str = "", *, code: str | None = None, visitor: str = ""
    ) -> Iterator[list[Step]]:
        """Go on with the code that waits for approval, as it is or as the visitor changed it to `code`."""
        name = model or self.registry.default_name
        with self._claim(session, visitor).at_work() as conversation:
            yield from self._loading(name, visitor)
            with self.registry.for_visitor(visitor).lease(name) as leased:
                yield from conversation.approve(allowed, leased, code)

    def talk(self, session: str) -> list[Exchange]:
        """What was asked and done so far."""
        workspace = self._workspaces.get(session)
        return list(workspace.conversation.past) if workspace is not None else []

    def waiting(self, session: str) -> str | None:
        """The code of this session that waits for approval, if some does."""
        workspace = self._workspaces.get(session)
        return workspace.conversation.waiting if workspace is not None else None

    def stop(self, session: str) -> None:
        """End what runs in this session, and nothing else."""
        workspace = self._workspaces.get(session)
        if workspace is not None:
            workspace.conversation.stop()

    def reset(self, session: str) -> None:
        """Forget this session: talk, variables and files."""
        self._workspaces.drop(session)

    def leave(self, session: str) -> None:
        """The page was closed, or its connection broke off: what it has goes unless it is there again soon."""
        self.stop(session)
        workspace = self._workspaces.get(session)
        claims = workspace.claims if workspace else 1  # what runs, or opens, now ends later, and is no new use

        def forget() -> None:
            if not self.page_is_open(session):
                self._workspaces.drop(session, claims)

        later.call(self._closed_page_seconds, forget)

    def interpret(self, code: str) -> Iterator[list[Step]]:
        """Run code in a session of its own, without a model."""
        from app.agent.interpreter import outcome

        interpreter = self._open_session()
        try:
            yield outcome(interpreter.run(code))
        finally:
            interpreter.close()

    def add_file(self, session: str, source: Path, name: str, *, visitor: str = "") -> str:
        """Put a copy of `source` into the session's folder; the name that its code finds it by."""
        if not self.with_files:
            raise FilesOff if self.available else self.finding.unavailable()
        mib = source.stat().st_size / (1 << 20)
        if mib > self.limits.file_mib:
            raise FileTooLarge(name=name, mib=f"{mib:.0f}", limit=self.limits.file_mib)
        return self._claim(session, visitor).add_file(source, name)

    def files(self, session: str) -> list[tuple[int, str]]:
        """(0, name) for each file that no task wrote, then (number of the task, name) for what the tasks wrote."""
        workspace = self._workspaces.get(session)
        if workspace is None or not self.with_files:
            return []
        return workspace.kept.names(name for name, _ in workspace.present)

    def files_of(self, session: str, task: int) -> TaskFiles:
        """What the task of this number wrote."""
        workspace = self._workspaces.get(session)
        return workspace.kept.of(task) if workspace is not None else TaskFiles()

    def read_file(self, session: str, name: str, task: int = 0) -> bytes:
        """The bytes of one file of the session: of the folder, or as the task left it."""
        workspace = self._workspaces.get(session)
        if workspace is None or not self.with_files:
            raise NoFile(reason_zh="", reason_en="")
        return workspace.read_file(task, name)

    def close(self) -> None:
        """End all sessions and delete what is left of them."""
        self._closed.set()
        self._workspaces.close()
        if self._sandbox is not None and not self._shared_sandbox:
            self._sandbox.close()

    def _claim(self, session: str, visitor: str) -> Workspace:
        self._workspaces.clear_idle(self.page_is_open)
        return self._workspaces.claim(session, visitor)

    def _loading(self, name: str, visitor: str) -> Iterator[list[Step]]:
        for progress in while_loading(self.registry.for_visitor(visitor), name):
            yield [Step("loading", "" if progress is None else f"{progress:.0%}")]

    def _watch_idle(self) -> None:
        """A page that was closed without a word leaves a session; it goes even when nobody else comes."""
        while not self._closed.wait(min(60.0, self._idle_seconds / 2)):
            self._workspaces.clear_idle(self.page_is_open)

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
            log.exception("the fork server of the sandbox did not start")


def _find(search: Callable[[str], str], arguments: dict[str, Any], _cancelled: Callable[[], bool]) -> str:
    return search(str(next(iter(arguments.values()), "")))
