"""The model list that several tabs show."""

from typing import Any

import gradio as gr

from app.models.interface import Registry
from tabs.page import Page, Visitor


def model_choice(page: Page, registry: Registry, label: str = "app.model", info: str = "", **look: Any) -> gr.Dropdown:
    """A list of models that is fresh whenever it is opened; any hub repository or folder can be typed as well."""
    texts = {"label": label, "info": info} if info else {"label": label}
    drawn = gr.Dropdown(registry.names(), value=registry.default_name, allow_custom_value=True, **look)
    choice = page.bind(drawn, **texts)

    def refresh(_visitor: Visitor) -> dict[str, Any]:
        return gr.update(choices=registry.names())

    page.on(choice.focus, refresh, [], [choice])
    page.on(page.blocks.load, refresh, [], [choice])
    return choice
