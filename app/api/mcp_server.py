"""MCP server at /mcp: chat, agent, sandbox and documents as tools of the Model Context Protocol."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, TypeVar

import anyio
from mcp.server.fastmcp import FastMCP, Image
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.access.session_limits import SessionLimits
from app.agent.service import AgentService
from app.agent.steps import Kind, Step
from app.api.answering import AnswerStream, Job, Piece
from app.api.errors import answer_error
from app.api.mcp_calls import (
    CALLER,
    ModelName,
    Progress,
    ToolContext,
    caller_of,
    progress_of,
    reporting_errors,
    usable_model,
)
from app.api.mcp_documents import DocumentTools
from app.api.mcp_sessions import BoundedSessions
from app.api.routes import Api, language_of
from app.api.sampling_fields import MOST_TOKENS
from app.errors import StudioError
from app.knowledge.service import KnowledgeService
from app.models.interface import Message, Sampling

PATH = "/mcp"
IDLE_SECONDS = 600.0
MOST_SESSIONS = 2048  # of all owners together
SHOWN_PIECES = 40  # the end of the answer so far, as a client shows it beside its progress
AT_ONCE = 64  # tasks of the agent, each on a thread
Given = TypeVar("Given")
ABOUT = (
    "Open language models and people's documents on this server: chat with a model, let one solve a task by writing"
    " and running Python, search the documents, or get an answer from them with its sources."
)


class ToldStep(BaseModel):
    """One step; the picture of an `image` is among the content."""

    kind: Kind
    text: str


class ToldSteps(BaseModel):
    """What was done, in order; the answer is last."""

    steps: list[ToldStep]


StepsResult = Annotated[CallToolResult, ToldSteps]


class Tools:
    """The tools over the services. `interpreter` offers plain code execution, for servers that know who calls."""

    def __init__(
        self,
        api: Api,
        agent: AgentService,
        knowledge: KnowledgeService | None = None,
        *,
        sessions: SessionLimits,
        interpreter: bool,
        local: bool,
    ) -> None:
        self._api, self._agent, self._sessions = api, agent, sessions
        self._threads = anyio.CapacityLimiter(AT_ONCE)
        security = TransportSecuritySettings(
            enable_dns_rebinding_protection=local,  # a foreign page must not reach a server on this machine
            allowed_hosts=["127.0.0.1:*", "localhost:*", "[::1]:*"],
            allowed_origins=["http://127.0.0.1:*", "http://localhost:*", "http://[::1]:*"],
        )
        self._server = FastMCP(
            "Puyu Studio",
            instructions=ABOUT,
            log_level="WARNING",
            session_idle_timeout=IDLE_SECONDS,
            max_sessions=MOST_SESSIONS,
            transport_security=security,
            streamable_http_path=PATH,
        )
        self._server.tool()(reporting_errors(self.list_models))
        self._server.tool()(reporting_errors(self.chat))
        if agent.available:
            self._server.tool()(reporting_errors(self.solve_with_python))
        if agent.available and interpreter:
            self._server.tool()(reporting_errors(self.run_python))
        if knowledge is not None:
            documents = DocumentTools(api, knowledge, self._threads)
            for tool in (documents.list_collections, documents.search_documents, documents.ask_documents):
                self._server.tool()(reporting_errors(tool))

    def route(self) -> Route:
        """Where the tools are served; asks for a key as /v1 does."""
        inner = self._server.streamable_http_app().routes[0]
        assert isinstance(inner, Route)
        return Route(PATH, _Guarded(self._api, BoundedSessions(inner.app)))

    @asynccontextmanager
    async def lifespan(self, _: object) -> AsyncIterator[None]:
        """Sessions live while the server does."""
        async with self._server.session_manager.run():
            yield

    async def list_models(self, context: ToolContext) -> list[str]:
        """List the language models that can be asked on this server, the loaded ones first.

        A name with a plus, such as base+name, is a model that was tuned here.
        """
        return await anyio.to_thread.run_sync(self._api.usable, caller_of(context))

    async def chat(
        self,
        context: ToolContext,
        message: Annotated[str, Field(description="What to ask the model.", max_length=200_000)],
        system: Annotated[str, Field(description="A system prompt; may be empty.", max_length=50_000)] = "",
        model: ModelName = "",
        temperature: Annotated[float | None, Field(description="0: always the most likely word.", ge=0, le=2)] = None,
        max_new_tokens: Annotated[
            int | None, Field(description="Longest answer, in tokens.", ge=1, le=MOST_TOKENS)
        ] = None,
        seed: Annotated[int | None, Field(description="The same seed draws the same answer.", ge=0)] = None,
    ) -> str:
        """Ask a language model of this server one question and get its answer.

        It remembers nothing: put everything it needs into the message.
        """
        name, caller = await usable_model(self._api, context, model), caller_of(context)
        turns: list[Message] = [{"role": "system", "content": system}] if system else []
        turns.append({"role": "user", "content": message})
        chosen = {"temperature": temperature, "max_new_tokens": max_new_tokens, "seed": seed}
        known = {key: value for key, value in chosen.items() if value is not None}
        sampling = Sampling(**known, thinking=None)  # type: ignore[arg-type]
        job = Job(lambda model: model.stream(turns, sampling, visitor=caller.visitor))
        answer = AnswerStream(self._api.registry.for_visitor(caller.owner), name, [job])
        pieces: list[str] = []
        try:
            async with progress_of(context, self._api.comment_seconds) as progress:
                async for event in answer.events():
                    if isinstance(event, Piece):
                        pieces.append(event.text)
                        await progress.report(len(pieces), "".join(pieces[-SHOWN_PIECES:]))
            return "".join(pieces)
        finally:
            answer.leave()

    async def solve_with_python(
        self,
        context: ToolContext,
        task: Annotated[str, Field(description="What to find out or compute, in plain words.", max_length=50_000)],
        model: ModelName = "",
        max_steps: Annotated[int, Field(description="How often it may run code.", ge=1, le=20)] = 6,
    ) -> StepsResult:
        """Let a language model of this server solve a task: it writes Python, runs it in a sandbox, and answers.

        The steps are returned: its thoughts, code, outputs, charts, and at last the answer. numpy, sympy, pandas and
        matplotlib are there, no network, and no files of yours.
        """
        from app.agent.conversation import Bounds  # needs Lagent, which takes seconds to import

        name, visitor = await usable_model(self._api, context, model), caller_of(context).visitor

        def work(given: tuple[str, Progress]) -> list[Step]:
            session, progress = given
            steps = self._agent.run(session, task, name, Bounds(max_steps=max_steps), visitor=visitor)
            try:
                return _last(steps, lambda now: progress.report_from_thread(len(now), now[-1].kind))
            finally:
                self._agent.reset(session)

        with self._sessions.held(visitor) as session:
            try:
                async with progress_of(context, self._api.comment_seconds) as progress:
                    return _shown(await self._in_thread(work, (session, progress)))
            finally:
                self._agent.stop(session)

    async def run_python(
        self,
        context: ToolContext,
        code: Annotated[str, Field(description="Python code; print what you want to see.", max_length=200_000)],
    ) -> StepsResult:
        """Run Python code in a sandbox of its own and get what it printed and drew.

        Every call starts afresh: no variables or files are kept. numpy, sympy, pandas and matplotlib are there; there
        is no network, and time and memory are limited.
        """
        with self._sessions.held(caller_of(context).visitor):
            return _shown(await self._in_thread(_last, self._agent.interpret(code)))

    async def _in_thread(self, work: Callable[[Given], list[Step]], given: Given) -> list[Step]:
        """The steps of `work(given)`; a cancelled call does not wait for them."""
        return await anyio.to_thread.run_sync(work, given, abandon_on_cancel=True, limiter=self._threads)


class _Guarded:
    """Lets callers in as the API does, and tells the tools who they are."""

    def __init__(self, api: Api, sessions: BoundedSessions) -> None:
        self._api, self._sessions = api, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        try:
            caller = scope[CALLER] = self._api.callers.caller(request)
        except StudioError as error:
            await answer_error(error, language_of(request))(scope, receive, send)
            return
        await self._sessions.serve(caller.visitor, scope, receive, send)


def _last(running: Iterator[list[Step]], tell: Callable[[list[Step]], None] = lambda _: None) -> list[Step]:
    """The last value of a run; `tell` hears of each new step."""
    steps: list[Step] = []
    for now in running:
        if len(now) > len(steps):
            tell(now)
        steps = list(now)
    return steps


def _shown(steps: Sequence[Step]) -> CallToolResult:
    """Each step as text that names its kind, a chart as a picture; and the same as data."""
    told = [step for step in steps if step.kind != "loading"]
    content = [
        Image(data=step.image, format="png").to_image_content()
        if step.image
        else TextContent(type="text", text=f"[{step.kind}]\n{step.shown('en')}")
        for step in told
    ]
    plain = ToldSteps(steps=[ToldStep(kind=step.kind, text=step.shown("en")) for step in told])
    return CallToolResult(content=content, structuredContent=plain.model_dump())  # type: ignore[arg-type]
