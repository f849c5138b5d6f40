"""Helpers of every MCP tool: the caller of a request, and errors of ours as tool errors."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar

import anyio
import anyio.from_thread
from mcp.server.fastmcp import Context
from mcp.server.fastmcp.exceptions import ToolError
from pydantic import Field
from starlette.requests import Request

from app.api.answering import PATIENCE_SECONDS, PLACE_SECONDS
from app.api.authentication import Caller
from app.api.errors import NoSuchModel
from app.api.routes import Api
from app.errors import StudioError, Unexpected
from app.models.registry.metering import TooManyAtOnce

log = logging.getLogger(__name__)
CALLER = "studio.caller"
REPORT_SECONDS = 0.5
ALIVE_STEP = 0.001

ToolContext = Context[Any, Any, Any]
Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")
ModelName = Annotated[str, Field(description="A name from list_models; empty for the server's default model.")]


def reporting_errors(tool: Callable[Inputs, Awaitable[Output]]) -> Callable[Inputs, Awaitable[Output]]:
    """Errors of ours reach the assistant as their sentence, bugs as one sentence and a line in the log.

    A caller with too many answers under way waits for a place, for a while.
    """

    @wraps(tool)
    async def call(*args: Inputs.args, **kwargs: Inputs.kwargs) -> Output:
        try:
            return await _with_patience(lambda: tool(*args, **kwargs))
        except StudioError as error:
            raise ToolError(error.text("en")) from error
        except Exception as error:
            log.exception("an MCP tool failed")
            raise ToolError(Unexpected().text("en")) from error

    return call


async def _with_patience(tool: Callable[[], Awaitable[Output]]) -> Output:
    """Raises TooManyAtOnce once patience ends."""
    deadline = anyio.current_time() + PATIENCE_SECONDS
    while True:
        try:
            return await tool()
        except TooManyAtOnce:
            if anyio.current_time() > deadline:
                raise
        await anyio.sleep(PLACE_SECONDS)


class Progress:
    """Progress notifications of one call, for clients that asked for them; at most one each REPORT_SECONDS."""

    def __init__(self, context: ToolContext) -> None:
        self._context = context
        self._next = 0.0
        self._done = 0.0
        self._message = ""

    async def report(self, done: int, message: str) -> None:
        if anyio.current_time() >= self._next:
            self._next = anyio.current_time() + REPORT_SECONDS
            await self._tell(done, message)

    def report_from_thread(self, done: int, message: str) -> None:
        """The same from a thread that anyio has started, of each step."""
        anyio.from_thread.run(self._tell, done, message)

    async def keep_alive(self, seconds: float) -> None:
        """Say every so many seconds that the work goes on; what is told has to grow."""
        while True:
            await anyio.sleep(seconds)
            await self._tell(self._done + ALIVE_STEP, self._message)

    async def _tell(self, done: float, message: str) -> None:
        self._done, self._message = max(done, self._done + ALIVE_STEP), message
        await self._context.report_progress(self._done, message=message)


@asynccontextmanager
async def progress_of(context: ToolContext, seconds: float) -> AsyncIterator[Progress]:
    """One notification comes every so many seconds: with each, clients that wait for a minute at most begin anew."""
    progress = Progress(context)
    alive = asyncio.create_task(progress.keep_alive(seconds))
    try:
        yield progress
    finally:
        alive.cancel()


def request_of(context: ToolContext) -> Request:
    """The HTTP request that this call came with."""
    request = context.request_context.request
    assert isinstance(request, Request)
    return request


def caller_of(context: ToolContext) -> Caller:
    """Who was let in with this call."""
    caller: Caller = request_of(context).scope[CALLER]
    return caller


async def usable_model(api: Api, context: ToolContext, model: str) -> str:
    """The model meant. Raises NoSuchModel for one that is not this caller's."""
    name = model or api.registry.default_name
    if not await anyio.to_thread.run_sync(api.may_use, name, caller_of(context).owner):
        raise NoSuchModel(param="model", model=name[:200])
    return name
