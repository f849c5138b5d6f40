"""Widgets of the comparison panel: two columns, each with its receipt."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.finetune.comparing import CHOICES
from app.models.interface import Registry
from tabs.shell.confirmation import ASKS_FIRST
from tabs.shell.conversation import conversation_chatbot
from tabs.shell.model_choice import model_choice
from tabs.shell.page import Page


@dataclass(frozen=True)
class ComparisonView:
    """Two columns and what is asked of both. `last` keeps the answers that a vote is about."""

    left: gr.Dropdown
    right: gr.Dropdown
    left_chat: gr.Chatbot
    right_chat: gr.Chatbot
    left_receipt: gr.HTML
    right_receipt: gr.HTML
    message: gr.Textbox
    send: gr.Button
    stop: gr.Button
    clear: gr.Button
    options: list[Any]
    votes: dict[str, gr.Button]
    export: gr.Button
    last: gr.State

    @property
    def view(self) -> list[Any]:
        """What an answer changes."""
        chats = [self.message, self.left_chat, self.right_chat]
        return [*chats, self.left_receipt, self.right_receipt, self.last, self.send, self.stop]


def draw_comparison(page: Page, registry: Registry) -> ComparisonView:
    columns = []
    with gr.Row(elem_classes="compare-columns"):
        for side in ("left", "right"):
            with gr.Column():
                model = model_choice(page, registry, f"compare.{side}", follows=False, elem_id=f"compare-{side}")
                chat = conversation_chatbot(f"compare-{side}-chat", height=320, latex_delimiters=[])
                page.bind(chat, placeholder="compare.no_answer")
                columns.append((model, chat, gr.HTML(elem_id=f"compare-{side}-receipt")))
    (left, left_chat, left_receipt), (right, right_chat, right_receipt) = columns
    with gr.Row(equal_height=True):
        message = page.bind(
            gr.Textbox(scale=8, show_label=False, elem_id="compare-message"), placeholder="compare.message"
        )
        send = page.bind(
            gr.Button(variant="primary", scale=1, min_width=90, elem_id="compare-send"), value="compare.send"
        )
        stop = page.bind(gr.Button(visible=False, scale=1, min_width=90), value="compare.stop_answers")
        clear = page.bind(
            gr.Button(scale=1, min_width=90, elem_id="compare-clear", elem_classes=ASKS_FIRST), value="compare.clear"
        )
    with gr.Row(elem_classes="compare-options"):
        options: list[Any] = [
            page.bind(gr.Textbox(scale=3), label="compare.system"),
            page.bind(gr.Slider(0, 2, 0, step=0.05, min_width=140), label="compare.temperature"),
            page.bind(gr.Slider(8, 2048, 256, step=8, min_width=140), label="compare.max_new_tokens"),
            page.bind(gr.Number(0, precision=0, min_width=90), label="compare.seed"),
        ]
    with gr.Row(elem_classes="compare-votes"):
        page.bind(gr.Markdown(), value="compare.better")
        votes: dict[str, gr.Button] = {
            key: page.bind(gr.Button(size="sm", min_width=80), value=f"compare.votes.{key}") for key in CHOICES
        }
        export = page.bind(gr.Button(size="sm", min_width=120), value="compare.export_votes")
    return ComparisonView(
        left=left,
        right=right,
        left_chat=left_chat,
        right_chat=right_chat,
        left_receipt=left_receipt,
        right_receipt=right_receipt,
        message=message,
        send=send,
        stop=stop,
        clear=clear,
        options=options,
        votes=votes,
        export=export,
        last=gr.State(),
    )
