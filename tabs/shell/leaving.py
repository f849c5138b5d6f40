"""Session cleanup: free a closed page's state on the server at once, not after gradio's hour."""

import time
from datetime import datetime

import gradio as gr

from app.access.later import later
from app.access.lifetimes import CLOSED_PAGE_S, SETTLING_S
from tabs.shell.page import Page


def forget_who_leaves(page: Page, seconds: float = CLOSED_PAGE_S) -> None:
    """State and kept uploads of a session go `seconds` after its page was closed, unless it is used again by then."""

    def leave(request: gr.Request) -> None:
        session, left = request.session_hash or "", time.time()
        page.sessions.leave(session)
        later.call(seconds, lambda: _forget(page, session, left))

    page.blocks.unload(leave)


def forget_session(blocks: gr.Blocks, session: str) -> None:
    """Drop gradio's state of a session, and the messages that nobody will fetch."""
    held, queue = blocks.state_holder, blocks._queue
    held.delete_state(session)
    held.session_data.pop(session, None)
    held.time_last_used.pop(session, None)
    if not is_answered(blocks, session):
        queue.pending_event_ids_session.pop(session, None)
        queue.pending_messages_per_session.pop(session, None)


def is_answered(blocks: gr.Blocks, session: str) -> bool:
    """Whether an event of the session runs or waits; gradio's own list of its events keeps also what nobody fetched."""
    queue = blocks._queue
    return any(event in queue.event_ids_to_events for event in list(queue.pending_event_ids_session.get(session, ())))


def _forget(page: Page, session: str, left: float) -> None:
    used: datetime | None = page.blocks.state_holder.time_last_used.get(session)
    if used is not None and used.timestamp() > left + SETTLING_S:
        return  # the connection only broke off: the page is there again
    page.uploads.forget(session)
    forget_session(page.blocks, session)
