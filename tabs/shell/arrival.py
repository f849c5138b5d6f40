"""Run all handlers that wait for a page's arrival as one event: a page loads with one request, not with twenty."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import gradio as gr

from tabs.shell.border import dialog
from tabs.shell.generators import View
from tabs.shell.page import Arrival, Page, Visitor


def wire_arrivals(page: Page) -> None:
    """Last, when every tab has said what waits for the visitor: `Page.on_arrival`."""

    def arrive(visitor: Visitor, *values: Any) -> View:
        rest, view = iter(values), View()
        for arrival in page.arrivals:
            own = list(islice(rest, len(arrival.inputs)))
            for component, update in _answer(arrival, visitor, own).items():
                view[component] = _merged(view[component], update) if component in view else update
        return view

    inputs = [component for arrival in page.arrivals for component in arrival.inputs]
    outputs = dict.fromkeys(component for arrival in page.arrivals for component in arrival.outputs)
    arrived = page.on(page.remembered.change, arrive, inputs, list(outputs))
    awaited = [arrived, *page.last_steps]
    for place, step in enumerate(awaited):
        told = f"() => {{ window.studio?.arrived({place}, {len(awaited)}); }}"
        for end in (step.success, step.failure):  # `then` is not called after an error
            end(None, js=told, api_visibility="private")


def _answer(arrival: Arrival, visitor: Visitor, values: Sequence[Any]) -> View:
    """What fails is said; the rest of the page is drawn all the same."""
    try:
        with dialog(visitor.language):
            result = arrival.handler(visitor, *values)
            if isinstance(result, dict) and "__type__" not in result:  # by component, and no update of gradio's
                return result
            return dict(zip(arrival.outputs, [result] if len(arrival.outputs) == 1 else result, strict=True))
    except gr.Error as error:
        gr.Warning(error.message, title=error.title)
        return {}


def _merged(before: Any, after: Any) -> Any:
    """Two updates of one component, such as its choices and its value."""
    return _update_of(before) | _update_of(after)


def _update_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) and "__type__" in value else gr.update(value=value)
