"""Titles and file names made from text that a visitor wrote."""

import re

UNSAFE = re.compile(r'[\\/:*?"<>|\x00-\x1f]+')
TITLE_LENGTH = 40


def first_words(text: str) -> str:
    """The beginning of a text as a title, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= TITLE_LENGTH else f"{line[: TITLE_LENGTH - 1]}…"


def file_name(title: str, suffix: str, otherwise: str) -> str:
    """A name that every system accepts; `otherwise` where nothing of the title is left."""
    return f"{UNSAFE.sub(' ', title).strip(' .…') or otherwise}.{suffix}"
