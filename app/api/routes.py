"""HTTP routes under /v1: authentication, request parsing, JSON answers and server-sent event streams."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.api.answering import AnswerStream, ClientGone, Job
from app.api.authentication import Authentication, Caller
from app.api.chat_answers import chat_job
from app.api.chat_request import read_chat_request
from app.api.completion_request import read_completion_request
from app.api.completions import TextCompletion, completion_jobs
from app.api.embeddings import EmbeddingRoutes
from app.api.errors import NoSuchModel, NoSuchRoute, WrongMethod, answer_error
from app.api.event_stream import COMMENT_SECONDS, NOT_KEPT, EventStream
from app.api.openapi import openapi
from app.api.request_body import Fields, parse_object, read_body
from app.api.responses import ChatCompletion, Choice, Completion, model_list, model_object
from app.api.responses_input import read_response_request, renamed
from app.api.responses_output import ResponseBody
from app.api.sampling_fields import AnswerOptions
from app.errors import Language, PromptTooLong, StudioError
from app.models.interface import Registry
from app.texts import preferred_language

CLIENT_CLOSED = 499  # nobody reads it
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Api:
    """The API over a registry. `may_use(model, owner)` tells whether a name is there for this owner; `lenient`
    takes requests with fields that are not known. A stream that is silent for `comment_seconds` carries a comment."""

    registry: Registry
    callers: Authentication
    may_use: Callable[[str, str], bool]
    lenient: bool = False
    comment_seconds: float = COMMENT_SECONDS
    started: int = field(default_factory=lambda: int(time.time()))

    def usable(self, caller: Caller) -> list[str]:
        """The models that are there for this caller."""
        return [name for name in self.registry.for_visitor(caller.owner).names() if self.may_use(name, caller.owner)]

    async def body(self, request: Request, caller: Caller) -> dict[str, Any]:
        """What is asked of a model. Raises NoSuchModel for one that is not there for this caller."""
        body = await run_in_threadpool(parse_object, await read_body(request))
        model = Fields(body).required_text("model")
        if not await run_in_threadpool(self.may_use, model, caller.owner):
            raise NoSuchModel(param="model", model=model[:200])
        return body

    async def models(self, request: Request) -> Response:
        names = await run_in_threadpool(self.usable, self.callers.caller(request))
        wanted = request.path_params.get("name", "").strip("/")
        if not wanted:
            return JSONResponse(model_list(names, self.started))
        found = next((name for name in names if name.strip("/") == wanted), None)  # a folder's name begins with one
        if found is None:
            raise NoSuchModel(param="model", model=wanted[:200])
        return JSONResponse(model_object(found, self.started))

    async def description(self, _: Request) -> Response:
        return JSONResponse(openapi(needs_key=self.callers.asks_for_key, lenient=self.lenient))

    async def chat_completions(self, request: Request) -> Response:
        caller = self.callers.caller(request)
        body = await self.body(request, caller)
        asked = await run_in_threadpool(read_chat_request, body, lenient=self.lenient)
        jobs = [chat_job(asked, choice, caller.visitor) for choice in range(asked.options.choices)]
        return await self.answer(request, caller, asked.model, jobs, ChatCompletion(asked.model), asked.options)

    async def responses(self, request: Request) -> Response:
        caller = self.callers.caller(request)
        body = await self.body(request, caller)
        asked = await run_in_threadpool(read_response_request, body, lenient=self.lenient)
        jobs = [chat_job(asked, 0, caller.visitor)]
        try:
            return await self.answer(request, caller, asked.model, jobs, ResponseBody(asked, body), asked.options)
        except StudioError as error:
            raise renamed(error) from error

    async def completions(self, request: Request) -> Response:
        caller = self.callers.caller(request)
        body = await self.body(request, caller)
        asked = await run_in_threadpool(read_completion_request, body, lenient=self.lenient)
        jobs, told = completion_jobs(asked, caller.visitor), TextCompletion(asked.model, len(asked.prompts))
        try:
            return await self.answer(request, caller, asked.model, jobs, told, asked.options)
        except PromptTooLong as error:
            error.about = "prompt"
            raise

    async def answer(
        self,
        request: Request,
        caller: Caller,
        model: str,
        jobs: list[Job],
        body: Completion,
        options: AnswerOptions,
    ) -> Response:
        """Run the jobs; their answer whole or as a stream."""
        answer = AnswerStream(self.registry.for_visitor(caller.owner), model, jobs)
        watch = asyncio.create_task(answer.leave_with(request))
        try:
            if options.stream:
                streamed = EventStream(answer, body, options, len(jobs), self.comment_seconds)
                return await streamed.response(watch, language_of(request))
            whole = await _whole(answer, body, len(jobs))
            watch.cancel()
            return whole
        except BaseException:
            answer.leave()
            watch.cancel()
            raise


def api_routes(api: Api, embeddings: EmbeddingRoutes) -> list[Route]:
    """Routes to mount beside the page's own; what is not known under /v1 gets an error in OpenAI's form."""
    known: dict[str, tuple[str, Handler]] = {
        "/v1/openapi.json": ("GET", api.description),
        "/v1/models": ("GET", api.models),
        "/v1/models/{name:path}": ("GET", api.models),
        "/v1/chat/completions": ("POST", api.chat_completions),
        "/v1/responses": ("POST", api.responses),
        "/v1/completions": ("POST", api.completions),
        "/v1/embeddings": ("POST", embeddings.embeddings),
        "/v1/rerank": ("POST", embeddings.rerank),
    }
    routes = []
    for path, (method, handler) in known.items():
        for written in (path,) if path.endswith("path}") else (path, f"{path}/"):
            routes += [_route(written, handler, method), _route(written, _other_method(method))]
    unknown = _unknown_among(known)
    return [*routes, *(_route(path, unknown) for path in ("/v1", "/v1/{path:path}"))]


def _route(path: str, handler: Handler, method: str = "") -> Route:
    """Without a method: every method there is. A line's end in a path is a character like any other."""
    route = Route(path, _guarded(handler), methods=[method or "GET"])
    if not method:
        route.methods = None  # Starlette's word for any, which it does not take for functions
    route.path_regex = re.compile(route.path_regex.pattern, re.DOTALL)
    return route


def _other_method(allowed: str) -> Handler:
    async def refuse(request: Request) -> Response:
        raise WrongMethod(method=request.method, path=request.url.path[:200], allowed=allowed)

    return refuse


def _unknown_among(known: Mapping[str, tuple[str, Handler]]) -> Handler:
    told = {path.replace(":path", ""): method for path, (method, _) in known.items()}
    there = {method: ", ".join(path for path, own in told.items() if own == method) for method in ("GET", "POST")}

    async def refuse(request: Request) -> Response:
        path = request.url.path[:200]
        raise NoSuchRoute(method=request.method, path=path, known_get=there["GET"], known_post=there["POST"])

    return refuse


def language_of(request: Request) -> Language:
    """Programs seldom say; English then."""
    return preferred_language(request.headers.get("accept-language", ""), "en")


def _guarded(handler: Handler) -> Handler:
    async def guard(request: Request) -> Response:
        try:
            return await handler(request)
        except (ClientGone, ClientDisconnect):
            return Response(status_code=CLIENT_CLOSED)
        except Exception as error:
            return answer_error(error, language_of(request))

    return guard


async def _whole(answer: AnswerStream, body: Completion, choices: int) -> Response:
    told = [Choice() for _ in range(choices)]
    async for event in answer.events():
        told[event.choice].add(event)
    return JSONResponse(body.whole(told), headers=NOT_KEPT)
