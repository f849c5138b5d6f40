"""Handlers of the knowledge tab's conversation: what stays on the page when a question fails."""

from collections.abc import Iterator
from typing import Any, cast

import gradio as gr
import pytest

from app.chat.conversations import Source
from app.errors import EngineFailed
from app.knowledge.answer.answering import Answer
from app.knowledge.service import KnowledgeService
from tabs.knowledge.exchanges import Exchange, talk_sources
from tabs.knowledge.talk import send
from tabs.knowledge.widgets import draw
from tabs.shell.page import BROWSER_SECRET, Page, Visitor
from tests.fakes import FakeRegistry

LIN = Visitor("en", "lin", "session")  # type: ignore[arg-type]


class Failing:
    """A service whose answers fail."""

    def link(self, *_: Any) -> str:
        return ""

    def ask(self, *_: Any) -> Iterator[Answer]:
        raise EngineFailed
        yield


def test_a_question_that_fails_leaves_the_sources_of_the_answers_before() -> None:
    with gr.Blocks() as blocks, gr.Tab():
        _, widgets = draw(Page(blocks, None, gr.State(), gr.BrowserState({}, secret=BROWSER_SECRET)), FakeRegistry())
    source = Source("a.md", "", "4 bits", "", "", ())
    before = [Exchange("How many?", "course", "talk", "4 bits[1]", sources=(source,), whole=True)]
    shown: dict[Any, Any] = {}
    with pytest.raises(EngineFailed):
        for view in send(
            cast(KnowledgeService, Failing()), widgets, LIN, "And?", "course", before, False, "", None, 5, 0
        ):
            shown |= view
    assert shown[widgets.sources] == talk_sources(LIN, before) != LIN.text("knowledge.searching")
