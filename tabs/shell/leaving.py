"""A page was closed: what the server still holds of its session goes, long before gradio's own hour is over."""

import threading
import time
from datetime import datetime

import gradio as gr

from app.access.lifetimes import CLOSED_PAGE_S, SETTLING_S
from tabs.shell.page import Page


def forget_who_leaves(page: Page, seconds: float = CLOSED_PAGE_S) -> None:
    """State and kept uploads of a session go `seconds` after its page was closed, unless it is used again by then."""

    def leave(request: gr.Request) -> None:
        session = request.session_hash or ""
        page.sessions.leave(session)
        later = threading.Timer(seconds, _forget, [page, session, time.time()])
        later.daemon = True
        later.start()

    page.blocks.unload(leave)


def _forget(page: Page, session: str, left: float) -> None:
    held = page.blocks.state_holder
    used: datetime | None = held.time_last_used.get(session)
    if used is not None and used.timestamp() > left + SETTLING_S:
        return  # the connection only broke off: the page is there again
    page.uploads.forget(session)
    held.delete_state(session)
    held.session_data.pop(session, None)
    held.time_last_used.pop(session, None)
