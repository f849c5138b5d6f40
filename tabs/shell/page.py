"""What every tab stands on: texts in the visitor's language, events with one error border, who is asking.

A tab draws its components in the open Blocks and names their texts: `page.bind(gr.Button(), value="chat.send")`.
`page.on(button.click, partial(answer, service), [box], [chatbot])` wires an event. The handler's first argument
(after those of the partial) is the `Visitor`. A generator must yield now and then while it waits: only between two
values can it be cancelled. `page.api(handler, "chat")` publishes an endpoint, its parameters
and result taken from the handler's annotations.
"""

import base64
import inspect
import logging
import re
import typing
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from secrets import token_hex
from typing import Any, TypeVar

import gradio as gr
from gradio.blocks import Block
from gradio.events import Dependency, api

from app.access.session_limits import SessionLimits
from app.errors import Language, StudioError, Unexpected
from app.texts import LANGUAGES, load_texts, preferred_language, sentence
from tabs.shell.upload_cleanup import SessionUploads

log = logging.getLogger(__name__)

# The browser receives this with the page, so it guards nothing; fixed, so that what is stored outlives a restart.
BROWSER_SECRET = "puyu-studio-local"
VISITOR_KEY = re.compile(r"[0-9a-f]{32}")

# All texts of a component that follow the language: property -> key, or a function of the language.
TextSource = str | Callable[[Language], object]
Handler = Callable[..., Any]
Components = Sequence[Block]
Drawn = TypeVar("Drawn", bound=Block)


@dataclass(frozen=True)
class Visitor:
    """Who asks. `name` is the login name where `login`, else a key kept in the visitor's browser, else the session."""

    language: Language
    name: str
    session: str
    login: bool = False

    def text(self, key: str, **values: object) -> str:
        """The sentence `key` in this visitor's language."""
        return sentence(self.language, key, **values)


@dataclass(frozen=True)
class Remembered:
    """What the page learnt from the visitor's browser at load."""

    language: Language
    key: str


@dataclass(frozen=True)
class Page:
    """The open Blocks as the tabs see it. `default_language` None means: as the browser asks."""

    blocks: gr.Blocks
    default_language: Language | None
    remembered: gr.State
    stored: gr.BrowserState
    sessions: SessionLimits = field(default_factory=SessionLimits)
    uploads: SessionUploads = field(default_factory=SessionUploads)
    _bound: list[tuple[Block, dict[str, TextSource]]] = field(default_factory=list)

    def text(self, key: str) -> str:
        """The sentence `key` as first drawn, before the visitor's language is known."""
        return sentence(self.default_language or "zh", key)

    def bind(self, component: Drawn, **texts: TextSource) -> Drawn:
        """Keep these properties of a component in the visitor's language: `label="chat.message"`.

        A text that is a TOML table becomes (label, value) choices, a list stays a list.
        """
        self._bound.append((component, texts))
        for name, value in _resolve(texts, self.default_language or "zh").items():
            setattr(component, name, value)
        return component

    def tab(self, key: str) -> gr.Tab:
        """A tab with a translated name; its id is the key's section."""
        section = key.split(".")[0]
        return self.bind(gr.Tab(self.text(key), id=section, elem_id=f"tab-{section}"), label=key)

    def on(
        self,
        event: Callable[..., Dependency],
        handler: Handler,
        inputs: Components = (),
        outputs: Components = (),
        *,
        holds: bool = False,
        cancels: Sequence[Dependency] = (),
        **options: Any,
    ) -> Dependency:
        """Wire an event of the page; it is no endpoint. `options` go to gradio's event listener.

        With `holds` something of the visitor's stays on the server until the page is closed. What it `cancels` is
        ended first.
        """
        if cancels:
            cancel(event, cancels)
        settings: dict[str, Any] = {
            "api_visibility": "private",
            "show_progress": "hidden",
            # Hidden or not, the browser looks through the whole page for every component that ever had a progress.
            "show_progress_on": self.remembered,
            # The engine queues fairly by itself; gradio's line would let one visitor block the others.
            "concurrency_limit": None,
        } | options
        known = [self.remembered, self.stored]
        return event(self._border(handler, holds=holds), [*known, *inputs], list(outputs), **settings)

    def api(self, handler: Handler, name: str, *, holds: bool = False, **options: Any) -> None:
        """Publish an endpoint with the parameters, defaults and result type of `handler`.

        With `holds` it counts as one of the visitor's pages that hold something, while it runs.
        """
        guarded = self._border(handler, endpoint=True, holds=holds)
        api(guarded, api_name=name, **({"concurrency_limit": None} | options))

    def download(self, event: Callable[..., Dependency], handler: Handler, inputs: Components = ()) -> Dependency:
        """On `event` save the (file name, text or bytes) that `handler` returns, written by the browser itself.

        Nothing is left on the server, so nobody else can fetch it.
        """
        parcel = gr.JSON(visible=False)

        def pack(visitor: Visitor, *values: Any) -> list[str]:
            name, content = handler(visitor, *values)
            data = content.encode() if isinstance(content, str) else content
            return [name, base64.b64encode(data).decode("ascii")]

        made = self.on(event, pack, inputs, [parcel])
        return made.success(
            None, [parcel], None, js="(parcel) => window.studio.save(...parcel)", api_visibility="private"
        )

    def keep_upload(self, file: gr.File) -> None:
        """A file that waits for a button goes with its page, too."""

        def keep(visitor: Visitor, value: Any) -> None:
            self.uploads.keep(visitor.session, value)

        self.on(file.upload, keep, [file])

    def updates(self, language: Language) -> list[dict[str, Any]]:
        """One update per component in `bound_components`."""
        return [gr.update(**_resolve(texts, language)) for _, texts in self._bound]

    @property
    def bound_components(self) -> list[Block]:
        """Every component with translated texts, in the order of `updates`."""
        return [component for component, _ in self._bound]

    def visitor(self, request: gr.Request | None, remembered: Remembered | None) -> Visitor:
        """Who sent this request."""
        session = (request and request.session_hash) or "local"
        login = request.username if request else None
        language = remembered.language if remembered else self.language_of(request)
        name = login or (remembered.key if remembered else session)
        if not login and (client := getattr(request, "client", None)):
            self.sessions.addresses.note(name, client.host)
        return Visitor(language, name, session, bool(login))

    def language_of(self, request: gr.Request | None) -> Language:
        """The language of a visitor who has not chosen one."""
        if self.default_language:
            return self.default_language
        headers = dict(request.headers) if request else {}
        return preferred_language(headers.get("accept-language", ""), "zh")

    def _kept_by_browser(self, request: gr.Request | None, stored: object) -> Remembered | None:
        """For a session whose state is gone because its connection broke off for a while; None at a first visit."""
        if not stored:
            return None
        language, key = recall(stored)
        return Remembered(language or self.language_of(request), key)

    @contextmanager
    def _held(self, visitor: Visitor, endpoint: bool, holds: bool) -> Iterator[None]:
        if endpoint and holds:
            with self.sessions.held(visitor.name):
                yield
            return
        if holds:
            self.sessions.enter(visitor.name, visitor.session)
        yield

    def _border(self, handler: Handler, *, endpoint: bool = False, holds: bool = False) -> Handler:
        """Give the handler its Visitor, and turn whatever it raises into a dialog."""

        def enter(arguments: Sequence[Any]) -> tuple[Visitor, Sequence[Any]]:
            if endpoint:
                return self.visitor(arguments[0], None), arguments[1:]
            request, remembered, stored, *rest = arguments
            return self.visitor(request, remembered or self._kept_by_browser(request, stored)), rest

        def call(*arguments: Any) -> Any:
            visitor, values = enter(arguments)
            with dialog(visitor.language), self._held(visitor, endpoint, holds):
                return handler(visitor, *values)

        def stream(*arguments: Any) -> Generator[Any, None, None]:
            visitor, values = enter(arguments)
            with dialog(visitor.language), self._held(visitor, endpoint, holds):
                yield from handler(visitor, *values)

        border = stream if inspect.isgeneratorfunction(handler) else call
        _describe(border, handler, endpoint)
        return border


