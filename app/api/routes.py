"""The routes: who calls, what is wanted, and the answer whole or as a stream."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from app.access.api_keys import ApiKeys
from app.api.answering import Answer, Ended, Gone
from app.api.chat_request import ChatCompletionRequest, read_wanted
from app.api.errors import NoJson, NoSuchModel, TooLarge, WrongKey, answer_error, described
from app.api.responses import Completion, event, model_list, model_object
from app.errors import Language
from app.models.interface import Registry
from app.texts import preferred_language

LARGEST_BODY = 16 * 2**20  # a few photos in base64
CLIENT_CLOSED = 499  # nobody reads it
NOT_KEPT = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(frozen=True)
class Caller:
    """`owner` is whose tuned models are theirs; `visitor` whose fair share their answers count against."""

    owner: str
    visitor: str


@dataclass(frozen=True)
class Api:
    """The API over a registry. `may_use(model, owner)` tells whether a name is there for this owner."""

    registry: Registry
    keys: ApiKeys
    needs_key: bool
    may_use: Callable[[str, str], bool]
    started: int = field(default_factory=lambda: int(time.time()))

    def caller(self, request: Request) -> Caller:
        """Raises WrongKey. Without keys everyone may come in, by the address they come from."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        name = self.keys.name_of(key.strip()) if scheme.lower() == "bearer" else None
        if name is not None:
            return Caller(name, name)
        if self.needs_key or self.keys:
            raise WrongKey
        address = request.client.host if request.client else ""
        return Caller("", f"address {address}")

    def usable(self, caller: Caller) -> list[str]:
        """The models that are there for this caller."""
        return [name for name in self.registry.for_visitor(caller.owner).names() if self.may_use(name, caller.owner)]

    async def models(self, request: Request) -> Response:
        names = await run_in_threadpool(self.usable, self.caller(request))
        return JSONResponse(model_list(names, self.started))

    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in await run_in_threadpool(self.usable, self.caller(request)):
            raise NoSuchModel(param="model", model=name[:200])
        return JSONResponse(model_object(name, self.started))

    async def chat_completions(self, request: Request) -> Response:
        caller = self.caller(request)
        wanted = await run_in_threadpool(read_wanted, await _body(request))  # pictures take a moment
        if not await run_in_threadpool(self.may_use, wanted.model, caller.owner):
            raise NoSuchModel(param="model", model=wanted.model[:200])
        answer = Answer(self.registry.for_visitor(caller.owner), wanted, caller.visitor)
        watch = asyncio.create_task(answer.leave_with(request))
        try:
            if wanted.stream:
                return await _stream(answer, wanted, watch, language_of(request))
            whole = await _whole(answer, wanted)
            watch.cancel()
            return whole
        except BaseException:
            answer.leave()
            watch.cancel()
            raise


def api_routes(api: Api) -> list[Route]:
    """Routes to mount beside the page's own."""
    return [
        Route("/v1/models", _guarded(api.models)),
        Route("/v1/models/{name:path}", _guarded(api.model)),
        Route("/v1/chat/completions", _guarded(api.chat_completions), methods=["POST"]),
    ]


def language_of(request: Request) -> Language:
    """Programs seldom say; English then."""
    return preferred_language(request.headers.get("accept-language", ""), "en")


def _guarded(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def guard(request: Request) -> Response:
        try:
            return await handler(request)
        except Gone:
            return Response(status_code=CLIENT_CLOSED)
        except Exception as error:
            return answer_error(error, language_of(request))

    return guard


async def _body(request: Request) -> bytes:
    """The body, read no further than is allowed. Other pages in a browser cannot send this type unasked."""
    if not request.headers.get("content-type", "").lower().startswith("application/json"):
        raise NoJson
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            raise TooLarge(limit=LARGEST_BODY)
    return body


async def _whole(answer: Answer, wanted: ChatCompletionRequest) -> Response:
    pieces: list[str] = []
    async for news in answer.news():
        if isinstance(news, Ended):
            return JSONResponse(Completion(wanted.model).whole("".join(pieces), news), headers=NOT_KEPT)
        pieces.append(news)
    raise Gone


async def _stream(
    answer: Answer, wanted: ChatCompletionRequest, watch: "asyncio.Task[None]", language: Language
) -> Response:
    """The stream begins with the first piece, so that what fails before it has a status of its own."""
    news = answer.news()
    first = await anext(news)

    async def events() -> AsyncIterator[bytes]:
        completion = Completion(wanted.model)
        try:
            async with aclosing(_chunks(completion, first, news, wanted.include_usage)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except Gone:
            return
        except Exception as error:
            yield event({"error": described(error, language)[1]})
        finally:
            watch.cancel()
            answer.leave()

    return StreamingResponse(events(), media_type="text/event-stream", headers=NOT_KEPT)


async def _chunks(
    completion: Completion, first: str | Ended, rest: AsyncIterator[str | Ended], include_usage: bool
) -> AsyncGenerator[bytes, None]:
    yield completion.opening()
    if isinstance(first, Ended):
        yield completion.closing(first, include_usage)
        return
    yield completion.piece(first)
    async for news in rest:
        if isinstance(news, Ended):
            yield completion.closing(news, include_usage)
        else:
            yield completion.piece(news)
