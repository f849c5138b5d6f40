"""Bound the MCP sessions of each owner: the least recently used one ends when an owner opens too many."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_PER_OWNER = 32
SESSION_HEADER = "mcp-session-id"


@dataclass
class OpenSession:
    """`running` counts its calls that are being answered; a stream that only listens is none."""

    owner: str
    used: float
    running: int = 0


class BoundedSessions:
    """ASGI application around that of the MCP library. On the event loop only, so it needs no lock.

    A session serves only the owner who opened it.
    """

    def __init__(self, inner: ASGIApp, most: int = MOST_PER_OWNER, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner, self._most, self._clock = inner, most, clock
        self._open: dict[str, OpenSession] = {}

    async def serve(self, owner: str, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        name = request.headers.get(SESSION_HEADER)
        if name is None:
            await self._make_room(owner, scope)
            await self._inner(scope, receive, self._noting(owner, send))
            return
        session = self._open.get(name)
        if session is not None and session.owner != owner:
            await PlainTextResponse("Session not found", status_code=404)(scope, receive, send)
            return
        if session is None:  # ended meanwhile; the library says so
            await self._inner(scope, receive, send)
            return
        call = request.method == "POST"
        session.used, session.running = self._clock(), session.running + call
        try:
            await self._inner(scope, receive, self._forgetting(name, request.method, send))
        finally:
            session.used, session.running = self._clock(), session.running - call

    async def _make_room(self, owner: str, scope: Scope) -> None:
        own = [(s.used, name) for name, s in self._open.items() if s.owner == owner and not s.running]
        while own and sum(s.owner == owner for s in self._open.values()) >= self._most:
            oldest = min(own)
            own.remove(oldest)
            await self._end(oldest[1], scope)

    async def _end(self, name: str, scope: Scope) -> None:
        """As if its client had ended it."""
        self._open.pop(name, None)
        kept = [(key, value) for key, value in scope["headers"] if key in (b"host", b"origin")]
        headers = [*kept, (SESSION_HEADER.encode(), name.encode()), (b"accept", b"application/json, text/event-stream")]

        async def nothing() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def nowhere(_: Message) -> None:
            """Nobody waits for this answer."""

        await self._inner({**scope, "method": "DELETE", "headers": headers}, nothing, nowhere)

    def _noting(self, owner: str, send: Send) -> Send:
        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                for key, value in message["headers"]:
                    if key.lower() == SESSION_HEADER.encode():
                        self._open[value.decode()] = OpenSession(owner, self._clock())
            await send(message)

        return noting

    def _forgetting(self, name: str, method: str, send: Send) -> Send:
        """A session that its client has ended, or that timed out, counts no longer."""

        async def forgetting(message: Message) -> None:
            if message["type"] == "http.response.start":
                ended = method == "DELETE" and message["status"] < 400
                if ended or message["status"] == 404:
                    self._open.pop(name, None)
            await send(message)

        return forgetting
