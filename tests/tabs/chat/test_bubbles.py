"""Between the chatbot's value and the turns of a conversation."""

from typing import Any

import gradio as gr

from app.chat.conversations import Turn
from app.chat.service import Reply
from tabs.chat.bubbles import bubbles_of, note_of, picture_tag, turns_of, waiting, waiting_text
from tabs.shell.page import Visitor

EN = Visitor("en", "li", "session")
TURNS = [Turn("user", "hi"), Turn("assistant", "    indented\n  code", "3 tokens"), Turn("user", "<b>x</b>")]


def through_gradio(bubbles: list[dict[str, Any]]) -> list[Any]:
    chatbot = gr.Chatbot()
    return list(chatbot.preprocess(chatbot.postprocess(bubbles)))


def test_turns_and_notes_survive_the_chatbot() -> None:
    assert turns_of(through_gradio(bubbles_of(TURNS))) == TURNS


def test_pictures_stand_before_the_words_and_come_back_with_them() -> None:
    for words in ("What is this?", "    indented\n\n<b>x</b>", ""):
        asked = [Turn("user", words, pictures=("aGk=", "eW8=")), Turn("assistant", picture_tag("aGk=") + "\n\nx")]
        assert turns_of(through_gradio(bubbles_of(asked))) == asked


def test_a_waiting_bubble_is_no_turn() -> None:
    assert turns_of(through_gradio([*bubbles_of(TURNS[:1]), waiting("One moment")])) == TURNS[:1]


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
