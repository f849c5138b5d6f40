"""Command `python -m app download NAME [FILE]`: fetch a model, or one file of a repository, and print its path."""

from pathlib import Path
from typing import TextIO

from app.models.catalog import hub, known_models, sources


def download(name: str, file: str | None, cache: Path, out: TextIO) -> Path:
    """Fetch and return the path. `out` gets one line of progress, written over itself, and then the path."""
    card = known_models.find(name)
    line = _Line(out)
    path = hub.fetch_files(card.location, [file], line.show) / file if file else sources.fetch(card, cache, line.show)
    line.end()
    out.write(f"{path}\n")
    return path


class _Line:
    """A progress line, written anew only when its text changes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._text = ""

    def show(self, fraction: float, detail: str) -> None:
        text = f"{100 * fraction:3.0f}% {detail}"
        if text != self._text:
            # Blanks cover what a longer text left behind.
            self._out.write(f"\r{text.ljust(len(self._text))}")
            self._out.flush()
            self._text = text

    def end(self) -> None:
        if self._text:
            self._out.write("\n")
