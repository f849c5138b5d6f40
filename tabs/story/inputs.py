"""Convert the inputs of the story page to a request and to a stored draft."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from app.story.bible import bible_of
from app.story.draft import Draft
from app.story.outline import parse_outline
from app.story.request import StoryRequest, language_of, story_request
from tabs.story.widgets import INPUTS


def request_of(values: Sequence[Any], text: str = "") -> StoryRequest:
    """Inputs, bible and outline as the page has them; a text already there decides the language where it is open."""
    inputs = dict(zip(INPUTS, values, strict=False))
    if inputs["language"] == "auto" and text:
        inputs["language"] = language_of(text) or "auto"
    *bible, outline = values[len(INPUTS) :]
    return story_request(**inputs, bible=bible_of(*map(_text, bible)), outline=parse_outline(_text(outline)))


def with_inputs(draft: Draft, values: Sequence[Any]) -> Draft:
    *bible, outline = values[len(INPUTS) :]
    inputs = dict(zip(INPUTS, values, strict=False))
    return replace(draft, inputs=inputs, bible=bible_of(*map(_text, bible)), outline=_text(outline))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
