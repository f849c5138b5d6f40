"""HTTP server: launch the Gradio page and the plain routes on one port, shut down on SIGINT or SIGTERM."""

import logging
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import gradio as gr
from starlette.middleware import Middleware
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from app.access.accounts import read_accounts
from app.access.oauth import SignIn, no_password, require_client
from app.access.upload_limits import gate
from app.api.mounting import mount
from app.chat.history_routes import history_routes
from app.errors import SettingsError
from app.finetune.download_routes import download_routes
from app.knowledge.answer.document_links import document_routes
from app.knowledge.ingest.converting import MAX_FILE_BYTES
from app.models.backends.zero_gpu import is_lent
from app.services import Services
from app.settings import Settings
from app.terminal import say, show_loading
from app.web.asset_cache import asset_cache
from app.web.cross_site import guard
from app.web.first_page import first_page
from app.web.gradio_guard import guard_gradio
from app.web.gradio_sessions import SessionStates
from app.web.metrics import Metrics, answer_metrics, log_answer
from app.web.proxy_headers import trust_proxies
from app.web.ui import appearance, forced_language

log = logging.getLogger(__name__)
THREADS = 256  # a streaming answer holds one
LAST_ANSWERS_S = 20.0  # how long answers under way may still take when the server is told to end
# Event streams are among what it leaves alone; gradio compresses by itself only files that are named as text.
COMPRESSED = Middleware(
    GZipMiddleware,
    minimum_size=1000,
    compresslevel=5,
    exclude_content_types=(*DEFAULT_EXCLUDED_CONTENT_TYPES, "application/octet-stream", "application/pdf"),
)
DELIVERY_S = 1.0  # how long the last words of an answer may take to the browser


def launch(blocks: gr.Blocks, services: Services) -> tuple[str, str | None]:
    """Serve in the background; the address here and the public one, if any. Raises SettingsError for a taken port."""
    settings, api = services.settings, mount(services)
    entrance = _entrance(settings)
    blocks.queue(default_concurrency_limit=None)
    os.environ["FORWARDED_ALLOW_IPS"] = ""  # uvicorn's own reading of these headers; ours knows the settings
    try:
        _, local, public = blocks.launch(
            server_name=settings.host,
            server_port=settings.port or None,
            share=settings.share,
            auth=entrance.check,  # type: ignore[arg-type]  # gradio awaits it
            max_threads=THREADS,
            max_file_size=MAX_FILE_BYTES,
            _frontend=False,  # it would ask for the page and give up after three seconds, which a busy machine needs
            app_kwargs={
                "routes": [*routes(services), *api.routes, *entrance.routes],
                "middleware": [
                    asset_cache(),
                    COMPRESSED,  # before the others, so that they see bodies as they are
                    first_page(forced_language(settings)),
                    trust_proxies(settings.trusted_proxies),
                    *guard(settings),
                    *entrance.middleware,
                    guard_gradio(login_of, settings),
                    gate(services.upload_mib_per_hour, login_of),
                ],
                "lifespan": api.lifespan,
            },
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
            **appearance(),
        )
    except OSError as error:
        raise SettingsError(key="port", value=settings.port, allowed=str(error)) from error
    SessionStates().install(blocks)
    return local.rstrip("/"), public


def serve(blocks: gr.Blocks, services: Services) -> None:
    """Launch, start loading the first model, and wait for Ctrl-C or SIGTERM. Raises SettingsError for a taken port."""
    if is_lent():  # on this thread, before gradio starts: `spaces` packs then what goes to the GPU
        with services.registry.lease(services.registry.default_name):
            pass
    local, public = launch(blocks, services)
    say("start.ready", address=local)
    if public:
        say("start.public", address=public)
    services.registry.load(services.registry.default_name)
    show_loading(services.registry, services.registry.default_name)
    _wait_for_signal()
    say("start.ending")
    busy = bool(services.registry.meter.running())
    cut = services.registry.meter.end(LAST_ANSWERS_S)
    log.info("the server ends; %d answers were cut short", cut)
    time.sleep(DELIVERY_S if busy else 0)
    blocks.close(verbose=False)
    services.close()


@dataclass(frozen=True)
class Entrance:
    """How people come in."""

    check: Callable[[str, str], Awaitable[bool]] | None = None
    routes: Sequence[BaseRoute] = ()
    middleware: Sequence[Middleware] = ()


def _entrance(settings: Settings) -> Entrance:
    if settings.signs_in:
        require_client(settings)
        sign_in = SignIn(settings, login_of)
        return Entrance(no_password, sign_in.routes(), [sign_in.middleware()])
    accounts = read_accounts(settings.auth)
    return Entrance(accounts.check if accounts else None)


def routes(services: Services) -> list[BaseRoute]:
    """Routes beside the page's own."""

    def healthz(_: Request) -> Response:
        ledger = services.registry.ledger()
        loaded = [entry.name for entry in ledger.models if entry.state == "ready"]
        return JSONResponse({"status": "ok", "models": loaded})

    meter, settings = services.registry.meter, services.settings
    metrics = Metrics(services.registry, meter)
    meter.observers.append(log_answer)
    told = partial(answer_metrics, metrics, settings.metrics_key, not settings.is_private)
    beside: list[BaseRoute] = [Route("/healthz", healthz), Route("/metrics", told)]
    beside += download_routes(services.finetune.links, login_of)
    if services.knowledge is not None:
        beside += document_routes(services.knowledge, login_of)
    if services.history is not None:
        beside += history_routes(services.history, login_of)
    return beside


def login_of(request: Request) -> str | None:
    """The login of a request, by the cookie that gradio set."""
    app = request.app
    for kind in ("access-token", "access-token-unsecure"):
        token = request.cookies.get(f"{kind}-{app.cookie_id}")
        if token in app.tokens:
            return str(app.tokens[token])
    return None


def _wait_for_signal() -> None:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
