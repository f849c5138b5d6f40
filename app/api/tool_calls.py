"""What every MCP tool stands on: who calls, and errors as sentences."""

import logging
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar

import anyio
from mcp.server.fastmcp import Context
from mcp.server.fastmcp.exceptions import ToolError
from pydantic import Field
from starlette.requests import Request

from app.api.errors import NoSuchModel
from app.api.routes import Api, Caller
from app.errors import StudioError, Unexpected

log = logging.getLogger(__name__)
CALLER = "studio.caller"

Asked = Context[Any, Any, Any]
Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")
ModelName = Annotated[str, Field(description="A name from list_models; empty for the server's default model.")]


def told(tool: Callable[Inputs, Awaitable[Output]]) -> Callable[Inputs, Awaitable[Output]]:
    """Errors of ours reach the assistant as their sentence, bugs as one sentence and a line in the log."""

    @wraps(tool)
    async def call(*args: Inputs.args, **kwargs: Inputs.kwargs) -> Output:
        try:
            return await tool(*args, **kwargs)
        except StudioError as error:
            raise ToolError(error.text("en")) from error
        except Exception as error:
            log.exception("an MCP tool failed")
            raise ToolError(Unexpected().text("en")) from error

    return call


def caller_of(context: Asked) -> Caller:
    """Who was let in with this call."""
    request = context.request_context.request
    assert isinstance(request, Request)
    caller: Caller = request.scope[CALLER]
    return caller


async def usable_model(api: Api, context: Asked, model: str) -> str:
    """The model meant. Raises NoSuchModel for one that is not this caller's."""
    name = model or api.registry.default_name
    if not await anyio.to_thread.run_sync(api.may_use, name, caller_of(context).owner):
        raise NoSuchModel(param="model", model=name[:200])
    return name
