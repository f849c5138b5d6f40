"""Handlers of the story page: a stopped story ends twice, by the click and by the end of its events."""

from collections.abc import Sequence
from typing import Any

import gradio as gr
import pytest

from app.story.draft import draft_from
from tabs.shell.page import BROWSER_SECRET, Page, Visitor
from tabs.story.handlers import arrive, settle
from tabs.story.inputs import with_inputs
from tabs.story.screen import Written, busy
from tabs.story.tab import kept
from tabs.story.widgets import StoryWidgets, draw
from tests.fakes import FakeModel, FakeRegistry

LIN = Visitor("en", "lin", "session")
EMPTY = draft_from({})
BEFORE = EMPTY.replaced(0, 0, ("An older story.",))
INPUT = ("A lamp in the fog", "", 120, "en", "tiny", 0.8, 1)
AFTER = BEFORE.replaced(0, 1, ("A lamp burns.",))


@pytest.fixture(scope="module")
def widgets() -> StoryWidgets:
    with gr.Blocks() as blocks:
        page = Page(blocks, None, gr.State(), gr.BrowserState({}, secret=BROWSER_SECRET))
        return draw(page, FakeRegistry(FakeModel("tiny")), kept())


def page_after(widgets: StoryWidgets, ends: Sequence[tuple[Written | None, Any]]) -> dict[Any, Any]:
    """Component -> what its properties are once these ends have been answered, in this order."""
    page: dict[Any, Any] = {}
    for written, stored in ends:
        for component, update in settle(widgets, LIN, written, stored).items():
            properties = update if isinstance(update, dict) and "__type__" in update else {"value": update}
            page[component] = page.get(component, {}) | properties
    return page


@pytest.mark.parametrize(("before", "after"), [(EMPTY, EMPTY.replaced(0, 0, ("A lamp burns.",))), (BEFORE, AFTER)])
def test_both_ends_of_a_stopped_story_leave_the_same_page_in_whatever_order(
    widgets: StoryWidgets, before: Any, after: Any
) -> None:
    written = Written(after, "12 words")
    written.closed.set()
    written.stopped.set()
    stale, fresh = before.to_json(), after.to_json()
    once = page_after(widgets, [(written, stale)])
    assert once[widgets.undo]["interactive"] and once[widgets.write]["visible"] and not once[widgets.stop]["visible"]
    assert once[widgets.kept]["value"] == fresh and "stopped" in once[widgets.status]["value"]
    for second in [(None, stale), (None, fresh), (written, stale)]:  # it was sent before the first was heard of, or not
        assert page_after(widgets, [(written, stale), second]) == once


def test_what_was_typed_while_it_was_written_stays(widgets: StoryWidgets) -> None:
    begun, typed = (with_inputs(EMPTY, [*INPUT, *bible]) for bible in (("", "", "", ""), ("", "Mara", "", "One")))
    written = Written(begun.replaced(0, 0, ("A lamp burns.",)))
    written.closed.set()
    kept = draft_from(page_after(widgets, [(written, typed.to_json())])[widgets.kept]["value"])
    assert (kept.text, kept.bible.characters, kept.outline) == ("A lamp burns.", ("Mara",), "One")


def test_a_story_is_not_cleared_while_it_is_written(widgets: StoryWidgets) -> None:
    assert busy(widgets, LIN, Written(AFTER), AFTER)[widgets.clear] == gr.update(interactive=False)
    assert page_after(widgets, [(None, AFTER.to_json())])[widgets.clear]["interactive"]
    assert widgets.clear in widgets.view


def test_a_server_started_anew_gives_the_buttons_back(widgets: StoryWidgets) -> None:
    page = page_after(widgets, [(None, AFTER.to_json())])
    assert page[widgets.write]["visible"] and not page[widgets.stop]["visible"] and page[widgets.undo]["interactive"]


def test_an_arrival_draws_nothing_over_a_story_that_has_begun(widgets: StoryWidgets) -> None:
    assert arrive(widgets, LIN, None, None) == gr.skip()
    assert arrive(widgets, LIN, AFTER.to_json(), Written(AFTER)) == gr.skip()
    assert arrive(widgets, LIN, AFTER.to_json(), None)[widgets.write]["visible"]
