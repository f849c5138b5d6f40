"""The model list that several tabs show."""

from typing import Any

import gradio as gr

from app.models.interface import Registry
from tabs.shell.page import Page, Visitor


def model_choice(page: Page, registry: Registry, label: str = "app.model", info: str = "", **look: Any) -> gr.Dropdown:
    """A list of models that is fresh whenever it is opened; any hub repository or folder can be typed as well."""
    texts = {"label": label, "info": info} if info else {"label": label}
    drawn = gr.Dropdown(registry.for_visitor("").names(), value=registry.default_name, allow_custom_value=True, **look)
    choice = page.bind(drawn, **texts)
    keep_fresh(page, registry, choice)
    return choice


def keep_fresh(page: Page, registry: Registry, choice: gr.Dropdown) -> None:
    """At the start and whenever it is opened, the list holds what is there for this visitor."""

    def refresh(visitor: Visitor) -> dict[str, Any]:
        return gr.update(choices=registry.for_visitor(visitor.name).names())

    page.on(choice.focus, refresh, [], [choice])
    # not at load: whose models these are is known once the browser has said who it is
    page.on(page.remembered.change, refresh, [], [choice])
