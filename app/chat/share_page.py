"""HTML page of a shared conversation: read-only, without scripts, what was written rendered as safe Markdown."""

import re
from collections.abc import Mapping
from functools import cache
from html import escape
from secrets import token_urlsafe
from typing import Any

from markdown_it import MarkdownIt

from app.chat.conversations import BASE64
from app.chat.storage import Shared
from app.errors import Language
from app.paths import ASSETS
from app.texts import sentence

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
    "X-Frame-Options": "DENY",
}
FIELD = re.compile(r"\{\{(\w+)\}\}")


def share_page(shared: Shared, language: Language) -> str:
    """The conversation, question and answer by turns."""
    return _page(shared.title, "".join(_turn(turn, language) for turn in shared.turns), language)


def missing_page(language: Language) -> str:
    """What stands in place of a conversation that is not shared, or not any more."""
    return _page(sentence(language, "app.title"), f"<p>{_told(language, 'not_shared')}</p>", language)


def _turn(turn: Mapping[str, Any], language: Language) -> str:
    asked = turn["role"] == "user"
    name = _told(language, "asked" if asked else "answered")
    pictures = "".join(
        f'<img alt="" src="data:image/jpeg;base64,{one}">' for one in turn["pictures"] if BASE64.fullmatch(one)
    )
    words = f'<div class="typed">{escape(turn["content"])}</div>' if asked else _markdown().render(turn["content"])
    return f'<section class="{"asked" if asked else "answered"}"><h2>{name}</h2>{pictures}{words}</section>'


@cache
def _markdown() -> MarkdownIt:
    """Without HTML and pictures from elsewhere, so that nothing is asked of other servers."""
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")


def _told(language: Language, key: str) -> str:
    return escape(sentence(language, f"chat.shared.{key}"))


def _page(title: str, body: str, language: Language) -> str:
    nonce = token_urlsafe(12)
    values = {
        "language": "zh-CN" if language == "zh" else "en",
        "title": escape(title),
        "about": _told(language, "about"),
        "nonce": nonce,
        "policy": f"default-src 'none'; style-src 'nonce-{nonce}'; img-src data:; base-uri 'none'; form-action 'none'",
        "body": body,
    }
    page = (ASSETS / "shared.html").read_text(encoding="utf-8")
    return FIELD.sub(lambda field: values[field[1]], page)
