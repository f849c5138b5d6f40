"""Base of all tabs: translated components, event handlers with one error border, the visitor of a request.

A tab draws its components in the open Blocks and names their texts: `page.bind(gr.Button(), value="chat.send")`.
`page.on(button.click, partial(answer, service), [box], [chatbot])` wires an event. The handler's first argument
(after those of the partial) is the `Visitor`. A generator must yield now and then while it waits: only between two
values can it be cancelled. What shows that the page is free again it returns (see `tabs.shell.generators`).
`page.api(handler, "chat")` publishes an endpoint, its parameters and result taken from the handler's annotations.
"""

import base64
import inspect
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import gradio as gr
from gradio.blocks import Block
from gradio.events import Dependency, api

from app.access.identity import BROWSER_SECRET_FORM, Guest, Identifier, Identity, Login
from app.access.session_limits import SessionLimits
from app.endpoint_inputs import checked_inputs, without_surrogates
from app.errors import Language
from app.texts import LANGUAGES, load_texts, preferred_language, sentence
from tabs.shell.border import Handler, describe, dialog, hints_of
from tabs.shell.generators import Returned
from tabs.shell.upload_cleanup import SessionUploads

# The browser receives this with the page, so it guards nothing; fixed, so that what is stored outlives a restart.
BROWSER_SECRET = "puyu-studio-local"
PROGRAM_LANGUAGE: Language = "en"  # of endpoints: programs seldom say

# What is chosen while an earlier choice is on its way must not be lost. gradio's "always_last" sends the event data of
# the first, so it is not for events that carry data.
CHOOSING = {"select": "multiple", "input": "always_last", "release": "always_last", "upload": "always_last"}

# All texts of a component that follow the language: property -> key, or a function of the language.
TextSource = str | Callable[[Language], object]
Components = Sequence[Block]
Drawn = TypeVar("Drawn", bound=Block)


@dataclass(frozen=True)
class Visitor:
    """Who asks, and by which page. `name` is the identity: what is kept for the visitor is kept under it."""

    language: Language
    name: Identity
    session: str

    @property
    def login(self) -> bool:
        """Whether it is a person who has logged in."""
        return isinstance(self.name, Login)

    def text(self, key: str, **values: object) -> str:
        """The sentence `key` in this visitor's language."""
        return sentence(self.language, key, **values)


@dataclass(frozen=True)
class Remembered:
    """What the page learnt from the visitor's browser at load."""

    language: Language


