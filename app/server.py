"""The page and the plain HTTP routes on one port, until a signal ends them."""

import logging
import signal
import threading
from pathlib import Path

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.api.mounting import mount
from app.errors import SettingsError
from app.services import Services
from app.terminal import say, show_loading
from app.ui import appearance

log = logging.getLogger(__name__)
THREADS = 256  # a streaming answer holds one
LARGEST_UPLOAD = "64mb"


def serve(blocks: gr.Blocks, services: Services) -> None:
    """Launch, start loading the first model, and wait for Ctrl-C or SIGTERM. Raises SettingsError for a taken port."""
    settings, api = services.settings, mount(services)
    blocks.queue(default_concurrency_limit=None)
    try:
        _, local, public = blocks.launch(
            server_name=settings.host,
            server_port=settings.port or None,
            share=settings.share,
            auth=read_logins(settings.auth) or None,
            max_threads=THREADS,
            max_file_size=LARGEST_UPLOAD,
            app_kwargs={"routes": [*routes(services), *api.routes], "lifespan": api.lifespan},
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
            **appearance(),
        )
    except OSError as error:
        raise SettingsError(key="port", value=settings.port, allowed=str(error)) from error
    say("start.ready", address=local.rstrip("/"))
    if public:
        say("start.public", address=public)
    services.registry.load(services.registry.default_name)
    show_loading(services.registry, services.registry.default_name)
    _wait_for_signal()
    say("start.ending")
    blocks.close(verbose=False)
    services.close()


def routes(services: Services) -> list[Route]:
    """Routes beside the page's own."""

    def healthz(_: Request) -> Response:
        ledger = services.registry.ledger()
        loaded = [entry.name for entry in ledger.models if entry.state == "ready"]
        return JSONResponse({"status": "ok", "models": loaded})

    return [Route("/healthz", healthz)]


def read_logins(auth: str) -> list[tuple[str, str]]:
    """`name:password`, or a file with one such line each. Raises SettingsError."""
    if not auth:
        return []
    path = Path(auth)
    text = path.read_text(encoding="utf-8") if path.is_file() else auth
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    pairs = [line.partition(":") for line in lines]
    if any(not name or not password for name, _, password in pairs):
        raise SettingsError(key="auth", value="…", allowed="name:password")
    return [(name, password) for name, _, password in pairs]


def _wait_for_signal() -> None:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
