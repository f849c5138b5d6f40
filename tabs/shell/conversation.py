"""Shared chatbot and question box of all pages with a conversation."""

from html import escape
from typing import Any

import gradio as gr

LATEX: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
    {"left": "$", "right": "$", "display": False},
]
# As entities, so that neither Markdown nor KaTeX finds its marks in what a visitor typed.
PLAIN = str.maketrans({"\n": "&#10;", "\r": "", "$": "&#36;", "\\": "&#92;", "`": "&#96;"})


def conversation_chatbot(elem_id: str, **more: Any) -> gr.Chatbot:
    """A chatbot that fills its column, with LaTeX and a copy button."""
    look: dict[str, Any] = {"show_label": False, "container": False, "height": "100%", "latex_delimiters": LATEX}
    return gr.Chatbot(elem_id=elem_id, elem_classes="talk", buttons=["copy"], feedback_options=None, **(look | more))


def question_box(elem_id: str, **more: Any) -> gr.Textbox:
    """The text box under a conversation, its send button inside."""
    look = {"show_label": False, "container": False, "lines": 1, "max_lines": 8, "submit_btn": True} | more
    return gr.Textbox(elem_id=elem_id, elem_classes="question-box", **look)


def busy_box(text: str | None = "") -> dict[str, Any]:
    """Update of a question box whose question is being answered; None leaves its text alone."""
    box: dict[str, Any] = gr.update(submit_btn=False, stop_btn=True)
    return box if text is None else box | {"value": text}


def idle_box(text: str | None = None) -> dict[str, Any]:
    """Update of a question box that can be sent; None leaves its text alone."""
    box: dict[str, Any] = gr.update(submit_btn=True, stop_btn=False)
    return box if text is None else box | {"value": text}


def typed(text: str) -> str:
    """HTML that shows text exactly as it was typed: no Markdown, no formulas, no tags."""
    return f'<div class="typed">{escape(text).translate(PLAIN)}</div>' if text else ""
