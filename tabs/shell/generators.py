"""Generator handlers in Gradio: the value that one returns is shown together with the end of its event.

After the last value that a generator yields, gradio asks it for another before it tells the browser that the event is
over. Until then the browser drops every further event of the same trigger ("once"): a question sent in that moment
would be lost without a word, although the page already looks free.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import gradio as gr

View = dict[Any, Any]  # component -> value or update
Views = Generator[View, None, View | None]  # the last is returned: with it the page is free again


@dataclass(frozen=True)
class Returned:
    """Yielded last, after everything of the handler is over: what it returned."""

    value: Any


class GeneratorBlocks(gr.Blocks):
    """Blocks in which the end of an event carries what its generator has `Returned`."""

    async def call_function(self, *arguments: Any, **options: Any) -> Any:
        result = await super().call_function(*arguments, **options)
        if isinstance(result["prediction"], Returned):
            result |= {"prediction": result["prediction"].value, "is_generating": False, "iterator": None}
        return result

    def handle_streaming_diffs(self, block_fn: Any, data: list[Any], *arguments: Any, **options: Any) -> list[Any]:
        """At the end gradio sends the values before again; where there are others, those are sent.

        Of an update no differences are sent. The browser writes them into the update before, which may still wait to be
        drawn: a button that appears with the first value would lose that to a second one that says nothing of it.
        """
        whole = list(data)
        sent = super().handle_streaming_diffs(block_fn, data, *arguments, **options)
        if options["final"] and any(value is not None for value in whole):
            return whole
        return [_whole_update(value, told) for value, told in zip(whole, sent, strict=True)]


def _whole_update(value: Any, told: Any) -> Any:
    """What is `told` of a value: itself at first, then its differences, none where nothing has changed."""
    is_update = isinstance(value, dict) and "__type__" in value
    return [("replace", [], value)] if is_update and told and told is not value else told
