"""Titles and file names made from text that a visitor wrote; JSON files that are written whole."""

import json
import re
import secrets
from pathlib import Path
from typing import Any

UNSAFE = re.compile(r'[\\/:*?"<>|\x00-\x1f]+')
TITLE_LENGTH = 40


def first_words(text: str) -> str:
    """The beginning of a text as a title, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= TITLE_LENGTH else f"{line[: TITLE_LENGTH - 1]}…"


def file_name(title: str, suffix: str, otherwise: str) -> str:
    """A name that every system accepts; `otherwise` where nothing of the title is left."""
    return f"{UNSAFE.sub(' ', title).strip(' .…') or otherwise}.{suffix}"


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Replace a file whole, so that a reader or a crash never meets half of one. Raises OSError."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    partial.write_text(json.dumps(value, ensure_ascii=False, indent=indent), encoding="utf-8")
    partial.replace(path)
