"""Between the chatbot's value and the turns of a conversation."""

from typing import Any

import gradio as gr

from app.chat.conversations import Turn
from app.chat.service import Reply
from tabs.chat.bubbles import bubbles_of, note_of, turn_at, waiting_text
from tabs.shell.page import Visitor

EN = Visitor("en", "li", "session")
TURNS = [Turn("user", "hi"), Turn("assistant", "    indented\n  code", "3 tokens"), Turn("user", "<b>x</b>")]


def shown(bubbles: list[dict[str, Any]]) -> list[str]:
    """What gradio's browser is sent."""
    data = gr.Chatbot().postprocess(bubbles).model_dump()
    return [message["content"][0]["text"] for message in data]


def test_an_answer_keeps_its_blanks_and_a_question_is_no_markup() -> None:
    question, answer, _, marked = shown(bubbles_of(TURNS))
    assert (question, answer) == ('<div class="typed">hi</div>', "    indented\n  code")
    assert marked == '<div class="typed">&lt;b&gt;x&lt;/b&gt;</div>'


def test_a_bubble_is_of_its_turn_and_small_print_of_none() -> None:
    assert [turn_at(TURNS, place) for place in range(5)] == [0, 1, None, 2, 2]


def test_what_is_waited_for() -> None:
    assert waiting_text(EN, Reply("loading", model="m")) == "Loading m"
    assert waiting_text(EN, Reply("loading", model="m", loading=0.409)) == "Loading m: 40 %"
    assert waiting_text(EN, Reply("queued", queue_ahead=2)) == "2 requests before this one"
    assert waiting_text(EN, Reply("queued", queue_ahead=2, wait_s=7.6)) == "2 requests before this one, about 9 s"
    assert waiting_text(EN, Reply("queued")) == "One moment"


def test_the_note_under_an_answer() -> None:
    assert note_of(EN, Reply("writing", completion_tokens=1)) == "1 tokens"
    done = Reply("done", completion_tokens=5, tokens_per_second=12.34, finish_reason="length", dropped_turns=4)
    assert note_of(EN, done) == (
        "5 tokens · 12.3 tokens/s · cut at the longest length · the oldest 4 messages no longer fit and were left out"
    )
    unseen = Reply("done", completion_tokens=5, unseen_pictures=2)
    assert note_of(EN, unseen) == "5 tokens · this model cannot see pictures; earlier ones left out: 2"
    assert note_of(Visitor("zh", "li", "session"), unseen).endswith("这个模型看不了图片，之前的 2 张未参与回答")