@dataclass(frozen=True)
class Arrival:
    """What waits until a page knows its visitor."""

    handler: Handler
    inputs: Sequence[Block]
    outputs: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """The open Blocks as the tabs see it. `default_language` None means: as the browser asks."""

    blocks: gr.Blocks
    default_language: Language | None
    remembered: gr.State
    stored: gr.BrowserState
    sessions: SessionLimits = field(default_factory=SessionLimits)
    identifier: Identifier = field(default_factory=Identifier)
    uploads: SessionUploads = field(default_factory=SessionUploads)
    following: list[gr.Dropdown] = field(default_factory=list)  # model lists that turn to a new default
    model_lists: dict[Block, str] = field(default_factory=dict)  # each with the text for no model, or ""
    arrivals: list[Arrival] = field(default_factory=list)
    last_steps: list[Dependency] = field(default_factory=list)  # of what a tab draws at a load by events of its own
    _bound: list[tuple[Block, dict[str, TextSource]]] = field(default_factory=list)
    _drawn: list[tuple[Block, dict[str, TextSource]]] = field(default_factory=list)

    def bind(self, component: Drawn, *, live: bool = False, **texts: TextSource) -> Drawn:
        """Keep these properties of a component in the visitor's language: `label="chat.message"`.

        A text that is a TOML table becomes (label, value) choices, a list stays a list. What is `live` depends on more
        than the language, and is told anew when a page arrives.
        """
        if live:
            self.on_arrival(lambda visitor: gr.update(**_resolve(texts, visitor.language)), [], [component])
        self._bound.append((component, texts))
        _draw(component, texts, self.default_language or "zh")
        return component

    def at_first(self, component: Drawn, **texts: TextSource) -> Drawn:
        """Draw it so in the visitor's language; what it shows later, events tell."""
        self._drawn.append((component, texts))
        _draw(component, texts, self.default_language or "zh")
        return component

    def draw_in(self, language: Language) -> None:
        """Give every component its texts: before a page is drawn, since it is for all pages."""
        for component, texts in (*self._bound, *self._drawn):
            _draw(component, texts, language)

    def tab(self, key: str) -> gr.Tab:
        """A tab with a translated name; its id is the key's section."""
        section = key.split(".")[0]
        return self.bind(gr.Tab(id=section, elem_id=f"tab-{section}"), label=key)

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
        settings.setdefault("trigger_mode", CHOOSING.get(getattr(event, "event_name", "")))
        known = [self.remembered, self.stored]
        return event(self._border(handler, holds=holds), [*known, *inputs], list(outputs), **settings)

    def is_open(self, session: str) -> bool:
        """Whether a browser has the session's page open; False where the server does not watch its pages."""
        watched = getattr(self.blocks.state_holder, "is_open", None)  # of SessionStates, once launched
        return watched is not None and bool(watched(session))

    def on_arrival(self, handler: Handler, inputs: Sequence[Block] = (), outputs: Sequence[Block] = ()) -> None:
        """Call it once the browser has said who the visitor is, and again at each change of language; see `arrival`."""
        self.arrivals.append(Arrival(handler, inputs, outputs))

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

    def updates(self, language: Language) -> dict[Block, dict[str, Any]]:
        """One update per component in `bound_components`."""
        updates: dict[Block, dict[str, Any]] = {}
        for component, texts in self._bound:
            updates[component] = updates.get(component, {}) | gr.update(**_resolve(texts, language))
        return updates

    @property
    def bound_components(self) -> list[Block]:
        """Every component with translated texts."""
        return list(dict.fromkeys(component for component, _ in self._bound))

    def visitor(self, request: gr.Request, language: Language, page_secret: str | None = None) -> Visitor:
        """Who sent this request; the session is the client's choice and says nothing of that. Raises BadToken."""
        host, session = getattr(getattr(request, "client", None), "host", ""), request.session_hash or ""
        name = self.identifier.identify(
            request.username, _headers(request), page_secret=page_secret, session=session, host=host
        )
        if isinstance(name, Guest):
            self.sessions.addresses.note(name, host)
        return Visitor(language, name, session)

    def language_of(self, request: gr.Request, otherwise: Language = "zh") -> Language:
        """The language of a visitor who has not chosen one."""
        asked = _headers(request).get("accept-language", "")
        return self.default_language or preferred_language(asked, otherwise)

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

        parameters, hints = list(inspect.signature(handler).parameters.values())[1:], hints_of(handler)

        def checked(values: Sequence[Any]) -> Sequence[Any]:
            whole = [without_surrogates(value) for value in values]
            return checked_inputs(parameters, hints, whole) if endpoint else whole

        @contextmanager
        def entered(arguments: Sequence[Any]) -> Iterator[tuple[Visitor, Sequence[Any]]]:
            request, *values = arguments
            language, secret = self.language_of(request, PROGRAM_LANGUAGE), None
            if not endpoint:
                # what the session remembers may be another's: who the visitor is, is told anew with each event
                remembered, stored, *values = values
                kept, secret = recall(stored)
                language = remembered.language if remembered else kept or self.language_of(request)
            with dialog(language):
                visitor = self.visitor(request, language, secret)
                with self._held(visitor, endpoint, holds):
                    taken = checked(values)
                    try:
                        yield visitor, taken
                    except (TypeError, ValueError, LookupError, AttributeError):
                        checked_inputs(parameters, hints, taken)  # raises WrongKind: a page's own values need no check
                        raise

        def call(*arguments: Any) -> Any:
            with entered(arguments) as (visitor, values):
                return handler(visitor, *values)

        def stream(*arguments: Any) -> Generator[Any, None, None]:
            with entered(arguments) as (visitor, values):
                last = yield from handler(visitor, *values)
            if last is not None:
                yield Returned(last)

        border = stream if inspect.isgeneratorfunction(handler) else call
        describe(border, handler, endpoint)
        return border


def cancel(event: Callable[..., Dependency], running: Sequence[Dependency]) -> None:
    """End what runs when `event` comes.

    A listener's own `cancels` would only work once its handler has returned, and what runs could overwrite what it
    has shown.
    """
    event(None, None, None, cancels=list(running), api_visibility="private")


def recall(stored: object) -> tuple[Language | None, str | None]:
    """The language chosen and the visitor's secret, as the browser kept them; None for what is missing or odd."""
    kept = stored if isinstance(stored, dict) else {}
    language = next((known for known in LANGUAGES if known == kept.get("language")), None)
    key = kept.get("key")
    return language, key if isinstance(key, str) and BROWSER_SECRET_FORM.fullmatch(key) else None


def _headers(request: gr.Request) -> dict[str, str]:
    return dict(getattr(request, "headers", {}))


def _draw(component: Block, texts: dict[str, TextSource], language: Language) -> None:
    for name, value in _resolve(texts, language).items():
        setattr(component, name, value)


def _resolve(texts: dict[str, TextSource], language: Language) -> dict[str, Any]:
    resolved: dict[str, Any] = {}
    for name, source in texts.items():
        value = load_texts(language)[source] if isinstance(source, str) else source(language)
        resolved[name] = [(label, key) for key, label in value.items()] if isinstance(value, dict) else value
    return resolved
