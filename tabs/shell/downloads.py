"""Files made on the server and saved by the browser itself: no copy stays where another could fetch it."""

import base64
from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.events import Dependency

from tabs.shell.page import Components, Handler, Page, Visitor


def save_bytes(page: Page, event: Callable[..., Dependency], handler: Handler, inputs: Components = ()) -> None:
    """On `event` save the (file name, bytes) that `handler` returns."""
    parcel = gr.JSON(visible=False)

    def pack(visitor: Visitor, *values: Any) -> list[str]:
        name, data = handler(visitor, *values)
        return [name, base64.b64encode(data).decode("ascii")]

    made = page.on(event, pack, inputs, [parcel])
    made.success(None, [parcel], None, js=SAVE, api_visibility="private")


SAVE = """(parcel) => {
  const bytes = Uint8Array.from(atob(parcel[1]), (letter) => letter.charCodeAt(0));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], {type: "application/octet-stream"}));
  link.download = parcel[0];
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}"""
