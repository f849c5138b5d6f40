"""How a conversation looks, on every page that has one."""

from typing import Any

import gradio as gr

LATEX: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
    {"left": "$", "right": "$", "display": False},
]


def talk(elem_id: str, **more: Any) -> gr.Chatbot:
    """A conversation that fills its column, with formulas, to be copied from."""
    return gr.Chatbot(
        elem_id=elem_id,
        show_label=False,
        container=False,
        height="100%",
        buttons=["copy"],
        latex_delimiters=LATEX,
        feedback_options=None,
        **more,
    )
