"""Terminal output: sentences in the terminal's language, and a progress bar while a model loads."""

import locale
import os
import sys
import threading
from typing import TextIO

from tqdm import tqdm

from app.errors import Language, StudioError
from app.models.interface import Registry
from app.texts import sentence

POLL_SECONDS = 0.25


def terminal_language() -> Language:
    """Chinese where the terminal's locale is, else English."""
    name = os.environ.get("LC_ALL") or os.environ.get("LANG") or locale.getlocale()[0] or ""
    return "zh" if name.startswith("zh") else "en"


def say(what: str | StudioError, out: TextIO | None = None, **values: object) -> None:
    """Print a sentence of the section `terminal` or an error's text."""
    language = terminal_language()
    is_error = isinstance(what, StudioError)
    text = what.text(language) if isinstance(what, StudioError) else sentence(language, what, **values)
    print(text, file=out or (sys.stderr if is_error else sys.stdout), flush=True)


def show_loading(registry: Registry, name: str) -> threading.Thread:
    """Draw a bar for `name` in the background, until it is ready or has failed."""
    thread = threading.Thread(target=_draw_bar, args=(registry, name), daemon=True)
    thread.start()
    return thread


def _draw_bar(registry: Registry, name: str) -> None:
    tick = threading.Event()
    with tqdm(total=100, bar_format="{desc}: {percentage:3.0f}% |{bar:30}| {elapsed}") as bar:
        ended = False
        while not ended:
            entry = next((e for e in registry.ledger().models if e.name == name), None)
            if entry is not None:
                ended = entry.state in ("ready", "failed")
                bar.n = 100 if entry.state == "ready" else round(100 * (entry.progress or 0))
                bar.set_description_str(f"{entry.name} {entry.state}")
            tick.wait(POLL_SECONDS)
