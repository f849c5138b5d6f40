"""Gradio Blocks whose page is drawn in the language of its request, so that it need not be turned to it afterwards."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from app.errors import Language
from app.texts import LANGUAGES
from tabs.shell.checked_blocks import CheckedBlocks

_ASKED: ContextVar[Language | None] = ContextVar("asked", default=None)


@contextmanager
def asked_language(language: Language) -> Iterator[None]:
    """The language of the page that is asked for within."""
    token = _ASKED.set(language)
    try:
        yield
    finally:
        _ASKED.reset(token)


class TranslatedBlocks(CheckedBlocks):
    """Gradio sets `config`, what a page is drawn from, when it launches; every request of a page reads it."""

    def __init__(self, **options: Any) -> None:
        self._turn: Callable[[Language], None] | None = None
        self._configs: dict[Language | None, Any] = {}
        super().__init__(**options)

    def translate(self, turn: Callable[[Language], None], default: Language) -> None:
        """From the next launch on; `turn` gives every component its texts, `default` what they are built with."""
        self._turn, self._default = turn, default

    @property  # type: ignore[override]
    def config(self) -> Any:
        """In the language that was asked for, else as it was built."""
        return self._configs.get(_ASKED.get(), self._configs[None])

    @config.setter
    def config(self, built: Any) -> None:
        self._configs = {None: built}
        if self._turn is None:
            return
        for language in LANGUAGES:
            self._turn(language)
            self._configs[language] = self.get_config_file()
        self._turn(self._default)
