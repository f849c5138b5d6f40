"""Confirmation dialog before destructive buttons: `gr.Button(elem_classes=ASKS_FIRST)` is clicked only after a yes."""

from html import escape

import gradio as gr

from app.errors import Language
from app.texts import sentence
from tabs.shell.page import Page

ASKS_FIRST = "asks-first"  # studio.js holds the click of such a button back until the dialog is answered


def draw_confirmation(page: Page) -> None:
    """The one dialog of the page, in the middle of the window; its title is the text of the button clicked."""
    page.bind(gr.HTML(elem_id="confirmation", padding=False, js_on_load=None), value=_dialog)


def _dialog(language: Language) -> str:
    info, cancel = (escape(sentence(language, f"app.{key}")) for key in ("confirm_info", "cancel"))
    names = "".join(f' data-{key}="{escape(sentence(language, f"app.{key}"))}"' for key in ("send", "stop"))
    return (
        f"<i hidden id='button-names'{names}></i>"  # studio.js gives them to buttons that only carry a picture
        '<dialog id="confirm" aria-labelledby="confirm-title" aria-describedby="confirm-info">'
        f'<h2 id="confirm-title"></h2><p id="confirm-info">{info}</p>'
        f'<div><button type="button" data-answer="no">{cancel}</button>'
        '<button type="button" data-answer="yes" id="confirm-yes"></button></div></dialog>'
    )