def cancel(event: Callable[..., Dependency], running: Sequence[Dependency]) -> None:
    """End what runs when `event` comes.

    A listener's own `cancels` would only work once its handler has returned, and what runs could overwrite what it
    has shown.
    """
    event(None, None, None, cancels=list(running), api_visibility="private")


@contextmanager
def dialog(language: Language) -> Iterator[None]:
    """The one border between errors and the page."""
    title = sentence(language, "app.error")
    try:
        yield
    except gr.Error:
        raise
    except StudioError as error:
        raise gr.Error(error.text(language), title=title, print_exception=False) from error
    except Exception as error:
        log.exception("a page handler failed")
        raise gr.Error(Unexpected().text(language), title=title, print_exception=False) from error


def recall(stored: object) -> tuple[Language | None, str]:
    """The language chosen before and the visitor's key, as the browser kept them; anything odd is made anew."""
    kept = stored if isinstance(stored, dict) else {}
    language = next((known for known in LANGUAGES if known == kept.get("language")), None)
    key = kept.get("key")
    return language, key if isinstance(key, str) and VISITOR_KEY.fullmatch(key) else token_hex(16)


def _resolve(texts: dict[str, TextSource], language: Language) -> dict[str, Any]:
    resolved: dict[str, Any] = {}
    for name, source in texts.items():
        value = load_texts(language)[source] if isinstance(source, str) else source(language)
        resolved[name] = [(label, key) for key, label in value.items()] if isinstance(value, dict) else value
    return resolved


def _describe(border: Handler, handler: Handler, endpoint: bool) -> None:
    """Tell gradio the handler's own parameters, so that event data, progress and API types are found."""
    inner = handler
    while isinstance(inner, partial):
        inner = inner.func
    hints = typing.get_type_hints(inner)
    signature = inspect.signature(handler)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    leading = {"request": gr.Request} | ({} if endpoint else {"remembered": Any, "kept_by_browser": Any})
    parameters = [inspect.Parameter(name, kind, annotation=hint) for name, hint in leading.items()]
    for parameter in list(signature.parameters.values())[1:]:
        parameters.append(parameter.replace(annotation=hints.get(parameter.name, Any)))
    returns = hints.get("return", Any)
    if typing.get_origin(returns) in (Iterator, Generator):
        returns = typing.get_args(returns)[0]
    signature = inspect.Signature(parameters, return_annotation=returns)
    annotations = {parameter.name: parameter.annotation for parameter in parameters}
    described: Any = border
    described.__name__ = inner.__name__
    described.__doc__ = inner.__doc__
    described.__signature__ = signature
    described.__annotations__ = annotations | {"return": returns}
