"""Client of MCP servers that the operator names: their tools for the agent, over stdio or streamable HTTP.

Each listing and each call has a connection of its own, so nothing of one visitor stays for the next, and a server that
hung or ended is started or reached anew.
"""

import logging
import re
import shlex
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO, TypeVar

import anyio
import httpx
from mcp import ClientSession, StdioServerParameters, types
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from app.agent.errors import ToolStopped
from app.agent.sandbox.shown_paths import without_installation
from app.agent.tools import SEARCH_TOOL, Cancelled, Tool
from app.errors import SettingsError, StudioError

log = logging.getLogger(__name__)
LISTED_SECONDS = 300.0  # how long a list of tools is believed
START_SECONDS = 30.0  # for a server to start, or to be reached, and to list its tools
MOST_CHARACTERS = 8000
_FORM = re.compile(r"(?P<name>[A-Za-z]\w*)=(?P<where>\S.*)", re.DOTALL)
Result = TypeVar("Result")


class ToolUnreachable(StudioError):
    zh = "工具服务器 {server} 无法启动或连接。请稍后再试，或告诉管理员。"
    en = "The tool server {server} cannot be started or reached. Try again later, or tell whoever runs this server."


class ToolTooSlow(StudioError):
    zh = "工具服务器 {server} 在 {seconds} 秒内没有回答。"
    en = "The tool server {server} did not answer within {seconds} seconds."


class ToolRefused(StudioError):
    zh = "工具 {tool} 报告错误：{reason}"
    en = "The tool {tool} reports an error: {reason}"


@dataclass(frozen=True)
class McpServer:
    """`where` is the address of a streamable HTTP server, or a command that talks over standard input and output."""

    name: str
    where: str

    @asynccontextmanager
    async def session(self, errors: TextIO) -> AsyncIterator[ClientSession]:
        async with self._streams(errors) as (read, write), ClientSession(read, write) as session:
            await session.initialize()
            yield session

    @asynccontextmanager
    async def _streams(self, errors: TextIO) -> AsyncIterator[tuple[Any, Any]]:
        if self.where.startswith(("http://", "https://")):
            # the caller has one timeout for everything
            client = httpx.AsyncClient(timeout=None)
            async with client, streamable_http_client(self.where, http_client=client) as (read, write, _):
                yield read, write
        else:
            command, *arguments = shlex.split(self.where)
            # with the environment that the package passes on: none of the server's keys
            async with stdio_client(StdioServerParameters(command=command, args=arguments), errors) as (read, write):
                yield read, write


def read_servers(given: Sequence[str]) -> tuple[McpServer, ...]:
    """NAME=COMMAND or NAME=URL each. Raises SettingsError."""
    servers: list[McpServer] = []
    for text in given:
        found = _FORM.fullmatch(text.strip())
        if found is None or any(server.name == found["name"] for server in servers):
            raise SettingsError(key="agent_tools", value=text, allowed="NAME=COMMAND, NAME=https://…")
        servers.append(McpServer(found["name"], found["where"]))
    return tuple(servers)


class McpTools:
    """The tools of all servers. Thread-safe; one that cannot be listed has none until it is asked again."""

    def __init__(self, servers: Sequence[McpServer], log_folder: Path, call_seconds: float = 60.0) -> None:
        self._servers = tuple(servers)
        self._log_folder = log_folder
        self._seconds = call_seconds
        self._listed: dict[str, tuple[float, list[types.Tool]]] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the servers."""
        return tuple(server.name for server in self._servers)

    def tools(self) -> tuple[list[Tool], list[StudioError]]:
        """What can be called now, and why servers are missing."""
        found: dict[str, Tool] = {}
        missing: list[StudioError] = []
        for server in self._servers:
            try:
                listed = self._list(server)
            except StudioError as error:
                missing.append(error)
                continue
            for tool in listed:
                plain = re.sub(r"\W", "_", tool.name)
                taken = plain in found or plain == SEARCH_TOOL or not plain.isidentifier()
                name = f"{server.name}_{plain}" if taken else plain
                run = partial(self._call, server, tool.name)
                found[name] = Tool(name, tool.description or "", _parameters(tool), run, server.name)
        return list(found.values()), missing

    def _list(self, server: McpServer) -> list[types.Tool]:
        with self._lock:  # two visitors at once cause one start
            when, known = self._listed.get(server.name, (0.0, []))
            if known and time.monotonic() - when < LISTED_SECONDS:
                return known

            async def ask(session: ClientSession) -> list[types.Tool]:
                return (await session.list_tools()).tools

            listed = self._with_session(server, ask, START_SECONDS, lambda: False)
            self._listed[server.name] = time.monotonic(), listed
            return listed

    def _call(self, server: McpServer, tool: str, arguments: dict[str, Any], cancelled: Cancelled) -> str:
        async def ask(session: ClientSession) -> types.CallToolResult:
            return await session.call_tool(tool, arguments)

        try:
            answer = self._with_session(server, ask, self._seconds, cancelled)
        except ToolUnreachable:
            self._listed.pop(server.name, None)
            raise
        text = "\n".join(_text(block) for block in answer.content)[:MOST_CHARACTERS]
        if answer.isError:
            raise ToolRefused(tool=tool, reason=without_installation(text) or "-")
        return text

    def _with_session(
        self, server: McpServer, ask: Callable[[ClientSession], Any], seconds: float, cancelled: Cancelled
    ) -> Any:
        """Raises ToolUnreachable, ToolTooSlow, ToolStopped; what went wrong is in the log."""
        answers: list[Any] = []

        async def talk() -> None:
            with anyio.move_on_after(seconds):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_watch, cancelled, tasks.cancel_scope)
                    with (self._log_folder / f"{server.name}.log").open("a", encoding="utf-8") as errors:
                        async with server.session(errors) as session:
                            answers.append(await ask(session))
                    tasks.cancel_scope.cancel()

        began = time.monotonic()
        self._log_folder.mkdir(parents=True, exist_ok=True)
        try:
            anyio.run(talk)
        except Exception as error:  # of the package, the process, the connection: all of them groups of others
            if not answers:
                log.warning("the tool server %s failed", server.name, exc_info=True)
                raise ToolUnreachable(server=server.name) from error
        if not answers:
            stopped = cancelled() and time.monotonic() - began < seconds
            raise ToolStopped if stopped else ToolTooSlow(server=server.name, seconds=round(seconds))
        return answers[0]


async def _watch(cancelled: Cancelled, scope: anyio.CancelScope) -> None:
    while not cancelled():
        await anyio.sleep(0.1)
    scope.cancel()


def _parameters(tool: types.Tool) -> tuple[str, ...]:
    named = list(tool.inputSchema.get("properties") or {})
    required = [name for name in tool.inputSchema.get("required") or [] if name in named]
    return (*required, *(name for name in named if name not in required))


def _text(block: types.ContentBlock) -> str:
    if isinstance(block, types.TextContent):
        return block.text
    if isinstance(block, types.EmbeddedResource) and isinstance(block.resource, types.TextResourceContents):
        return block.resource.text
    return f"[{block.type}]"
