"""A session of the real MCP client with the server of a test."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import timedelta

import httpx
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

Serving = Callable[..., AbstractContextManager[str]]
PATIENCE = timedelta(seconds=60)  # before a test that hangs fails


@asynccontextmanager
async def session_at(url: str, key: str = "", token: str = "") -> AsyncIterator[ClientSession]:
    headers = {"Authorization": f"Bearer {key}"} if key else {"x-studio-visitor": token} if token else {}
    async with (
        httpx.AsyncClient(headers=headers, timeout=120) as http,
        streamable_http_client(url, http_client=http) as (incoming, outgoing, _),
        ClientSession(incoming, outgoing) as session,
    ):
        await session.initialize()
        yield session
