"""What the server adds to the page's application: the API's routes, and the MCP tools where they are asked for."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.routing import Route

from app.access.api_keys import read_keys
from app.api.authentication import Authentication
from app.api.embeddings import EmbeddingRoutes
from app.api.routes import Api, api_routes

if TYPE_CHECKING:
    from app.services import Services


@dataclass(frozen=True)
class Mounted:
    """Routes, and what must run while they are served."""

    routes: list[Route]
    lifespan: Callable[[object], AbstractAsyncContextManager[None]]


def mount(services: "Services") -> Mounted:
    """Raises SettingsError for keys that cannot be read."""
    settings = services.settings
    callers = Authentication(read_keys(settings.api_keys), bool(settings.auth), services.sessions.addresses)
    api = Api(services.registry, callers, services.registry.may_use, settings.api_lenient)
    embeddings = EmbeddingRoutes(callers, services.knowledge, lenient=settings.api_lenient)
    known = api_routes(api, embeddings)
    if not settings.mcp:
        return Mounted(known, _nothing)
    from app.api.mcp_server import Tools

    who_calls, local = bool(settings.auth), settings.is_private
    tools = Tools(
        api,
        services.agent,
        services.knowledge,
        sessions=services.sessions,
        interpreter=who_calls,
        local=local,
    )
    return Mounted([*known, tools.route()], tools.lifespan)


@asynccontextmanager
async def _nothing(_: object) -> AsyncIterator[None]:
    yield
