"""Confirmation dialog before destructive buttons: `gr.Button(elem_classes=ASKS_FIRST)` is clicked only after a yes."""

from html import escape

import gradio as gr

from app.errors import Language
from app.texts import sentence
from tabs.shell.page import Page

NAMES = ("send", "stop", "undo", "deleted", "confirm_info", "confirm_undo", "cancel", "other_tabs")
ASKS_FIRST = "asks-first"  # studio.js holds the click of such a button back until the dialog is answered


def draw_confirmation(page: Page) -> None:
    """The one dialog of the page, in the middle of the window; its title is the text of the button clicked."""
    page.bind(gr.HTML(elem_id="confirmation", js_on_load=None), value=_dialog)


def _dialog(language: Language) -> str:
    cancel = escape(sentence(language, "app.cancel"))
    names = "".join(f' data-{key}="{escape(sentence(language, f"app.{key}"))}"' for key in NAMES)
    return (
        f"<i hidden id='button-names'{names}></i>"  # what studio.js says by itself
        '<dialog id="confirm" aria-labelledby="confirm-title" aria-describedby="confirm-info">'
        f'<h2 id="confirm-title"></h2><p id="confirm-info"></p>'
        f'<div><button type="button" data-answer="no">{cancel}</button>'
        '<button type="button" data-answer="yes" id="confirm-yes"></button></div></dialog>'
    )
