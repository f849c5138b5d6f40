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
        """At the end gradio sends the values before again; where there are others, those are sent."""
        whole = list(data)
        sent = super().handle_streaming_diffs(block_fn, data, *arguments, **options)
        return whole if options["final"] and any(value is not None for value in whole) else sent
